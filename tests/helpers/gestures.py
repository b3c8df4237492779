"""What a hand does to a window: clicks, drops; and what the eye finds there."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget

from app.problems import ProblemCard

LEFT = Qt.MouseButton.LeftButton


def click(widget: QWidget) -> None:
    """Click a control that can be seen and clicked."""
    assert widget.isVisible() and widget.isEnabled()
    QTest.mouseClick(widget, LEFT)


def drop(target: QWidget, *paths: Path) -> None:
    """Drag files from a file browser onto `target` and let go."""
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    copy, none = Qt.DropAction.CopyAction, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(QPoint(9, 9), copy, mime, LEFT, none)
    QApplication.sendEvent(target, enter)
    assert enter.isAccepted()
    QApplication.sendEvent(target, QDropEvent(QPointF(9, 9), copy, mime, LEFT, none))


def problems(page: QWidget) -> list[ProblemCard]:
    """The problem cards that can be seen on `page`."""
    return [card for card in page.findChildren(ProblemCard) if card.isVisible()]
