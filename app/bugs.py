"""Catches what nobody caught: logs it and opens one dialog at a time, from any thread.

Stands apart from `app/problems.py` so that the start does not load widgets nobody sees yet.
"""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtWidgets import QApplication

if TYPE_CHECKING:
    from app.problems import BugDialog

log = logging.getLogger(__name__)


class BugReporter(QObject):
    """Shows one dialog at a time for exceptions nobody caught, from any thread."""

    caught = Signal(str)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._dialog: BugDialog | None = None
        self.caught.connect(self._on_caught, Qt.ConnectionType.QueuedConnection)

    def install(self) -> None:
        sys.excepthook = self._excepthook
        threading.excepthook = lambda args: self._excepthook(
            args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
        )

    def _excepthook(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            QApplication.quit()
            return
        import platform
        import traceback

        text = "".join(traceback.format_exception(kind, error, trace))
        log.critical("unforeseen: %s", text)
        self.caught.emit(
            f"Snug, Python {platform.python_version()}, {platform.platform()}\n\n{text}"
        )

    def _on_caught(self, report: str) -> None:
        if self._dialog is not None:
            return
        from app.problems import BugDialog

        self._dialog = BugDialog(report, QApplication.activeWindow())
        self._dialog.finished.connect(self._on_closed)
        self._dialog.open()

    def _on_closed(self) -> None:
        if self._dialog:
            self._dialog.deleteLater()
        self._dialog = None
