"""One thing to download of a model: what it is in a word, its type, its size, and the button."""

from __future__ import annotations

import re
from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from app.discover.found import fits, judge_size
from app.tasks import Task, TaskState
from app.widgets import Badge, PrimaryButton, SecondaryButton, column, row, second, strong
from engine.hub.repo import Variant
from engine.words import format_bytes, format_bytes_exact, format_percent

_WIDTHS = (
    (r"(UD-)?(IQ[1-3]|Q[23]|TQ)", "Small", "Saves memory, costs quality"),
    (r"(UD-)?(IQ4|Q4)|MXFP4|NVFP4", "Balanced", "Four bits: what most people take"),
    (r"(UD-)?Q[568]", "Large", "Hardly to be told from the original"),
    (r"BF16|F16|F32", "Original", "Not shrunk; a source for shrinking too"),
    (r"Checkpoint", "Original", "To be shrunk here before it can chat"),
)


def in_words(label: str) -> tuple[str, str]:
    """A word for a type such as Q4_K_M, and what it means."""
    for pattern, word, meaning in _WIDTHS:
        if re.match(pattern, label):
            return word, meaning
    return label, ""


def best(variants: Sequence[Variant], usable_bytes: int) -> Variant | None:
    """The widest quantized one that fits, as `recommend` would have it."""
    fitting = [
        variant
        for variant in variants
        if in_words(variant.label)[0] != "Original" and fits(variant.size_bytes, usable_bytes)
    ]
    return max(fitting, key=lambda variant: variant.size_bytes, default=None)


class VariantRow(QWidget):
    download_clicked = Signal(object)
    opened = Signal(str)
    """The path of what was downloaded is to be used."""

    def __init__(self, variant: Variant, usable_bytes: int, *, is_best: bool) -> None:
        """`is_best` marks the one that Snug would take."""
        super().__init__()
        self.variant = variant
        self._task: Task | None = None
        word, meaning = in_words(variant.label)
        badge, tone = judge_size(variant.size_bytes, usable_bytes)
        self._title = strong(word)
        exact = f"{variant.label}, {format_bytes_exact(variant.size_bytes)}"
        self.setToolTip(f"{exact}\n{meaning}".strip())
        self._facts = second(f"{variant.label} · {format_bytes(variant.size_bytes)}")
        self._badge = Badge(badge, tone)
        kind = PrimaryButton if is_best else SecondaryButton
        self.button = kind("Download", "download")
        self.button.setAccessibleName(f"Download {variant.label}")
        self.button.clicked.connect(self._on_clicked)
        left = column(row(self._title, self._badge, None), self._facts, spacing=2)
        box = row(left, self.button)
        box.setStretch(0, 1)
        self.setLayout(box)

    def follow(self, task: Task) -> None:
        """Show how far the download is."""
        self._task = task
        task.changed.connect(self._on_changed)
        self._on_changed()

    def _on_clicked(self) -> None:
        if self._task and self._task.state == TaskState.SUCCEEDED:
            self.opened.emit(self._task.result.path)
        else:
            self.download_clicked.emit(self.variant)

    def _on_changed(self) -> None:
        assert self._task
        task, use = self._task, "Chat" if self.variant.format == "gguf" else "Shrink"
        words = {
            TaskState.QUEUED: "Waiting",
            TaskState.RUNNING: "Stopping" if task.is_cancelling else "Downloading",
            TaskState.SUCCEEDED: use,
            TaskState.CANCELLED: "Resume",
            TaskState.FAILED: "Try again",
        }[task.state]
        if task.state == TaskState.RUNNING and task.pace.fraction is not None:
            words = format_percent(task.pace.fraction)
        self.button.setText(words)
        self.button.setAccessibleName(f"{words}: {self.variant.label}")
        self.button.setEnabled(task.is_over)
