"""Qt's application, which also hears of files that the Finder of a Mac opens."""

from __future__ import annotations

from PySide6.QtCore import QEvent, Signal
from PySide6.QtGui import QFileOpenEvent
from PySide6.QtWidgets import QApplication


class Application(QApplication):
    """Everywhere else a double-click on a file starts the program again, with its path."""

    file_opened = Signal(str)
    """A double-click on this path, on a Mac."""

    def event(self, event: QEvent) -> bool:
        if isinstance(event, QFileOpenEvent) and event.file():
            self.file_opened.emit(event.file())
            return True
        return super().event(event)
