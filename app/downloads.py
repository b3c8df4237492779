"""Downloads of the window: what starts one or goes on with one, and the task that is at it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from app.context import AppContext
from app.tasks import Task, Tasks

if TYPE_CHECKING:
    from engine.hub.download import Download
    from engine.hub.repo import Repo, Variant
    from engine.jobs import Job


def download(context: AppContext, repo: Repo, variant: Variant) -> Task:
    """Fetch `variant` into the models folder, or go on with it."""
    from engine.hub.download import Download

    job: Download = Download(repo.id, "", variant.main_file.name)
    return resume(context, job, f"{repo.id.rpartition('/')[2]}, {variant.label}")


def resume(context: AppContext, job: Download, title: str) -> Task:
    """Begin `job`, or go on with what is here of it; `title` says which model and variant."""
    if task := task_of(context.tasks, job.repo, job.wanted):
        task.resume()
        return task
    renew = partial(_renewed, context)
    return context.tasks.start(job, f"Download {title}", lane="network", renew=renew)


def task_of(tasks: Tasks, repo_id: str, wanted: str) -> Task | None:
    """The task, not over, that fetches what a download calls `wanted` of a model."""
    for task in tasks.active + tasks.paused:
        job: Any = task.job
        if (getattr(job, "repo", ""), getattr(job, "wanted", None)) == (repo_id, wanted):
            return task
    return None


def _renewed(context: AppContext, job: Job) -> Job:
    """`job` for the settings of now: the models may have moved while it waited or was paused."""
    context.settings.refresh()
    value = context.settings.value
    return msgspec.structs.replace(
        job,
        folder=value.models_folder,
        bytes_per_second=value.download_limit,
        is_offline=value.is_offline,
    )
