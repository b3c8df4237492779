"""Does what may take a disk a while on a thread of its own, so that the window never waits for it.

For what is over soon and needs no progress; what takes long or much is a job (`app.tasks`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QObject, Signal

from engine.errors import EngineError


def in_background(
    parent: QObject,
    work: Callable[[], Any],
    on_done: Callable[[Any], object],
    on_failed: Callable[[EngineError], object],
) -> None:
    """Call `work` on a thread, then one of the others, on this one, unless `parent` is gone."""
    chore = _Chore(parent, work)
    chore.done.connect(on_done)
    chore.failed.connect(on_failed)
    chore.start()


class _Chore(QObject):
    done = Signal(object)
    failed = Signal(EngineError)
    _ended = Signal(object)

    def __init__(self, parent: QObject, work: Callable[[], Any]) -> None:
        super().__init__(parent)
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ended.connect(self._on_ended)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        outcome: tuple[Any, Any]
        try:
            outcome = self.done, self._work()
        except EngineError as error:
            outcome = self.failed, error
        with contextlib.suppress(RuntimeError):  # the page closed and took this object along
            self._ended.emit(outcome)

    def _on_ended(self, outcome: tuple[Any, Any]) -> None:
        self._thread.join()
        signal, value = outcome
        signal.emit(value)
        self.deleteLater()
