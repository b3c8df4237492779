"""Asks what the variant that is chosen takes here: exactly, from its header on the hub."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import QObject, QTimer

from app.context import AppContext
from app.discover.variant_row import VariantRow
from app.tasks import Task, TaskState
from engine.fit.job import Fit

WAIT_MS = 300
"""Who walks through the rows does not ask about each of them."""


class FitCheck(QObject):
    """One question at a time. Where there is no answer the estimate stands, without a word."""

    def __init__(self, context: AppContext, parent: QObject) -> None:
        super().__init__(parent)
        self._context = context
        self._row: VariantRow | None = None
        self._repo_id = ""
        self.question: Task | None = None
        self._timer = QTimer(self, singleShot=True, interval=WAIT_MS)
        self._timer.timeout.connect(self._ask)

    def choose(self, row: VariantRow | None, repo_id: str = "") -> None:
        """Show what `row` takes, and no longer what another one does."""
        if row is self._row:
            return
        self._timer.stop()
        if self.question:
            self.question.cancel()
        if self._row:
            self._row.show_fit("")
        self._row, self._repo_id, self.question = row, repo_id, None
        if row and row.variant.format == "gguf":
            row.show_fit("Checking what it takes")
            self._timer.start()

    def _ask(self) -> None:
        assert self._row
        here, value = self._row.here, self._context.settings.value
        name = f"{self._repo_id}:{self._row.variant.main_file.name}"
        model = here.path if here and here.path else name
        self.question = self._context.tasks.ask(
            Fit(
                model,
                n_ctx=value.n_ctx,
                is_offline=value.is_offline,
                is_capped=True,
                released=self._context.computer.releasable,
            )
        )
        self.question.finished.connect(partial(self._on_answered, self.question))

    def _on_answered(self, question: Task) -> None:
        if question is not self.question or not self._row:  # another one was chosen meanwhile
            return
        self.question = None
        if question.state == TaskState.SUCCEEDED:
            self._row.show_fit(question.result.sentence, question.result.verdict)
        else:
            self._row.show_fit("")
