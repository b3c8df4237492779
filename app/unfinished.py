"""What interrupted jobs left, gone on with in the window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app import downloads, shrinks
from app.context import AppContext
from app.tasks import Task, Tasks
from engine.hub.download import Download

if TYPE_CHECKING:
    from engine.leftovers import Leftover


def resume(context: AppContext, leftover: Leftover) -> Task:
    """Go on with `leftover`, which has a job; raises what `shrinks.start` does."""
    assert leftover.job
    if isinstance(leftover.job, Download):
        return downloads.resume(context, leftover.job, leftover.title)
    if task := task_of(context.tasks, leftover):
        task.resume()
        return task
    return shrinks.start(context, leftover.job)


def task_of(tasks: Tasks, leftover: Leftover) -> Task | None:
    """The task, not over, that has `leftover` in hand: a paused one, or one that runs again."""
    job = leftover.job
    if job is None:
        return None
    if isinstance(job, Download):
        return downloads.task_of(tasks, job.repo, job.wanted)
    return shrinks.task_of(tasks, job.out)
