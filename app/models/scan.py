"""Looks through the library on a thread of its own, so that the window never waits for a disk.

What reads models is imported on that thread too: a window without models to show is there sooner.
"""

from __future__ import annotations

import contextlib
import threading
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QObject, Signal

if TYPE_CHECKING:
    from app.context import AppContext
    from app.models.verdict import Conditions, Verdict
    from engine.disk_use import DiskUse
    from engine.fit.estimate import Estimate
    from engine.hardware import Computer, Device
    from engine.leftovers import Leftover
    from engine.library import Entry, Library


class Row(msgspec.Struct, frozen=True, dict=True):
    """One model of the list: what it is, and whether it fits."""

    entry: Entry
    estimate: Estimate | None
    conditions: Conditions

    @cached_property
    def verdict(self) -> Verdict:
        """Made for the rows that are looked at: there may be thousands."""
        from app.models.verdict import judge

        return judge(self.entry, self.estimate, self.conditions)


class Shelf(msgspec.Struct, frozen=True):
    """What a scan found, with this computer as it was then."""

    rows: tuple[Row, ...]
    leftovers: tuple[Leftover, ...]
    disk: DiskUse
    computer: Computer


class Scan(QObject):
    """Scans the library; `found` carries a `Shelf`, which is `context.shelf` from then on.

    Asked again while at it, it scans once more afterwards: what is shown is never older than the
    last request, unless nothing was shown so far.
    """

    found = Signal(object)
    _ended = Signal(object)

    def __init__(self, context: AppContext, parent: QObject) -> None:
        super().__init__(parent)
        self._context = context
        self._thread: threading.Thread | None = None
        self._is_asked_again = False
        self._ended.connect(self._on_ended)

    @property
    def is_running(self) -> bool:
        return self._thread is not None

    def start(self) -> None:
        """Look through the library, beside the window."""
        if self._thread:
            self._is_asked_again = True
            return
        what = (self._context.library, self._context.computer.devices)
        self._thread = threading.Thread(target=self._run, args=what, daemon=True)
        self._thread.start()

    def _run(self, library: Library, devices: tuple[Device, ...]) -> None:
        shelf: Shelf | None = None
        try:
            shelf = look_through(library, devices)
        finally:  # a bug of ours goes on to the excepthook, and the page does not wait for ever
            with contextlib.suppress(RuntimeError):  # the page closed and took this object along
                self._ended.emit(shelf)

    def _on_ended(self, shelf: Shelf | None) -> None:
        assert self._thread
        self._thread.join()
        self._thread = None
        is_asked_again, self._is_asked_again = self._is_asked_again, False
        if is_asked_again:
            self.start()
        if shelf and not (is_asked_again and self._context.shelf):
            self._context.shelf = shelf
            self.found.emit(shelf)


def look_through(library: Library, devices: tuple[Device, ...] = ()) -> Shelf:
    """Scan `library`; its models are judged for this computer as it is now."""
    from app.models.verdict import Conditions
    from engine.disk_use import disk_use
    from engine.hardware import detect
    from engine.leftovers import find_leftovers

    computer, folder = detect(devices), library.models_folder
    conditions = Conditions(computer)
    entries = library.scan()
    rows = tuple(Row(entry, library.estimate(entry), conditions) for entry in entries)
    return Shelf(rows, find_leftovers(folder), disk_use(folder, entries), computer)
