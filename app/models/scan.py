"""Has a worker look through the library, so that the window shares no lock with what reads models.

The worker stays for the next look. What it takes is imported and read on threads, in small pieces.
"""

from __future__ import annotations

import contextlib
import os
import threading
from functools import cached_property, partial
from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QObject, QTimer, Signal

from app.background import in_background
from app.tasks import Relay, StartWorker, not_started, start_worker
from engine import starter
from engine.jobs import Progress

if TYPE_CHECKING:
    from app.context import AppContext
    from app.models.verdict import Conditions, Verdict
    from engine.client import Outcome, Stepped, Worker
    from engine.disk_use import DiskUse
    from engine.errors import EngineError
    from engine.fit.estimate import Estimate
    from engine.hardware import Computer, Device
    from engine.leftovers import Leftover
    from engine.library import Entry
    from engine.scan import Model
    from engine.settings import Settings


NICENESS = 5
"""Behind the window and an answer that is being written: a first look takes all of a core."""


class Row(msgspec.Struct, frozen=True, dict=True):
    """One model of the list: what it is, and whether it fits."""

    entry: Entry
    estimate: Estimate | None
    conditions: Conditions

    @cached_property
    def verdict(self) -> Verdict:
        from app.models.verdict import judge

        return judge(self.entry, self.estimate, self.conditions)


class Shelf(msgspec.Struct, frozen=True, dict=True):
    """What a scan found, with this computer as it was then; `models` by name, under their digests.

    `disk` is None where they are those of the last start: nobody has looked yet.
    """

    models: dict[str, Model]
    computer: Computer
    leftovers: tuple[Leftover, ...] = ()
    disk: DiskUse | None = None

    @cached_property
    def listed(self) -> tuple[Model, ...]:
        return tuple(self.models.values())


class Scan(QObject):
    """Scans the library; `found` carries a `Shelf`, which is `context.shelf` from then on.

    The first one is what the last start has found. Asked again while at it, it scans once more
    afterwards: what is shown is never older than the last request, unless nothing was shown so far.
    """

    found = Signal(object)
    failed = Signal(object)
    """An EngineError; what has been found before still counts."""

    def __init__(self, context: AppContext) -> None:
        super().__init__(context)
        self.is_running = False
        self._context = context
        self._start_worker: StartWorker = start_worker
        self._worker: Worker | None = None
        self._lock = threading.Lock()
        self._is_closed = False
        self._has_died = False
        self._is_asked_again = False
        self._stage = ""
        self._relay = Relay(self)
        self._relay.heard.connect(self._on_heard)

    def start(self) -> None:
        """Look through the library, beside the window, as soon as that has painted itself."""
        if self.is_running:
            self._is_asked_again = True
            return
        self.is_running, self._has_died = True, False
        QTimer.singleShot(0, self._begin)

    def shutdown(self) -> None:
        """Let the worker end; nothing is heard of it any more."""
        with self._lock:
            self._is_closed = True
        if self._worker:
            self._worker.stop(wait=False)

    # On other threads

    def _ask(self, settings: Settings, devices: tuple[Device, ...], shelf: Shelf | None) -> None:
        """Give the worker its job; before the first, tell what the last start has found.

        Raises WorkerCrashed where no worker can be started.
        """
        import engine.fit.job  # noqa: F401 - the window judges what is found: it need not wait
        from engine.hardware import detect
        from engine.other_apps import places
        from engine.scan import ScanLibrary, pack, recall

        worker = self._wake()
        if worker is None:
            return
        cache = self._context.folders.cache
        if shelf is None:
            shelf = Shelf(recall(cache), detect(devices))
            if shelf.models:
                self._tell(shelf)
        job = ScanLibrary(
            models_folder=settings.models_folder,
            added=pack((*settings.added_models, str(starter.MODEL))),
            places=tuple(places()),
            cache_folder=str(cache),
            devices=devices,
            known=tuple(shelf.models),
        )
        worker.run(job, partial(self._hear, shelf.models))

    def _wake(self) -> Worker | None:
        """The worker, started unless it is there; None when the window closes."""
        with self._lock:
            if self._is_closed:
                return None
            if not (self._worker and self._worker.is_alive):
                try:
                    self._worker = self._start_worker(lambda _reason: None)
                except OSError as error:
                    raise not_started(error) from error
                with contextlib.suppress(AttributeError, OSError):  # not on Windows
                    os.setpriority(os.PRIO_PROCESS, self._worker.pid, NICENESS)
            return self._worker

    def _hear(self, known: dict[str, Model], event: Stepped | Outcome) -> None:
        from engine.client import Stepped, Succeeded
        from engine.scan import Model, unpack

        match event:
            case Stepped(step=Progress(stage=stage)):
                self._stage = stage
            case Succeeded(result=found):
                all_models = known | {d: unpack(model, Model) for d, model in found.new.items()}
                models = {digest: all_models[digest] for digest in found.digests}
                self._tell(Shelf(models, found.computer, found.leftovers, found.disk))
            case _:
                self._tell(event)

    def _tell(self, event: object) -> None:
        with contextlib.suppress(RuntimeError):  # the window closed and took this object along
            self._relay.tell(event)

    # On the window's

    def _begin(self) -> None:
        self._stage = ""  # of the worker before, while there is no other
        context = self._context
        work = partial(self._ask, context.settings.value, context.computer.devices, context.shelf)
        in_background(self, work, lambda _: None, self._fail)

    def _on_heard(self, event: Shelf | Outcome) -> None:
        from engine.client import Failed

        if self._is_closed:
            return
        match event:
            case Shelf(disk=None):
                self._show(event)
            case Shelf():
                self._end(event)
            case Failed(error=error):
                self._on_failed(error)

    def _on_failed(self, error: EngineError) -> None:
        assert self._worker
        if self._worker.is_alive:
            self._fail(error)
        elif self._has_died:
            self._fail(self._explain_death(error))
        else:  # who knows what killed it: once more
            self._has_died = True
            self._begin()

    def _explain_death(self, error: EngineError) -> EngineError:
        from engine.errors import WorkerCrashed

        return WorkerCrashed(
            "The engine stopped twice while it looked for models.",
            hint=f"{self._stage} was the last it did: move that file elsewhere, then press F5."
            if self._stage
            else "Close other programs, then press F5.",
            details=error.details,
        )

    def _fail(self, error: EngineError) -> None:
        self._end(None)
        self.failed.emit(error)

    def _end(self, shelf: Shelf | None) -> None:
        self.is_running = False
        is_asked_again, self._is_asked_again = self._is_asked_again, False
        if is_asked_again:
            self.start()
        if shelf and not (is_asked_again and self._context.shelf):
            self._show(shelf)

    def _show(self, shelf: Shelf) -> None:
        self._context.shelf = shelf
        self.found.emit(shelf)
