"""The place above the composer where the chat page says what went wrong."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtWidgets import QVBoxLayout

from app import theme
from app.problems import ProblemCard
from engine.errors import EngineError


class ProblemPlace(QVBoxLayout):
    """Holds one card or none: what is told last takes the place of what was told before."""

    def __init__(self, forget: Callable[[], None]) -> None:
        """`forget` is called when the card is dismissed."""
        super().__init__()
        self.setContentsMargins(0, 0, 0, theme.SPACE_8)
        self.card: ProblemCard | None = None
        self._forget = forget

    def show_problem(
        self,
        error: EngineError,
        *actions: tuple[str, Callable[[], None]],
    ) -> None:
        """`actions` are at most two buttons: their words, and what they do."""
        self.clear()
        self.card = ProblemCard(error, *(words for words, _ in actions))
        signals = (self.card.action, self.card.other_action)
        for signal, (_, action) in zip(signals, actions, strict=False):
            signal.connect(action)
        self.card.dismissed.connect(self._on_dismissed)
        self.addWidget(self.card)
        self.card.show()

    def clear(self) -> None:
        card, self.card = self.card, None
        if card:
            self.removeWidget(card)
            card.hide()
            card.deleteLater()

    def _on_dismissed(self) -> None:
        self._forget()
        self.clear()
