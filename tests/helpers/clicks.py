"""What a person's hands do in tests of the window: find a button by its words, click, type."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QAbstractButton, QWidget
from pytestqt.qtbot import QtBot


def named(root: QWidget, words: str) -> QAbstractButton:
    """The one visible button in `root` whose text or accessible name is `words`."""
    found = [
        button
        for button in root.findChildren(QAbstractButton)
        if words in (button.accessibleName(), button.text()) and button.isVisible()
    ]
    assert len(found) == 1, f"{len(found)} buttons are called {words!r}"
    return found[0]


def click(bot: QtBot, root: QWidget, words: str) -> None:
    button = named(root, words)
    assert button.isEnabled(), f"{words!r} cannot be clicked"
    bot.mouseClick(button, Qt.MouseButton.LeftButton)
