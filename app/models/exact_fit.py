"""Asks the engine what one model takes here, to the byte, while its estimate is shown already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, Signal

if TYPE_CHECKING:
    from app.models.scan import Row
    from app.tasks import Task, Tasks
    from engine.fit.job import Fit, Fitted

SETTLE_MS = 400
"""While arrow keys run through the list, no worker is started for each row."""


class ExactFit(QObject):
    """One question at a time; `found` carries the row and the `Fitted`.

    A question that would be answered as the last one is not asked again: every look through the
    library shows the selected row anew.
    """

    found = Signal(object, object)

    def __init__(self, tasks: Tasks, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._tasks = tasks
        self._row: Row | None = None
        self._question: Task | None = None
        self._about: tuple[object, ...] = ()
        self._answer: Fitted | None = None
        self._settle = QTimer(self, singleShot=True, interval=SETTLE_MS)
        self._settle.timeout.connect(self._ask)

    def ask(self, row: Row | None) -> None:
        """Ask about `row` from now on, and no longer about another."""
        self._row = row if row and row.estimate else None
        about = _about(self._row) if self._row else ()
        if self._row and about == self._about:
            if self._answer:
                self.found.emit(self._row, self._answer)
            return
        self._about, self._answer = about, None
        self._settle.stop()
        question, self._question = self._question, None
        if question:
            question.cancel()
        if self._row:
            self._settle.start()

    def _ask(self) -> None:
        assert self._row
        self._question = self._tasks.ask(_job(self._row))
        # Not by `partial`: a bound method goes with its object, when the page goes.
        self._question.finished.connect(self._on_answered)

    def _on_answered(self) -> None:
        question = self._question
        if question and question is self.sender():
            self._question = None
            self._answer = question.result
            if self._answer:  # without one the estimate stays
                self.found.emit(self._row, self._answer)


def _job(row: Row) -> Fit:
    from engine.fit.job import Fit

    conditions = row.conditions
    return Fit(
        row.entry.path, n_ctx=conditions.n_ctx, is_capped=True, released=conditions.releasable
    )


def _about(row: Row) -> tuple[object, ...]:
    """What the answer depends on: of the memory that is free only what it means for the model."""
    fit, asked = row.verdict.fit, row.conditions
    return (row.entry, asked.n_ctx, asked.releasable, fit and fit.kind, fit and fit.run)
