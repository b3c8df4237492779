"""Looks through the library on a thread of its own, so that the window never waits for a disk.

What reads models is imported on that thread too: a window without models to show is there sooner.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QObject, Signal

if TYPE_CHECKING:
    from app.models.verdict import Verdict
    from engine.disk_use import DiskUse
    from engine.hardware import Computer
    from engine.leftovers import Leftover
    from engine.library import Entry, Library


class Row(msgspec.Struct, frozen=True):
    """One model of the list: what it is, and whether it fits."""

    entry: Entry
    verdict: Verdict


class Shelf(msgspec.Struct, frozen=True):
    """What a scan found, with the computer it was judged for."""

    rows: tuple[Row, ...]
    leftovers: tuple[Leftover, ...]
    disk: DiskUse
    computer: Computer


class Scan(QObject):
    """Scans `library`; `found` carries a `Shelf`.

    Asked again while at it, it scans once more afterwards: what is shown is never older than the
    last request.
    """

    found = Signal(object)
    _ended = Signal(object)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._thread: threading.Thread | None = None
        self._next: Library | None = None
        self._ended.connect(self._on_ended)

    @property
    def is_running(self) -> bool:
        return self._thread is not None

    def start(self, library: Library) -> None:
        if self._thread:
            self._next = library
            return
        self._thread = threading.Thread(target=self._run, args=(library,), daemon=True)
        self._thread.start()

    def _run(self, library: Library) -> None:
        shelf: Shelf | None = None
        try:
            shelf = look_through(library)
        finally:  # a bug of ours goes on to the excepthook, and the page does not wait for ever
            with contextlib.suppress(RuntimeError):  # the page closed and took this object along
                self._ended.emit(shelf)

    def _on_ended(self, shelf: Shelf | None) -> None:
        assert self._thread
        self._thread.join()
        self._thread = None
        if self._next:
            library, self._next = self._next, None
            self.start(library)
        elif shelf:
            self.found.emit(shelf)


def look_through(library: Library) -> Shelf:
    """Scan `library` and judge each model for this computer as it is now."""
    from app.models.verdict import judge
    from engine.disk_use import disk_use
    from engine.hardware import detect
    from engine.leftovers import find_leftovers

    computer, folder = detect(), library.models_folder
    entries = library.scan()
    rows = tuple(Row(entry, judge(entry, computer)) for entry in entries)
    return Shelf(rows, find_leftovers(folder), disk_use(folder, entries), computer)
