"""One Task for each job: the only bridge from the engine's worker processes to Qt.

Compute jobs wait in one queue, downloads in another and moves in a third, one at a time of each, in
short-lived workers of their own; a paused one leaves its queue, and is put at the end of it when
resumed. While models are moved nothing else begins that writes to their folder. Short questions
(`ask`) run at once beside them. Worker events arrive on reader threads; a `Relay` carries them
over.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from PySide6.QtCore import QObject, Qt, Signal

from engine import processes
from engine.jobs import Job, Pace, Progress, Step

if TYPE_CHECKING:
    # The client is loaded with the first job, not with the window.
    from engine.client import Call, Outcome, Stepped, Worker
    from engine.errors import EngineError

log = logging.getLogger(__name__)

StartWorker = Callable[[Callable[["EngineError | None"], None]], "Worker"]
"""Starts a worker that calls the given function when its process has ended."""


def start_worker(
    on_exit: Callable[[EngineError | None], None], device: str = processes.AUTO
) -> Worker:
    from engine.client import Worker

    return Worker.start(on_exit, device=device)


def not_started(error: OSError) -> EngineError:
    """What to tell where the system starts no worker."""
    from engine.errors import WorkerCrashed

    return WorkerCrashed(
        "The engine could not be started.",
        hint="Close other programs and try again.",
        details=str(error),
    )


class Relay(QObject):
    """Takes what a worker's reader thread says to the thread this object lives in.

    Give `relay.tell` as listener to `Worker.run` and connect `heard`.
    """

    heard = Signal(object)
    _told = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._told.connect(self.heard, Qt.ConnectionType.QueuedConnection)

    def tell(self, event: object) -> None:
        """Safe to call from any thread."""
        self._told.emit(event)


class _Exited(NamedTuple):
    """The worker process of a task's run is gone."""

    run: int


class TaskState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Task(QObject):
    """A job on its way. Ends once, with `finished`, in one of the last three states."""

    changed = Signal()
    stepped = Signal(object)
    finished = Signal()
    paused = Signal()
    resumed = Signal()
    exited = Signal()
    """The worker process has gone too; after `finished`."""

    def __init__(
        self,
        job: Job,
        title: str,
        parent: QObject | None = None,
        renew: Callable[[Job], Job] | None = None,
    ) -> None:
        super().__init__(parent)
        self.job = job
        self._renew = renew
        self.title = title
        self.state = TaskState.QUEUED
        self.is_cancelling = False
        self.is_pausing = False
        self.has_kept = False  # of a cancelled one: it can be gone on with
        self.progress: Progress | None = None
        self.pace = Pace(stages=job.stages)
        self.result: Any = None
        self.error: EngineError | None = None
        self._worker: Worker | None = None
        self._call: Call | None = None
        self._run = 0
        self._relay = Relay(self)
        self._relay.heard.connect(self._on_heard)

    @property
    def is_active(self) -> bool:
        """Whether it runs, or will without being asked again."""
        return self.state in (TaskState.QUEUED, TaskState.RUNNING)

    @property
    def is_over(self) -> bool:
        return self.state in (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED)

    def cancel(self) -> None:
        """Stop the job; one that does not run ends at once.

        Nothing half-written stays, but what a download has, or a job that is paused: `has_kept`.
        """
        if self.state in (TaskState.QUEUED, TaskState.PAUSED):
            self._end(TaskState.CANCELLED)
        elif self.state == TaskState.RUNNING and self._call and not self.is_cancelling:
            self.is_cancelling, self.is_pausing = True, False
            self._call.cancel()
            self.changed.emit()

    def pause(self) -> None:
        """Stop a job that can be resumed until `resume`; the next one in its queue goes on."""
        if not self.job.can_resume or self.is_cancelling or self.is_pausing:
            return
        if self.state == TaskState.QUEUED:
            self._rest()
        elif self.state == TaskState.RUNNING and self._call:
            self.is_pausing = True
            self._call.pause()
            self.changed.emit()

    def resume(self) -> None:
        """Let a paused job wait for its turn again."""
        if self.state == TaskState.PAUSED:
            self.state = TaskState.QUEUED
            self.resumed.emit()

    def pause_or_resume(self) -> None:
        if self.state == TaskState.PAUSED:
            self.resume()
        else:
            self.pause()

    def _begin(self, start: StartWorker) -> None:
        from engine.client import Failed
        from engine.errors import EngineError

        self.state = TaskState.RUNNING
        self._run += 1
        exited = _Exited(self._run)
        self.changed.emit()
        try:
            if self._renew:
                self.job = self._renew(self.job)
            self._worker = start(lambda _reason: self._relay.tell(exited))
        except (OSError, EngineError) as error:
            log.warning("not begun: %s", error)
            # By the usual road, so that nobody hears of the end before the task is in their hands.
            why = error if isinstance(error, EngineError) else not_started(error)
            self._relay.tell(Failed(why))
            return
        self._call = self._worker.run(self.job, self._relay.tell)

    def _on_heard(self, event: Stepped | Outcome | _Exited) -> None:
        if isinstance(event, _Exited):
            if event.run == self._run:  # else it is the one that was paused
                self._worker = self._call = None
                self.exited.emit()
        elif not self.is_over:
            self._hear(event)

    def _hear(self, event: Stepped | Outcome) -> None:
        from engine.client import Cancelled, Failed, Stepped, Succeeded

        match event:
            case Stepped(step=step):
                self._step(step)
            case Succeeded(result=result):
                self.result = result
                self._end(TaskState.SUCCEEDED)
            case Failed(error=error):
                self.error = error
                self._end(TaskState.FAILED)
            case Cancelled() if self.is_pausing:
                self._rest()
            case Cancelled():
                self._end(TaskState.CANCELLED)

    def _step(self, step: Step) -> None:
        if isinstance(step, Progress):
            self.progress = step
            self.pace.update(step)
        self.stepped.emit(step)
        self.changed.emit()

    def _rest(self) -> None:
        self.state, self.is_pausing = TaskState.PAUSED, False
        self._stop_worker(wait=False)
        self.changed.emit()
        self.paused.emit()

    def _end(self, state: TaskState) -> None:
        keeps = self.job.keeps_when_cancelled or self.state != TaskState.RUNNING
        self.has_kept = keeps and self.job.can_resume and bool(self.progress and self.progress.done)
        self.state, self.is_pausing = state, False
        self._stop_worker(wait=False)
        self.changed.emit()
        self.finished.emit()

    def _stop_worker(self, *, wait: bool) -> None:
        if self._worker:
            self._worker.stop(wait=wait)


