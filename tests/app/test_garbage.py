"""Cyclic garbage is collected by the window's thread, whoever allocates."""

from __future__ import annotations

import gc
import threading

from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot


class Cycle:
    """Only a collection frees it; it notes which thread that was."""

    def __init__(self, freed_by: list[threading.Thread]) -> None:
        self.me = self
        self._freed_by = freed_by

    def __del__(self) -> None:
        self._freed_by.append(threading.current_thread())


def test_only_the_windows_thread_collects(qapp: QApplication, qtbot: QtBot) -> None:
    freed_by: list[threading.Thread] = []
    enough = 50 * gc.get_threshold()[0]

    def litter() -> None:
        for _ in range(enough):
            Cycle(freed_by)

    thread = threading.Thread(target=litter)
    thread.start()
    thread.join()

    assert freed_by == []
    qtbot.waitUntil(lambda: len(freed_by) == enough)
    assert set(freed_by) == {threading.main_thread()}
