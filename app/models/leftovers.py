"""Quiet lines about what interrupted jobs left behind: it can go on, or be discarded."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from app import theme
from app.background import in_background
from app.context import AppContext
from app.widgets import Card, QuietButton, body, row
from engine.errors import EngineError
from engine.words import format_bytes, plural

if TYPE_CHECKING:
    from engine.leftovers import Leftover


class LeftoverStrip(Card):
    discarded = Signal()
    failed = Signal(EngineError)

    def __init__(self, context: AppContext, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self._context = context
        self._shown: tuple[Leftover, ...] = ()
        self.body.setContentsMargins(
            theme.CARD_PADDING, theme.SPACE_8, theme.SPACE_8, theme.SPACE_8
        )
        self.body.setSpacing(theme.SPACE_4)
        self.lines: list[LeftoverLine] = []
        self.hide()

    def show_leftovers(self, leftovers: tuple[Leftover, ...]) -> None:
        """Show those of `leftovers` that no job has in hand."""
        left = tuple(leftover for leftover in leftovers if not self._is_in_hand(leftover))
        if left != self._shown:
            self._shown = left
            self._build_lines(left)
        self.setVisible(bool(left))

    def _is_in_hand(self, leftover: Leftover) -> bool:
        from app.unfinished import task_of

        return task_of(self._context.tasks, leftover) is not None

    def _build_lines(self, leftovers: tuple[Leftover, ...]) -> None:
        for old in self.lines:
            self.body.removeWidget(old)
            old.hide()
            old.deleteLater()
        files = tuple(leftover for leftover in leftovers if leftover.job is None)
        jobs = [(leftover,) for leftover in leftovers if leftover.job]
        self.lines = [LeftoverLine(group) for group in (*jobs, *([files] if files else []))]
        for line in self.lines:
            line.discard_button.clicked.connect(partial(self._discard, line))
            line.resume_button.clicked.connect(partial(self._resume, line.leftovers[0]))
            self.body.addWidget(line)

    def _resume(self, leftover: Leftover) -> None:
        from app.unfinished import resume

        try:
            resume(self._context, leftover)
            self.hide()
        except EngineError as error:
            self.failed.emit(error)

    def _discard(self, line: LeftoverLine) -> None:
        from engine.leftovers import discard

        line.setEnabled(False)
        work = partial(discard, line.leftovers)
        in_background(
            self, work, lambda _: self.discarded.emit(), partial(self._on_not_discarded, line)
        )

    def _on_not_discarded(self, line: LeftoverLine, error: EngineError) -> None:
        line.setEnabled(True)
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
        whole = f" of {format_bytes(first.total_bytes)}" if first.total_bytes else ""
        return f"Unfinished {_kind(first)}: {first.title}, {size}{whole}."
    number = plural(len(leftovers), "unfinished file")
    verb = "takes" if len(leftovers) == 1 else "take"
    return f"{number} of an interrupted job {verb} {size}."


def _kind(leftover: Leftover) -> str:
    from engine.convert.job import Convert
    from engine.hub.download import Download

    match leftover.job:
        case Download():
            return "download"
        case Convert():
            return "conversion"
    return "shrink"
