"""What the chat page shows before the first message."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QStackedWidget

from app.widgets import EmptyState


class Greeting(QStackedWidget):
    """Leads to a model while none is chosen, then to the first message."""

    models_requested = Signal()

    def __init__(self) -> None:
        super().__init__()
        self._invitation = EmptyState(
            "models",
            "Choose a model to chat with",
            "Pick one above, drop a GGUF file here, or shrink a checkpoint to fit this computer.",
            "Go to Models",
        )
        self._welcome = EmptyState(
            "chat",
            "What can I help with?",
            "The model runs on this computer. What you write stays here.",
        )
        self._invitation.activated.connect(self.models_requested)
        self.addWidget(self._invitation)
        self.addWidget(self._welcome)

    def set_has_model(self, has_model: bool) -> None:
        self.setCurrentWidget(self._welcome if has_model else self._invitation)
