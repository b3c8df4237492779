"""Shrinks and conversions of the window: what starts one, and the task that is at it."""

from __future__ import annotations

from pathlib import Path

from app.context import AppContext
from app.tasks import Task, Tasks
from engine.convert.job import Convert
from engine.errors import EngineError
from engine.files import make_folder
from engine.quantize.shrink import Shrink
from engine.quantize.shrink_to_size import ShrinkToSize


def start(context: AppContext, job: Shrink | ShrinkToSize | Convert) -> Task:
    """Begin `job`, or go on with what it has left.

    Raises EngineError while the models move, and what `make_folder` does.
    """
    if context.tasks.is_moving:
        raise EngineError(
            "The models are being moved to another folder.",
            hint="Wait until that has ended, then try again. Nothing was begun.",
        )
    out = Path(job.out)
    make_folder(out.parent)
    verb = "Converting" if isinstance(job, Convert) else "Shrinking"
    return context.tasks.start(job, f"{verb} to {out.name}")


def task_of(tasks: Tasks, out: str) -> Task | None:
    """The task, not over, that writes the file `out`."""
    for task in tasks.active + tasks.paused:
        if getattr(task.job, "out", "") == out:
            return task
    return None
