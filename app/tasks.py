"""One Task for each job: the only bridge from the engine's worker processes to Qt.

Compute jobs wait in one queue, one at a time, each in its own short-lived worker; short questions
(`ask`) run at once beside it. Worker events arrive on reader threads; a `Relay` carries them over.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Any

from PySide6.QtCore import QObject, Qt, Signal

from engine.client import Call, Cancelled, Failed, Outcome, Stepped, Succeeded, Worker
from engine.errors import EngineError, WorkerCrashed
from engine.jobs import Job, Pace, Progress, Step

log = logging.getLogger(__name__)

StartWorker = Callable[[], Worker]


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


class TaskState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Task(QObject):
    """A job on its way. Ends once, with `finished`, in one of the last three states."""

    changed = Signal()
    stepped = Signal(object)
    finished = Signal()

    def __init__(self, job: Job, title: str, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.job = job
        self.title = title
        self.state = TaskState.QUEUED
        self.is_cancelling = False
        self.progress: Progress | None = None
        self.pace = Pace()
        self.result: Any = None
        self.error: EngineError | None = None
        self._worker: Worker | None = None
        self._call: Call | None = None
        self._relay = Relay(self)
        self._relay.heard.connect(self._on_heard)

    @property
    def is_over(self) -> bool:
        return self.state not in (TaskState.QUEUED, TaskState.RUNNING)

    def cancel(self) -> None:
        """Stop the job; nothing half-written stays. A queued one ends at once."""
        if self.state == TaskState.QUEUED:
            self._end(TaskState.CANCELLED)
        elif self.state == TaskState.RUNNING and self._call and not self.is_cancelling:
            self.is_cancelling = True
            self._call.cancel()
            self.changed.emit()

    def _begin(self, start_worker: StartWorker) -> None:
        self.state = TaskState.RUNNING
        try:
            self._worker = start_worker()
        except OSError as error:
            log.warning("no worker: %s", error)
            self.error = WorkerCrashed(
                "The engine could not be started.",
                hint="Close other programs and try again.",
                details=str(error),
            )
            self._end(TaskState.FAILED)
            return
        self.changed.emit()
        self._call = self._worker.run(self.job, self._relay.tell)

    def _on_heard(self, event: Stepped | Outcome) -> None:
        if self.is_over:
            return
        match event:
            case Stepped(step=step):
                self._step(step)
            case Succeeded(result=result):
                self.result = result
                self._end(TaskState.SUCCEEDED)
            case Failed(error=error):
                self.error = error
                self._end(TaskState.FAILED)
            case Cancelled():
                self._end(TaskState.CANCELLED)

    def _step(self, step: Step) -> None:
        if isinstance(step, Progress):
            self.progress = step
            self.pace.update(step)
        self.stepped.emit(step)
        self.changed.emit()

    def _end(self, state: TaskState) -> None:
        self.state = state
        if self._worker:
            # Its process has nothing left to do: reaped beside the window, and again in shutdown.
            self._worker.stop(wait=False)
        self.changed.emit()
        self.finished.emit()

    def _wait(self) -> None:
        if self._worker:
            self._worker.stop(wait=True)


class Tasks(QObject):
    """All jobs of the window: `listed` is what the panel shows, oldest first."""

    added = Signal(object)
    changed = Signal()

    def __init__(
        self, parent: QObject | None = None, start_worker: StartWorker = Worker.start
    ) -> None:
        super().__init__(parent)
        self.listed: list[Task] = []
        self._asked: list[Task] = []
        self._queue: deque[Task] = deque()
        self._running: Task | None = None
        self._start_worker = start_worker

    @property
    def active(self) -> list[Task]:
        """The listed tasks that are queued or running."""
        return [task for task in self.listed if not task.is_over]

    def start(self, job: Job, title: str) -> Task:
        """Queue `job`; it runs when those before it are over."""
        task = Task(job, title, self)
        self.listed.append(task)
        self._queue.append(task)
        task.changed.connect(self.changed)
        task.finished.connect(self._on_finished)
        self.added.emit(task)
        self.changed.emit()
        self._start_next()
        return task

    def ask(self, job: Job) -> Task:
        """Run a short `job` at once, in its own worker, beside the queue and unlisted."""
        task = Task(job, "", self)
        self._asked.append(task)
        task.finished.connect(self._on_answered)
        task._begin(self._start_worker)
        return task

    def clear_finished(self) -> None:
        self.listed = self.active
        self.changed.emit()

    def shutdown(self) -> None:
        """Cancel everything and wait until no process is left."""
        self._queue.clear()
        tasks = self.listed + self._asked
        for task in tasks:
            if task.state == TaskState.QUEUED:
                task.cancel()
        for task in tasks:
            if task._worker:
                task._worker.stop(wait=False)
        for task in tasks:
            task._wait()

    def _start_next(self) -> None:
        if self._running is None and self._queue:
            self._running = self._queue.popleft()
            self._running._begin(self._start_worker)

    def _on_finished(self) -> None:
        task = self.sender()
        if task is self._running:
            self._running = None
        elif task in self._queue:
            self._queue.remove(task)
        self._start_next()

    def _on_answered(self) -> None:
        task = self.sender()
        assert isinstance(task, Task)
        self._asked.remove(task)
