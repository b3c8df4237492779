"""One thing to download of a model: what it is in a word, its type, its size, and the button."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QObject, Signal
from PySide6.QtGui import QMouseEvent
from PySide6.QtWidgets import QWidget

from app import icons, theme
from app.discover.found import fits, judge_size
from app.tasks import Task, TaskState
from app.widgets import Badge, PrimaryButton, SecondaryButton, Tone, column, row, second, strong
from engine.hub.here import Here
from engine.hub.repo import Variant
from engine.words import format_bytes, format_bytes_exact, format_percent

if TYPE_CHECKING:
    from engine.fit.verdict import Kind

_FITS: dict[Kind, tuple[str, Tone]] = {
    "gpu": ("Fits", "good"),
    "cpu": ("Fits", "good"),
    "partly": ("Fits in part", "caution"),
    "not": ("Too large", "bad"),
}
"""The badge for an exact verdict, in place of the estimate's."""
_HERE: tuple[str, Tone] = ("On this computer", "accent")
_OLDER: tuple[str, Tone] = ("Newer version on the hub", "caution")
_OLDER_HINT = "To get it, remove the one on this computer on the Models page, and download again."
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
    """`clicked` asks for what its button says; `chosen` for what the variant takes here."""

    clicked = Signal()
    chosen = Signal()

    def __init__(self, variant: Variant, usable_bytes: int, *, is_best: bool) -> None:
        """`is_best` marks the one that Snug would take."""
        super().__init__()
        self.variant = variant
        self.here: Here | None = None
        self.task: Task | None = None
        self._fit: tuple[str, Tone] = judge_size(variant.size_bytes, usable_bytes)
        self._shown: tuple[str, list[str], tuple[str, Tone]] | None = None
        self._ink = "on_accent" if is_best else "text"
        word, meaning = in_words(variant.label)
        self._title = strong(word)
        exact = f"{variant.label}, {format_bytes_exact(variant.size_bytes)}"
        to_do = "Click to see what it takes here" if variant.format == "gguf" else ""
        self.setToolTip("\n".join(line for line in (exact, meaning, to_do) if line))
        self._facts = second("")
        self._badge = Badge("")
        self.verdict = second("")
        self.verdict.hide()
        self.button = (PrimaryButton if is_best else SecondaryButton)("")
        self.button.clicked.connect(self.clicked)
        self.button.installEventFilter(self)
        left = column(row(self._title, self._badge, None), self._facts, spacing=2)
        box = row(left, self.button)
        box.setStretch(0, 1)
        self.setLayout(column(box, self.verdict, spacing=theme.SPACE_4))
        self._refresh()

    def show_here(self, here: Here | None) -> None:
        """Show what of it is on this disk, as far as no task is busy with it."""
        self.here = here
        if self.task and self.task.is_over:
            self.task = None
        self._refresh()

    def follow(self, task: Task) -> None:
        """Show how far the download is."""
        if task is not self.task:
            self.task = task
            task.changed.connect(partial(self._on_task_changed, task))
            self._refresh()

    def show_fit(self, words: str, kind: Kind | None = None) -> None:
        """Show what it takes here, exactly; `kind` is the verdict's."""
        self.verdict.setText(words)
        self.verdict.setVisible(bool(words))
        self.button.setAccessibleDescription(words)
        if kind:
            self._fit = _FITS[kind]
            self._refresh()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        super().mousePressEvent(event)
        self.chosen.emit()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.FocusIn:
            self.chosen.emit()
        return super().eventFilter(watched, event)

    def _on_task_changed(self, task: Task) -> None:
        if task is not self.task:  # another one has taken its place
            return
        if task.state == TaskState.SUCCEEDED:
            self.here = Here(task.result.path)
        self._refresh()

    def _refresh(self) -> None:
        words, icon = self._action()
        facts = [self.variant.label, format_bytes(self.variant.size_bytes)]
        here, badge = self.here, self._fit
        if here and here.path:
            badge = _HERE if here.is_current else _OLDER
        elif here and here.note and not self.task:
            facts.append(f"{format_bytes(here.size_bytes)} of it here")
        task = self.task
        if task and task.state in (TaskState.RUNNING, TaskState.PAUSED):
            done = task.pace.fraction
            facts.append("Downloading" if done is None else format_percent(done))
        if task and task.error:
            self.verdict.setText(" ".join(filter(None, (task.error.message, task.error.hint))))
            self.verdict.show()
        self.button.setEnabled(not (task and (task.is_cancelling or task.is_pausing)))
        if (words, facts, badge) == self._shown:  # it is told ten times a second
            return
        self._shown = (words, facts, badge)
        self.button.setText(words)
        self.button.setIcon(icons.icon(icon, self._ink))
        self.button.setAccessibleName(f"{words} {self.variant.label}")
        self._facts.setText(" · ".join(facts))
        self._badge.set(*badge)
        self._badge.setVisible(bool(badge[0]))
        self._badge.setToolTip(_OLDER_HINT if here and not here.is_current else "")

    def _action(self) -> tuple[str, str]:
        """What the button says, and its icon."""
        task, here = self.task, self.here
        if task is None or task.state == TaskState.SUCCEEDED:
            if here and here.path:
                is_gguf = self.variant.format == "gguf"
                return ("Chat", "chat") if is_gguf else ("Shrink", "shrink")
            return ("Resume", "play") if here else ("Download", "download")
        if task.state == TaskState.RUNNING:
            if task.is_cancelling:
                return "Stopping", "download"
            if task.is_pausing:
                return "Pausing", "download"
            return "Pause", "pause"
        return {
            TaskState.QUEUED: ("Pause", "pause"),
            TaskState.PAUSED: ("Resume", "play"),
            TaskState.CANCELLED: ("Resume", "play"),
            TaskState.FAILED: ("Try again", "regenerate"),
        }[task.state]
