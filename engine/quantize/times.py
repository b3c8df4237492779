"""How long the steps of a shrink have taken, in all the sessions that it took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec

from engine.errors import StorageError

EVERY_S = 10.0
"""As much may be missing of what a killed session was at."""


class Taken(msgspec.Struct, frozen=True):
    """Seconds in all, and by the name of a step."""

    seconds: float = 0.0
    steps: dict[str, float] = {}


class Times:
    """Goes on from what was `taken` before, and lets it be kept by `keep`, which may raise."""

    def __init__(self, taken: Taken, keep: Callable[[Taken], None]) -> None:
        self.before = taken.seconds
        self._keep = keep
        self._steps = dict(taken.steps)
        self._began = self._kept_at = self._counted_at = time.monotonic()
        self._step = ""

    @property
    def steps(self) -> dict[str, float]:
        """The seconds of each step, in the order in which they first came."""
        return dict(self._steps)

    @contextmanager
    def of(self, step: str) -> Iterator[None]:
        """What the block takes is time of `step`, also when it does not end well."""
        self._step, self._counted_at = step, time.monotonic()
        try:
            yield
        finally:
            self.save()
            self._step = ""

    def save_now_and_then(self) -> None:
        if time.monotonic() - self._kept_at >= EVERY_S:
            self.save()

    def save(self) -> None:
        """Nothing depends on it: a disk that refuses is none of its trouble."""
        now = time.monotonic()
        if self._step:
            self._steps[self._step] = self._steps.get(self._step, 0.0) + now - self._counted_at
        self._counted_at = self._kept_at = now
        with suppress(StorageError):
            self._keep(Taken(self.before + now - self._began, self._steps))