Lane = Literal["compute", "network", "disk"]


class Tasks(QObject):
    """All jobs of the window: `listed` is what the panel shows, oldest first."""

    added = Signal(object)
    changed = Signal()

    def __init__(self, parent: QObject | None = None, start: StartWorker = start_worker) -> None:
        super().__init__(parent)
        self.listed: list[Task] = []
        self._asked: list[Task] = []
        self._queues: dict[Lane, deque[Task]] = {lane: deque() for lane in get_args(Lane)}
        self._running: dict[Lane, Task | None] = dict.fromkeys(get_args(Lane))
        self._start = start
        self._is_closed = False

    @property
    def active(self) -> list[Task]:
        """The listed tasks that are queued or running."""
        return [task for task in self.listed if task.is_active]

    @property
    def paused(self) -> list[Task]:
        return [task for task in self.listed if task.state == TaskState.PAUSED]

    @property
    def is_moving(self) -> bool:
        """Whether the models are on their way to another folder, or about to be."""
        return bool(self._running["disk"] or self._queues["disk"])

    def start(
        self,
        job: Job,
        title: str,
        lane: Lane = "compute",
        renew: Callable[[Job], Job] | None = None,
    ) -> Task:
        """Queue `job`; it runs when those before it in its lane are over.

        `renew` makes of the job what it is to be when its turn comes, first or again; an
        EngineError that it raises ends the task.
        """
        task = Task(job, title, self, renew)
        self.listed.append(task)
        task.changed.connect(self.changed)
        task.finished.connect(self._on_left)
        task.paused.connect(self._on_left)
        task.resumed.connect(partial(self._enqueue, task, lane))
        self.added.emit(task)
        self._enqueue(task, lane)
        return task

    def ask(self, job: Job) -> Task:
        """Run a short `job` at once, in its own worker, beside the queue and unlisted."""
        task = Task(job, "", self)
        if self._is_closed:  # a timer of a page that closes went off
            task.cancel()
            return task
        self._asked.append(task)
        task.exited.connect(self._on_answered)
        task._begin(self._start)
        return task

    def clear_finished(self) -> None:
        self.listed = [task for task in self.listed if not task.is_over]
        self.changed.emit()

    def shutdown(self) -> None:
        """Cancel everything and wait until no process is left; none is started after that."""
        self._is_closed = True
        for queue in self._queues.values():
            queue.clear()
        tasks = self.listed + self._asked
        for task in tasks:
            if task.state == TaskState.QUEUED:
                task.cancel()
        # First ask all of them, then wait for each: their last seconds run side by side.
        for task in tasks:
            task._stop_worker(wait=False)
        for task in tasks:
            task._stop_worker(wait=True)

    def _enqueue(self, task: Task, lane: Lane) -> None:
        self._queues[lane].append(task)
        self.changed.emit()
        self._start_next()

    def _start_next(self) -> None:
        if self._is_closed:
            return
        for lane, queue in self._queues.items():
            is_held = lane != "disk" and self.is_moving
            if self._running[lane] is None and queue and not is_held:
                task = self._running[lane] = queue.popleft()
                task._begin(self._start)

    def _on_left(self) -> None:
        """A task has ended, or is paused: its queue goes on."""
        task = self.sender()
        assert isinstance(task, Task)
        for lane, queue in self._queues.items():
            if task is self._running[lane]:
                self._running[lane] = None
            elif task in queue:
                queue.remove(task)
        self._start_next()

    def _on_answered(self) -> None:
        task = self.sender()
        assert isinstance(task, Task)
        self._asked.remove(task)
        # From here on it lives as long as who asked holds it.
        task.setParent(None)
