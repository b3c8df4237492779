"""What the chat page shows before the first message."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QPushButton, QStackedWidget, QWidget

from app import theme
from app.chat.first_run import FirstRun
from app.widgets import EmptyState, SecondaryButton, row
from engine import starter

if TYPE_CHECKING:
    from engine.hardware import Computer

SUGGESTIONS = (starter.SAMPLE_QUESTION, "How do I shrink a model?", "Tell me a story")


class Greeting(QStackedWidget):
    """Leads to a model while none is chosen, then to the first message."""

    starter_requested = Signal()
    discover_requested = Signal()
    suggested = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._first_run = FirstRun()
        self._first_run.starter_button.clicked.connect(self.starter_requested)
        self._first_run.models_button.clicked.connect(self.discover_requested)
        self._welcome = EmptyState(
            "chat",
            "What can I help with?",
            "The model runs on this computer. What you write stays here.",
        )
        self.addWidget(self._first_run)
        self.addWidget(self._welcome)
        self._toy: QWidget | None = None

    def show_model(self, path: str) -> None:
        """`path` is the model that will answer, or empty."""
        if not path:
            self.setCurrentWidget(self._first_run)
        elif path == str(starter.MODEL):
            self.setCurrentWidget(self._toy or self._build_toy())
        else:
            self.setCurrentWidget(self._welcome)

    def show_computer(self, computer: Computer) -> None:
        self._first_run.show_computer(computer)

    def _build_toy(self) -> QWidget:
        """The starter's welcome: what it is, and what it can be asked."""
        welcome = EmptyState(
            "chat",
            "Ask the starter",
            "A toy that knows Snug's help, small talk and tiny stories. For anything else, add a"
            " real model on the Models page.",
        )
        welcome.below.addLayout(row(None, *map(self._suggestion, SUGGESTIONS), None))
        welcome.below.setContentsMargins(0, theme.SPACE_16, 0, 0)
        self._toy = welcome
        self.addWidget(welcome)
        return welcome

    def _suggestion(self, words: str) -> QPushButton:
        button = SecondaryButton(words)
        button.clicked.connect(lambda: self.suggested.emit(words))
        return button
