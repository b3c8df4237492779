"""Where a message is written: grows with its text; one button sends, or stops the answer."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPlainTextEdit, QWidget

from app import icons, theme
from app.widgets import IconButton

MAX_LINES = 8


class Composer(QFrame):
    """Enter sends, Shift+Enter breaks the line, Esc stops."""

    sent = Signal(str)
    stopped = Signal()
    edited = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "composer")
        self._can_send = False
        self._stops = False
        self.text = QPlainTextEdit()
        self.text.setAccessibleName("Message")
        self.text.setPlaceholderText("Write a message…")
        self.text.setTabChangesFocus(True)
        self.text.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.text.setFrameShape(QFrame.Shape.NoFrame)
        self.text.document().setDocumentMargin(0)
        self.text.installEventFilter(self)
        self.text.textChanged.connect(self._on_text_changed)
        self.text.document().documentLayout().documentSizeChanged.connect(self._fit)
        self.button = IconButton("send", "Send", size_px=theme.CONTROL_HEIGHT, is_primary=True)
        self.button.clicked.connect(self._on_clicked)
        box = QHBoxLayout(self)
        box.setContentsMargins(theme.SPACE_16, theme.SPACE_8, theme.SPACE_8, theme.SPACE_8)
        box.setSpacing(theme.SPACE_8)
        box.addWidget(self.text, 1, Qt.AlignmentFlag.AlignVCenter)
        box.addWidget(self.button, 0, Qt.AlignmentFlag.AlignBottom)
        self.setFocusProxy(self.text)
        self._fit()
        self._dress()

    def set_state(self, can_send: bool, stops: bool) -> None:
        """`stops`: the button stops the answer; Enter may still send a message that waits."""
        self._can_send, self._stops = can_send, stops
        self._dress()

    def set_text(self, text: str) -> None:
        """Put `text` in and the cursor at its end."""
        self.text.setPlainText(text)
        self.text.moveCursor(self.text.textCursor().MoveOperation.End)

    def take(self) -> None:
        """Empty the field: its text has been saved as a message."""
        self.text.clear()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() in (QEvent.Type.FocusIn, QEvent.Type.FocusOut):
            self.setProperty("active", event.type() == QEvent.Type.FocusIn)
            self.style().unpolish(self)
            self.style().polish(self)
        elif event.type() == QEvent.Type.KeyPress and isinstance(event, QKeyEvent):
            return self._on_key(event)
        elif event.type() in (QEvent.Type.FontChange, QEvent.Type.Resize):
            self._fit()
        return False

    def _on_key(self, event: QKeyEvent) -> bool:
        is_enter = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if is_enter and not event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            self._send()
            return True
        if event.key() == Qt.Key.Key_Escape and self._stops:
            self.stopped.emit()
            return True
        return False

    def _on_clicked(self) -> None:
        if self._stops:
            self.stopped.emit()
        else:
            self._send()

    def _send(self) -> None:
        text = self.text.toPlainText().strip()
        if text and self._can_send:
            self.sent.emit(text)

    def _on_text_changed(self) -> None:
        self._dress()
        self.edited.emit()

    def _dress(self) -> None:
        if self._stops:
            self.button.set_icon("stop", "Stop", "Esc")
        else:
            self.button.set_icon("send", "Send", "Enter")
        has_text = bool(self.text.toPlainText().strip())
        self.button.setEnabled(self._stops or (self._can_send and has_text))
        if not self.button.isEnabled():
            self.button.setIcon(icons.icon("send", "text"))  # its own colour is for the accent

    def _fit(self) -> None:
        line_px = self.text.fontMetrics().lineSpacing()
        # A QPlainTextEdit measures its document in lines.
        lines = min(MAX_LINES, max(1, round(self.text.document().size().height())))
        self.text.setFixedHeight(lines * line_px + 4)
        is_long = self.text.document().size().height() > MAX_LINES
        policy = Qt.ScrollBarPolicy
        self.text.setVerticalScrollBarPolicy(
            policy.ScrollBarAsNeeded if is_long else policy.ScrollBarAlwaysOff
        )
