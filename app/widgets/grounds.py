"""What things stand on: cards, lines, rows and columns, a page that scrolls."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QBoxLayout,
    QFrame,
    QHBoxLayout,
    QLayout,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from app import theme


class Card(QFrame):
    """A surface with a padded column, `body`.

    `role` is card, card-raised or card-bad.
    """

    def __init__(self, role: str = "card", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", role)
        self.body = QVBoxLayout(self)
        pad = theme.CARD_PADDING
        self.body.setContentsMargins(pad, pad, pad, pad)
        self.body.setSpacing(theme.SPACE_8)


def hline() -> QFrame:
    line = QFrame()
    line.setProperty("role", "line")
    return line


Part = QWidget | QLayout | int | None
"""What `row` and `column` take: a widget, a layout, a gap in px, or None for a stretch."""


def _fill(box: QBoxLayout, parts: Sequence[Part], spacing: int, margin: int) -> None:
    box.setContentsMargins(margin, margin, margin, margin)
    box.setSpacing(spacing)
    for part in parts:
        if part is None:
            box.addStretch(1)
        elif isinstance(part, int):
            box.addSpacing(part)
        elif isinstance(part, QWidget):
            box.addWidget(part)
        else:
            box.addLayout(part)


def row(*parts: Part, spacing: int = theme.SPACE_8, margin: int = 0) -> QHBoxLayout:
    box = QHBoxLayout()
    _fill(box, parts, spacing, margin)
    return box


def column(*parts: Part, spacing: int = theme.SPACE_8, margin: int = 0) -> QVBoxLayout:
    box = QVBoxLayout()
    _fill(box, parts, spacing, margin)
    return box


class Scroll(QScrollArea):
    """Scrolls `content` up and down, never sideways, without a frame."""

    def __init__(self, content: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        content.setProperty("role", "scroll")
        # One of our own, without a ground. Asking for Qt's makes PySide build a Python class for
        # every kind of widget, to know which one it is: 11 ms of the start.
        self.setViewport(QWidget())
        self.setWidget(content)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
