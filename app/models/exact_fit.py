"""Asks the engine what one model takes here, to the byte, while its estimate is shown already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, Signal

from engine.fit.job import Fit

if TYPE_CHECKING:
    from app.models.scan import Row
    from app.tasks import Task, Tasks

SETTLE_MS = 400
"""While arrow keys run through the list, no worker is started for each row."""


class ExactFit(QObject):
    """One question at a time; `found` carries the row and the `Fitted`."""

    found = Signal(object, object)

    def __init__(self, tasks: Tasks, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._tasks = tasks
        self._row: Row | None = None
        self._question: Task | None = None
        self._settle = QTimer(self, singleShot=True, interval=SETTLE_MS)
        self._settle.timeout.connect(self._ask)

    def ask(self, row: Row | None) -> None:
        """Ask about `row` from now on, and no longer about another."""
        self._settle.stop()
        question, self._question = self._question, None
        if question:
            question.cancel()
        self._row = row if row and row.estimate else None
        if self._row:
            self._settle.start()

    def _ask(self) -> None:
        assert self._row
        conditions = self._row.conditions
        job = Fit(
            self._row.entry.path,
            n_ctx=conditions.n_ctx,
            is_capped=True,
            released=conditions.releasable,
        )
        self._question = self._tasks.ask(job)
        # Not by `partial`: a bound method goes with its object, when the page goes.
        self._question.finished.connect(self._on_answered)

    def _on_answered(self) -> None:
        question = self._question
        if question and question is self.sender():
            self._question = None
            if question.result:  # without one the estimate stays
                self.found.emit(self._row, question.result)
