"""A job: a frozen value whose `run()` is a generator.

yield = progress, return = result, raise = failure, `close()` = cancel; `finally` cleans up.
`throw(Paused())` = stop, and keep what the same job can go on from, if it can.
The same job runs in a script (`finish`), on a thread, or in the worker process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from types import MappingProxyType
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


class Notice(msgspec.Struct, frozen=True, tag="notice"):
    """What the user would not expect of how it is done, in a sentence; nothing is wrong."""

    text: str


Step = Progress | Piece | Notice


class Paused(BaseException):
    """Thrown into a job that is to stop for now, or whose window has gone."""


class Job(msgspec.Struct, frozen=True, tag=True):
    """The base of every job that needs nothing but its own fields.

    Its module must stay light to import (the window builds jobs, the worker runs them):
    import numpy, llama_cpp and the like inside `run`.
    """

    Result: ClassVar[Any]
    can_resume: ClassVar[bool] = False
    """Whether the same job, run again after it was paused or killed, goes on from where it was."""
    keeps_when_cancelled: ClassVar[bool] = False
    """Whether it does so after it was cancelled too."""
    stages: ClassVar[Mapping[str, float]] = MappingProxyType({})
    """The stages of a job of several in their order, with their shares of its time, roughly.
    Some may be left out, and what it tells of other stages says nothing of the whole."""

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

    The fraction of one total never falls: not while what has come is verified, nor where a resumed
    job begins a little before its stop. Of a job with `stages` it is that of the whole. The speed
    is that of the last seconds up to now: it falls to 0 while nothing comes, and starts anew with
    each stage.
    """

    WINDOW_S = 8.0

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        stages: Mapping[str, float] = Job.stages,
    ) -> None:
        self._clock = clock
        self._stages = stages
        self._whole: float | None = None
        self._stage = ""
        self._marks: list[tuple[float, int]] = []
        self._total: int | None = None
        self._furthest: dict[int, float] = {}

    def update(self, progress: Progress) -> None:
        if progress.stage != self._stage or (self._marks and progress.done < self._marks[-1][1]):
            self._stage, self._marks = progress.stage, []
        self._total = progress.total
        self._marks.append((self._clock(), progress.done))
        self._forget()
        if progress.total:
            done = min(1.0, progress.done / progress.total)
            self._furthest[progress.total] = max(done, self._furthest.get(progress.total, 0.0))
            if progress.stage in self._stages:
                names = list(self._stages)
                before = sum(self._stages[name] for name in names[: names.index(progress.stage)])
                whole = before + done * self._stages[progress.stage]
                self._whole = min(1.0, max(whole, self._whole or 0.0))

    @property
    def fraction(self) -> float | None:
        """0 to 1, or None while the total is not known."""
        if self._stages:
            return self._whole
        return self._furthest[self._total] if self._total else None

    @property
    def per_second(self) -> float:
        self._forget()
        if not self._marks:
            return 0.0
        (began, first), (_, last) = self._marks[0], self._marks[-1]
        seconds = self._clock() - began
        return (last - first) / seconds if seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        speed = self.per_second
        if not self._total or speed <= 0:
            return None
        return max(0, self._total - self._marks[-1][1]) / speed

    def _forget(self) -> None:
        """Of the marks before the window keep the last one: what came is counted from it."""
        begin = self._clock() - self.WINDOW_S
        while len(self._marks) > 1 and self._marks[1][0] <= begin:
            self._marks.pop(0)
