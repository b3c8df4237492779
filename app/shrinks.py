"""Shrinks and conversions of the window: what starts one, and the task that is at it."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from app import own_texts
from app.context import AppContext
from app.tasks import Task, Tasks
from engine.convert.job import Convert
from engine.errors import EngineError
from engine.files import make_folder
from engine.jobs import Job
from engine.quantize.shrink import Shrink
from engine.quantize.shrink_to_size import ShrinkToSize
from engine.quantize.workbench import folder_of, read_note


def start(context: AppContext, job: Shrink | ShrinkToSize | Convert) -> Task:
    """Begin `job`, or go on with what it has left.

    Raises EngineError while the models move, and what `make_folder` and writing a file do.
    """
    if context.tasks.is_moving:
        raise EngineError(
            "The models are being moved to another folder.",
            hint="Wait until that has ended, then try again. Nothing was begun.",
        )
    out = Path(job.out)
    make_folder(out.parent)
    own = _own_texts(context, job)
    if own:
        own_texts.require_some(context.store)

    def write_texts(job: Job) -> Job:
        for path in own:
            own_texts.write(context.store, path)
        return job

    verb = "Converting" if isinstance(job, Convert) else "Shrinking"
    task = context.tasks.start(job, f"{verb} to {out.name}", renew=write_texts)
    for path in own:
        task.finished.connect(partial(path.unlink, missing_ok=True))
        task.paused.connect(partial(path.unlink, missing_ok=True))
    return task


def own_text(context: AppContext, out: str) -> Path:
    """The text to name to a shrink to `out` that is to calibrate with the user's conversations.

    That of an unfinished one, to go on with it. It is there only while the shrink runs: `start`
    sees to that.
    """
    cache = context.folders.cache
    note = read_note(folder_of(Path(out)))
    left = note and note.read_job(ShrinkToSize)
    unfinished = [text for text in left.texts if own_texts.is_own(cache, text)] if left else []
    return Path(unfinished[0]) if unfinished else own_texts.path_for(cache, out, time.time())


def _own_texts(context: AppContext, job: Shrink | ShrinkToSize | Convert) -> list[Path]:
    texts = job.texts if isinstance(job, ShrinkToSize) else ()
    return [Path(text) for text in texts if own_texts.is_own(context.folders.cache, text)]


def task_of(tasks: Tasks, out: str) -> Task | None:
    """The task, not over, that writes the file `out`."""
    for task in tasks.active + tasks.paused:
        if getattr(task.job, "out", "") == out:
            return task
    return None
