"""The foot of the chat page: how full the context is, how fast tokens come."""

from __future__ import annotations

import time
from collections.abc import Callable

from PySide6.QtWidgets import QWidget

from app import theme
from app.chat.session import Session, State
from app.widgets import ProgressBar, row, second
from engine.words import format_percent, format_speed

SHOWN_S = 0.25
"""The figures of a stream change no more often than this: a faster number is not read."""
CONTEXT_PX = 84
NEARLY_FULL = 0.85


class Footer(QWidget):
    def __init__(
        self, session: Session, context_used: Callable[[], int], parent: QWidget | None = None
    ) -> None:
        """`context_used` tells the tokens of the conversation on screen, 0 while not counted."""
        super().__init__(parent)
        self._session = session
        self._context_used = context_used
        self._shown_at = 0.0
        self._context = second("")
        self._context.setWordWrap(False)
        self._context.setMinimumWidth(CONTEXT_PX)  # the bar stands still while the figure grows
        self._bar = ProgressBar("Context in use")
        self._bar.setFixedSize(96, 4)
        self._note = second("")
        self._note.setWordWrap(False)
        self._speed = second("")
        self._speed.setWordWrap(False)
        line = row(self._context, self._bar, theme.SPACE_8, self._note, None, self._speed)
        line.setContentsMargins(theme.SPACE_16, 0, theme.SPACE_16, 0)
        self.setLayout(line)
        self.setFixedHeight(theme.SPACE_24)
        session.answer_grew.connect(self._on_grown)

    def _on_grown(self) -> None:
        if time.monotonic() - self._shown_at > SHOWN_S:
            self.refresh()

    def refresh(self) -> None:
        self._shown_at = time.monotonic()
        session = self._session
        info = session.info
        used = self._context_used()
        is_known = info is not None and used > 0
        self._context.setVisible(is_known)
        self._bar.setVisible(is_known)
        self._note.setText("")
        if info:
            fraction = used / max(1, info.n_ctx)
            self._context.setText(f"context {format_percent(fraction)}")
            self._context.setToolTip(f"{used:,} of {info.n_ctx:,} tokens")
            self._bar.set_fraction(fraction)
            self._bar.set_colour("caution" if fraction > NEARLY_FULL else "accent")
            if fraction > NEARLY_FULL:
                self._note.setText("nearly full: a new chat starts with room")
            elif not info.has_chat_template:
                self._note.setText("This model has no chat template: it continues your text")
        speed = session.tokens_per_second
        is_fast = session.state in (State.GENERATING, State.STOPPING) and speed > 0
        self._speed.setText(format_speed(speed, "tokens") if is_fast else "")
