"""Quiet lines about what interrupted jobs left behind: it can go on, or be discarded."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from app import theme
from app.background import in_background
from app.widgets import QuietButton, body, row
from engine.convert.job import Convert
from engine.errors import EngineError
from engine.hub.download import Download
from engine.leftovers import Leftover, discard
from engine.quantize.shrink import Shrink
from engine.words import format_bytes, plural

KINDS = {Download: "download", Shrink: "shrink", Convert: "conversion"}


class LeftoverStrip(QWidget):
    """`resumed` carries the `Leftover` that is to go on."""

    resumed = Signal(object)
    discarded = Signal()
    failed = Signal(EngineError)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._box = QVBoxLayout(self)
        self._box.setContentsMargins(0, 0, 0, 0)
        self._box.setSpacing(theme.SPACE_4)
        self.lines: list[LeftoverLine] = []
        self.hide()

    def show_leftovers(self, leftovers: tuple[Leftover, ...]) -> None:
        for old in self.lines:
            self._box.removeWidget(old)
            old.hide()
            old.deleteLater()
        files = tuple(leftover for leftover in leftovers if leftover.job is None)
        jobs = [(leftover,) for leftover in leftovers if leftover.job]
        self.lines = [LeftoverLine(group) for group in (*jobs, *([files] if files else []))]
        for line in self.lines:
            line.discard_button.clicked.connect(partial(self._discard, line))
            line.resume_button.clicked.connect(partial(self.resumed.emit, line.leftovers[0]))
            self._box.addWidget(line)
        self.setVisible(bool(leftovers))

    def _discard(self, line: LeftoverLine) -> None:
        line.setEnabled(False)
        work = partial(discard, line.leftovers)
        in_background(self, work, lambda _: self.discarded.emit(), self._on_failed)

    def _on_failed(self, error: EngineError) -> None:
        self.failed.emit(error)
        self.discarded.emit()


class LeftoverLine(QWidget):
    """What one job goes on with, or all files that nothing can go on with."""

    def __init__(self, leftovers: tuple[Leftover, ...]) -> None:
        super().__init__()
        self.leftovers = leftovers
        self.words = body(_words(leftovers))
        names = "\n".join(leftover.path for leftover in leftovers)
        self.words.setToolTip(names)
        self.resume_button = QuietButton("Resume", "play")
        if leftovers[0].job is None:
            self.resume_button.hide()
        self.discard_button = QuietButton("Discard", "trash")
        self.discard_button.setToolTip(f"Delete for good:\n{names}")
        box = row(self.words, self.resume_button, self.discard_button)
        box.setStretch(0, 1)
        self.setLayout(box)


def _words(leftovers: tuple[Leftover, ...]) -> str:
    size = format_bytes(sum(leftover.size_bytes for leftover in leftovers))
    first = leftovers[0]
    if first.job:
        kind = KINDS[type(first.job)]
        return f"Unfinished {kind}: {first.title}, {size} of {format_bytes(first.total_bytes)}."
    number = plural(len(leftovers), "unfinished file")
    verb = "takes" if len(leftovers) == 1 else "take"
    return f"{number} of an interrupted job {verb} {size}."
