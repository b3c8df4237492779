"""A block of code: its language, a copy button, its colours; it scrolls sideways."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import (
    QFont,
    QGuiApplication,
    QSyntaxHighlighter,
    QTextCharFormat,
    QTextCursor,
    QTextDocument,
    QWheelEvent,
)
from PySide6.QtWidgets import QFrame, QPlainTextEdit, QVBoxLayout, QWidget

from app import theme
from app.chat.markdown import Code
from app.widgets import IconButton, row, second

MAX_COLOURED_CHARS = 60_000
COLOUR_MS = 250
COPIED_MS = 1500


class CodeView(QFrame):
    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "card-raised")
        self._block = Code("", "", True)
        self._language = second("")
        self.copy_button = CopyButton("Copy code", lambda: self._block.text)
        self._text = _CodeText()
        self._colours = _Colours(self._text.document())
        # Colouring looks at the whole text, so while it streams it happens now and then only.
        self._colouring = QTimer(self, singleShot=True, interval=COLOUR_MS)
        self._colouring.timeout.connect(self._colour)
        theme.appearance().changed.connect(self._colour)
        head = row(self._language, None, self.copy_button)
        head.setContentsMargins(theme.SPACE_8, theme.SPACE_4, 0, 0)
        box = QVBoxLayout(self)
        box.setContentsMargins(theme.SPACE_4, 0, theme.SPACE_4, theme.SPACE_4)
        box.setSpacing(0)
        box.addLayout(head)
        box.addWidget(self._text)

    def show_block(self, block: Code) -> None:
        was, self._block = self._block, block
        self._language.setText(block.language or "text")
        self._text.setAccessibleName(f"Code, {block.language or 'text'}")
        if block.text.startswith(was.text):
            self._text.append_text(block.text[len(was.text) :])
        else:
            self._text.setPlainText(block.text)
        if block.is_closed:
            self._colour()
        elif not self._colouring.isActive():
            self._colouring.start()

    def _colour(self) -> None:
        self._colouring.stop()
        if self._block.language and len(self._block.text) <= MAX_COLOURED_CHARS:
            started = time.perf_counter()
            self._colours.colour(self._block.language, self._block.text)
            cost_ms = (time.perf_counter() - started) * 1000
            self._colouring.setInterval(max(COLOUR_MS, round(20 * cost_ms)))


class CopyButton(IconButton):
    """Copies what `text` gives when clicked, and says so for a moment."""

    def __init__(self, name: str, text: Callable[[], str]) -> None:
        super().__init__("copy", name, size_px=28)
        self._name = name
        self._copied = QTimer(self, singleShot=True, interval=COPIED_MS)
        self._copied.timeout.connect(lambda: self.set_icon("copy", self._name))
        self.clicked.connect(lambda: self._copy(text()))

    def _copy(self, text: str) -> None:
        QGuiApplication.clipboard().setText(text)
        self.set_icon("check", "Copied")
        self._copied.start()


class _CodeText(QPlainTextEdit):
    """Read-only code, as tall as its lines."""

    def __init__(self) -> None:
        super().__init__()
        self.setProperty("role", "code")
        self.setReadOnly(True)
        self.setUndoRedoEnabled(False)
        self.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.document().setDocumentMargin(0)
        font = self.font()
        font.setFeature(QFont.Tag("calt"), 0)  # "<=" is two characters, also to the eye
        self.setFont(font)
        self.blockCountChanged.connect(self._fit)
        self.horizontalScrollBar().rangeChanged.connect(self._fit)

    def append_text(self, text: str) -> None:
        """Add at the end; a selection elsewhere stays."""
        if text:
            cursor = QTextCursor(self.document())
            cursor.movePosition(QTextCursor.MoveOperation.End)
            cursor.insertText(text)

    def changeEvent(self, event: Any) -> None:
        super().changeEvent(event)
        if event.type() in (event.Type.FontChange, event.Type.StyleChange):
            self._fit()

    def wheelEvent(self, event: QWheelEvent) -> None:
        sideways = abs(event.angleDelta().x()) > abs(event.angleDelta().y())
        if sideways or event.modifiers() & Qt.KeyboardModifier.ShiftModifier:
            super().wheelEvent(event)
        else:
            event.ignore()

    def _fit(self) -> None:
        bar = self.horizontalScrollBar()
        bar_px = bar.sizeHint().height() if bar.maximum() > 0 else 0
        lines_px = self.fontMetrics().lineSpacing() * self.blockCount()
        padding_px = 2 * theme.SPACE_8  # of the role "code"
        self.setFixedHeight(lines_px + padding_px + bar_px + 2)


class _Colours(QSyntaxHighlighter):
    """Paints what Pygments found: spans (start, length, token of the theme) of each line."""

    def __init__(self, document: QTextDocument) -> None:
        super().__init__(document)
        self._spans: list[list[tuple[int, int, str]]] = []

    def colour(self, language: str, text: str) -> None:
        self._spans = spans_of(language, text)
        self.rehighlight()

    def highlightBlock(self, text: str) -> None:
        number = self.currentBlock().blockNumber()
        if number >= len(self._spans):
            return
        colours = theme.current().code
        for start, length, name in self._spans[number]:
            shape = QTextCharFormat()
            shape.setForeground(theme.current().colour(getattr(colours, name)))
            self.setFormat(start, length, shape)


def spans_of(language: str, text: str) -> list[list[tuple[int, int, str]]]:
    """Find the coloured spans of each line; none for a language Pygments does not know."""
    from pygments.lexers import get_lexer_by_name
    from pygments.token import Comment, Keyword, Name, Number, String
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:
        return []
    kinds = (
        (Comment, "comment"),
        (Keyword, "keyword"),
        (Name.Builtin, "type"),
        (Name.Class, "type"),
        (Name.Function, "function"),
        (Name.Tag, "keyword"),
        (Name.Attribute, "function"),
        (String, "string"),
        (Number, "number"),
    )
    lines: list[list[tuple[int, int, str]]] = [[]]
    column = 0
    for token, value in lexer.get_tokens(text):
        name = next((name for kind, name in kinds if kind in token.split()), "")
        for position, part in enumerate(value.split("\n")):
            if position:
                lines.append([])
                column = 0
            length = len(part.encode("utf-16-le")) // 2  # Qt counts in UTF-16
            if name and length:
                lines[-1].append((column, length, name))
            column += length
    return lines
