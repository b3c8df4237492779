"""Stops a shrink or a conversion on its way, and tells from the progress how it went on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from engine.convert.job import Convert
from engine.jobs import Paused, Progress, finish
from engine.partial import Note, partial_of, read_note
from engine.quantize.shrink import Shrink


def pause(job: Shrink | Convert, part: float) -> Note:
    """Run `job`, stop it when `part` of it is done, and return the note it leaves."""
    steps = job.run()
    step = next(steps)
    while not (
        isinstance(step, Progress) and is_writing(step) and step.done >= part * (step.total or 0)
    ):
        step = next(steps)
    with pytest.raises(Paused):
        steps.throw(Paused())
    note = read_note(partial_of(Path(job.out)))
    assert note and note.done_bytes == partial_of(Path(job.out)).stat().st_size
    return note


def run(job: Shrink | Convert) -> list[Progress]:
    """Run `job` to its end; returns its progress."""
    steps: list[Any] = []
    finish(job.run(), steps.append)
    return steps


def is_writing(step: Progress) -> bool:
    return step.stage in ("Shrinking", "Converting")


def gone_on(steps: list[Progress]) -> int:
    """How much of the source was done already when `steps` began."""
    return max((step.done for step in steps if step.stage == "Going on"), default=0)
