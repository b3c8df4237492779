"""Collects Python's cyclic garbage on the window's thread, and on no other.

Python starts a collection on whichever thread allocates next. One that frees widgets on a worker's
reader thread or in a scan, while Qt deletes the same widgets, ends the process (seen with PySide6
6.11 as a segmentation fault in ~QObject). Anki switches automatic collection off for that reason.
"""

from __future__ import annotations

import gc

from PySide6.QtCore import QObject, QTimer

INTERVAL_MS = 500


class GarbageCollector(QObject):
    """Takes the place of the automatic collection for as long as the application lives."""

    def __init__(self, app: QObject) -> None:
        super().__init__(app)
        gc.disable()
        gc.freeze()  # the program itself, two thirds of all there is to look at, is never garbage
        self._timer = QTimer(self)
        self._timer.setInterval(INTERVAL_MS)
        self._timer.timeout.connect(collect_if_due)
        self._timer.start()


def collect_if_due() -> None:
    """Collect the oldest generation that Python itself would collect by now."""
    counts, thresholds = gc.get_count(), gc.get_threshold()
    for generation in (2, 1, 0):
        if counts[generation] > thresholds[generation]:
            gc.collect(generation)
            return
