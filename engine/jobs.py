"""A job: a frozen value whose `run()` is a generator.

yield = progress, return = result, raise = failure, `close()` = cancel; `finally` cleans up.
The same job runs in a script (`finish`), on a thread, or in the worker process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any, ClassVar, Literal, TypeVar

import msgspec

Unit = Literal["bytes", "tensors", "tokens", "layers", "steps"]
T = TypeVar("T")


class Progress(msgspec.Struct, frozen=True, tag="progress"):
    """How far a job is: `done` of `total` (None = not known) `unit`s of `stage`."""

    stage: str
    done: int
    total: int | None
    unit: Unit


class Piece(msgspec.Struct, frozen=True, tag="piece"):
    """A bit of an answer as it is generated; `n_tokens` were generated so far."""

    text: str
    n_tokens: int


Step = Progress | Piece


class Job(msgspec.Struct, frozen=True, tag=True):
    """The base of every job that needs nothing but its own fields.

    Its module must stay light to import (the window builds jobs, the worker runs them):
    import numpy, llama_cpp and the like inside `run`.
    """

    Result: ClassVar[Any]

    def run(self) -> Generator[Step, None, Any]:
        raise NotImplementedError


def finish(steps: Generator[Step, None, T], on_step: Callable[[Step], None] | None = None) -> T:
    """Run `steps` to the end here and return the result; `on_step` sees each step."""
    try:
        while True:
            step = next(steps)
            if on_step:
                on_step(step)
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        steps.close()


class Pace:
    """Speed and time left of a job, as seen from its progress.

    The speed is measured over the last few seconds, so a stall shows as a falling speed, and it
    starts anew with each stage.
    """

    WINDOW_S = 8.0

    def __init__(self) -> None:
        self._stage = ""
        self._marks: list[tuple[float, int]] = []
        self._total: int | None = None

    def update(self, progress: Progress, now: float | None = None) -> None:
        now = time.monotonic() if now is None else now
        if progress.stage != self._stage:
            self._stage, self._marks = progress.stage, []
        self._total = progress.total
        self._marks.append((now, progress.done))
        while len(self._marks) > 2 and now - self._marks[1][0] > self.WINDOW_S:
            self._marks.pop(0)

    @property
    def fraction(self) -> float | None:
        """0 to 1, or None while the total is not known."""
        if not self._total or not self._marks:
            return None
        return min(1.0, self._marks[-1][1] / self._total)

    @property
    def per_second(self) -> float:
        (t0, n0), (t1, n1) = (self._marks[0], self._marks[-1]) if self._marks else ((0, 0), (0, 0))
        return (n1 - n0) / (t1 - t0) if t1 > t0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        if not self._total or self.per_second <= 0:
            return None
        return max(0, self._total - self._marks[-1][1]) / self.per_second
