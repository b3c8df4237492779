"""Text: label makers by role, a line that elides, a picture, a badge."""

from __future__ import annotations

from typing import Literal

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import QLabel, QSizePolicy, QWidget

from app import icons

Tone = Literal["good", "caution", "bad", "neutral", "accent"]


def _label(text: str, role: str, wraps: bool) -> QLabel:
    label = QLabel(text)
    label.setProperty("role", role)
    label.setWordWrap(wraps)
    label.setTextFormat(Qt.TextFormat.PlainText)
    return label


def title(text: str) -> QLabel:
    return _label(text, "title", wraps=False)


def section(text: str) -> QLabel:
    return _label(text, "section", wraps=False)


def body(text: str) -> QLabel:
    return _label(text, "body", wraps=True)


def strong(text: str) -> QLabel:
    return _label(text, "strong", wraps=False)


def second(text: str) -> QLabel:
    return _label(text, "second", wraps=True)


def number(text: str) -> QLabel:
    """The one big number of a page."""
    return _label(text, "number", wraps=False)


def mono(text: str) -> QLabel:
    return _label(text, "mono", wraps=True)


class ElidedLabel(QLabel):
    """One line that ends in "..." where there is no room; the whole text is then its tooltip."""

    def __init__(
        self,
        text: str = "",
        role: str = "body",
        mode: Qt.TextElideMode = Qt.TextElideMode.ElideRight,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(text, parent)
        self.setProperty("role", role)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self._mode = mode
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)

    def minimumSizeHint(self) -> QSize:
        return QSize(24, super().minimumSizeHint().height())

    def _shown(self) -> str:
        return self.fontMetrics().elidedText(self.text(), self._mode, self.width())

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self.setToolTip(self.text() if self._shown() != self.text() else "")

    def paintEvent(self, _event: QPaintEvent) -> None:
        painter = QPainter(self)
        self.style().drawItemText(
            painter,
            self.contentsRect(),
            int(self.alignment().value),
            self.palette(),
            self.isEnabled(),
            self._shown(),
            self.foregroundRole(),
        )


class IconLabel(QLabel):
    """A picture, not a control; it follows the theme."""

    def __init__(self, name: str, size_px: int = 20, colour: str = "second") -> None:
        super().__init__()
        self._size_px = size_px
        self._icon = icons.icon(name, colour)
        self.setFixedSize(size_px, size_px)

    def set_icon(self, name: str, colour: str = "second") -> None:
        self._icon = icons.icon(name, colour)
        self.update()

    def paintEvent(self, _event: QPaintEvent) -> None:
        self._icon.paint(QPainter(self), self.rect())


class Badge(QLabel):
    """A word in a tinted chip; the colour only repeats what the word says."""

    def __init__(self, text: str, tone: Tone = "neutral", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setProperty("role", "badge")
        self.setProperty("tone", tone)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setIndent(0)  # beside the stylesheet's padding Qt adds one of its own
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)

    def set(self, text: str, tone: Tone) -> None:
        self.setText(text)
        if tone != self.property("tone"):
            self.setProperty("tone", tone)
            self.style().unpolish(self)
            self.style().polish(self)
