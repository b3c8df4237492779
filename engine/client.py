"""The handle on a worker process: start it, give it jobs, stop it, and say why it died.

Knows processes and threads, no Qt. Events arrive on a reader thread; who shows them must take
them to its own thread.
"""

from __future__ import annotations

import logging
import queue
import re
import subprocess
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from engine import gpu_modules, processes, protocol
from engine.errors import (
    OUT_OF_MEMORY_WORDS,
    DeviceLost,
    EngineError,
    InferenceError,
    OutOfMemory,
    StorageError,
    UnsupportedArchitecture,
    WorkerCrashed,
)
from engine.inference import Generate
from engine.jobs import Step
from engine.protocol import (
    Cancel,
    CancelledEvent,
    ErrorEvent,
    Pause,
    Ready,
    ResultEvent,
    Run,
    StepEvent,
)

log = logging.getLogger(__name__)

LOG_LINES = 200
LAST_LINES = 30
"""Those in which a dead worker says why."""
STOP_S = 6.0
"""A worker ends itself within 5 s of a closed stdin; after this it is terminated, then killed."""


class Stepped(msgspec.Struct, frozen=True):
    step: Step


class Succeeded(msgspec.Struct, frozen=True):
    """`result` is the job's `Result`."""

    result: Any


class Failed(msgspec.Struct, frozen=True):
    error: EngineError


class Cancelled(msgspec.Struct, frozen=True):
    pass


Outcome = Succeeded | Failed | Cancelled
Listener = Callable[[Stepped | Outcome], None]


class Call:
    """A job given to a worker. It ends with exactly one Succeeded, Failed or Cancelled."""

    def __init__(self, worker: Worker, call_id: int, job: Any, listener: Listener) -> None:
        self._worker = worker
        self._id = call_id
        self._result_type = type(job).Result
        self._listener = listener
        self._is_cancelled = False

    def cancel(self) -> None:
        """Ask the job to end. A worker that does not within 5 s ends itself, as Cancelled too."""
        self._is_cancelled = True
        self._worker._send(Cancel(self._id))

    def pause(self) -> None:
        """Ask the job to end as `cancel` does, and to keep what it can go on from."""
        self._is_cancelled = True
        self._worker._send(Pause(self._id))

    def _hear(self, event: StepEvent | ResultEvent | ErrorEvent | CancelledEvent) -> None:
        match event:
            case StepEvent(step=step):
                self._listener(Stepped(step))
            case ResultEvent(result=raw):
                self._listener(Succeeded(msgspec.json.decode(raw, type=self._result_type)))
            case ErrorEvent(error=report):
                self._listener(Failed(EngineError.revive(report)))
            case CancelledEvent():
                self._listener(Cancelled())

    def _fail(self, error: EngineError) -> None:
        self._listener(Failed(error))


class Worker:
    """A running child process. Make one with `Worker.start()`, end it with `stop()`."""

    def __init__(
        self, process: subprocess.Popen[bytes], on_exit: Callable[[EngineError | None], None] | None
    ) -> None:
        self.ready: Ready | None = None
        self.log_tail: deque[str] = deque(maxlen=LOG_LINES)
        self._process = process
        self._on_exit = on_exit
        self._lock = threading.Lock()
        self._calls: dict[int, Call] = {}
        self._next_id = 0
        self._stopping = False
        self._death: EngineError | None = None
        self._log_reader = threading.Thread(target=self._read_log, daemon=True)
        self._log_reader.start()
        self._reader = threading.Thread(target=self._read_events, daemon=True)
        self._reader.start()

    @classmethod
    def start(
        cls,
        on_exit: Callable[[EngineError | None], None] | None = None,
        *,
        device: str = processes.AUTO,
        command: list[str] | None = None,
    ) -> Worker:
        """Start a worker and return at once; jobs may be given before it is ready.

        It computes on `device`: "auto", "cpu", or one by its name.
        `on_exit` is called on the reader thread when the process has ended: with None after
        `stop()`, else with the reason.
        """
        process = subprocess.Popen(
            command or processes.command("worker"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # Not the user's folder: llama.cpp would run what it finds there as a backend.
            cwd=processes.FOLDER,
            env=processes.environment(device),
            # On Windows a console program would open a black window beside ours.
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        return cls(process, on_exit)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def run(self, job: Any, listener: Listener) -> Call:
        """Give `job` to the worker; `listener` hears its events on a reader thread."""
        refusal: EngineError | None = None
        try:
            encoded = msgspec.Raw(protocol.encode(job))
        except UnicodeEncodeError as error:
            encoded, refusal = msgspec.Raw(), _not_text(job, error)
        with self._lock:
            call = Call(self, self._next_id, job, listener)
            self._next_id += 1
            refusal = refusal or self._death
            if refusal is None:
                self._calls[call._id] = call
        if refusal is not None:
            call._fail(refusal)
        else:
            self._send(Run(call._id, encoded))
        return call

    def finish(self, job: Any, on_step: Callable[[Step], None] | None = None) -> Any:
        """Run `job` to its end and return its result; `on_step` sees each step, on this thread.

        Raises the job's EngineError. A KeyboardInterrupt cancels the job, then goes on its way.
        """
        events: queue.SimpleQueue[Stepped | Outcome] = queue.SimpleQueue()
        call = self.run(job, events.put)
        try:
            while isinstance(event := events.get(), Stepped):
                if on_step:
                    on_step(event.step)
        except KeyboardInterrupt:
            call.cancel()
            while isinstance(events.get(), Stepped):
                pass
            raise
        match event:
            case Succeeded(result=result):
                return result
            case Failed(error=error):
                raise error
            case Cancelled():
                raise KeyboardInterrupt

    def stop(self, *, wait: bool = True) -> None:
        """End the process: ask, then terminate, then kill. Open calls fail or are cancelled."""
        self._stopping = True
        self._close_stdin()
        if wait:
            self._reap()
        else:
            threading.Thread(target=self._reap, daemon=True).start()

    def _reap(self) -> None:
        for give_up in (self._process.terminate, self._process.kill):
            try:
                self._process.wait(STOP_S)
                break
            except subprocess.TimeoutExpired:
                give_up()
        self._process.wait()
        if threading.current_thread() is not self._reader:
            self._reader.join(STOP_S)

    def _close_stdin(self) -> None:
        assert self._process.stdin
        with self._lock:
            try:
                self._process.stdin.close()
            except OSError as error:  # it died first; the reader thread says so
                log.debug("closing stdin: %s", error)

    def _send(self, request: protocol.Request) -> None:
        assert self._process.stdin
        with self._lock:
            try:
                self._process.stdin.write(protocol.encode(request) + b"\n")
                self._process.stdin.flush()
            except (OSError, ValueError) as error:  # dead or stopping; the reader thread says so
                log.debug("request not sent: %s", error)

    def _read_log(self) -> None:
        assert self._process.stderr
        with self._process.stderr as lines:
            for line in lines:
                text = line.decode("utf-8", "replace").rstrip()
                self.log_tail.append(text)
                log.debug("worker %d: %s", self.pid, text)

    def _read_events(self) -> None:
        assert self._process.stdout
        with self._process.stdout as lines:
            for line in lines:
                try:
                    self._hear(protocol.decode_event(line))
                except msgspec.MsgspecError as error:
                    log.error("worker %d said something unknown: %s", self.pid, error)
                    self._process.kill()
        exit_status = self._process.wait()
        self._log_reader.join(1.0)
        self._end(exit_status)

    def _hear(self, event: protocol.Event) -> None:
        if isinstance(event, Ready):
            self.ready = event
            return
        if isinstance(event, StepEvent):
            call = self._calls.get(event.id)
        else:
            with self._lock:
                call = self._calls.pop(event.id, None)
        if call:
            call._hear(event)

    def _end(self, exit_status: int) -> None:
        reason = explain_death(exit_status, list(self.log_tail))
        with self._lock:
            self._death = reason
            was_stopped = self._stopping  # who hears of a failed call may stop it now
            open_calls = list(self._calls.values())
            self._calls.clear()
        self._close_stdin()
        for call in open_calls:
            if self._stopping or call._is_cancelled:
                call._listener(Cancelled())
            else:
                call._fail(reason)
        # Only now: it may wait for another process. And not later: then a model is loaded again.
        is_fault = isinstance(reason, WorkerCrashed | DeviceLost) and processes.is_crash(
            exit_status
        )
        has_crashed = is_fault and not blames_model(list(self.log_tail))
        gpu_modules.hear_of_end(self.pid, has_crashed=has_crashed)
        if self._on_exit:
            self._on_exit(None if was_stopped else reason)


def _not_text(job: Any, error: UnicodeEncodeError) -> EngineError:
    """The refusal of a job with a lone surrogate: a `Generate` carries text, the others name files.

    On Unix the name of a file, and what comes through a pipe, may be any bytes.
    """
    details = ascii(error.object)[:200]
    if isinstance(job, Generate):
        return InferenceError(
            "This text holds a character that is not valid Unicode.",
            hint="Remove it, or save the text as UTF-8, then try again.",
            details=details,
        )
    return StorageError(
        "The name of this file or folder is not valid text.",
        hint="Rename it, then try again.",
        details=details,
    )


DEATHS: tuple[tuple[tuple[str, ...], type[EngineError], str, str], ...] = (
    (
        OUT_OF_MEMORY_WORDS,
        OutOfMemory,
        "There was not enough memory to go on.",
        "Use a shorter context or a smaller model, or close other programs.",
    ),
    (
        ("device lost", "devicelost", "cuda error", "ggml_metal: error"),
        DeviceLost,
        "The graphics processor stopped answering.",
        "Load the model again; if it happens again, use the processor instead.",
    ),
    (
        ("unknown model architecture",),
        UnsupportedArchitecture,
        "This kind of model is not known to the engine.",
        "Look for the same model in another version, or update Snug.",
    ),
)
"""Words in a dead worker's log -> what to tell; the first row that matches the latest line wins."""


# Where llama.cpp gave up: "PATH:LINE: WHY", in a file of its own, of GGUF's or of the processor's.
_OF_MODEL = re.compile(r"(^|[\\/])(llama[\w-]*|gguf|ggml-cpu[\\/][\w\\/.-]+)\.c(pp)?:\d+: ")


def blames_model(log_tail: list[str]) -> bool:
    """Whether a dead worker's log says that llama.cpp gave up on the model, and no driver did."""
    return any(_OF_MODEL.search(line) for line in log_tail[-LAST_LINES:])


def explain_death(exit_status: int, log_tail: list[str]) -> EngineError:
    """Turn the end of a worker into an error; `exit_status` is negative for a signal."""
    details = f"exit status {exit_status}\n" + "\n".join(log_tail)
    if exit_status == protocol.STUCK_STATUS:
        return WorkerCrashed(
            "The engine did not stop when it was asked to, and was ended.",
            hint="Load the model again.",
            details=details,
        )
    for line in reversed(log_tail[-LAST_LINES:]):
        for words, kind, message, hint in DEATHS:
            if any(word in line.lower() for word in words):
                return kind(message, hint=hint, details=details)
    if exit_status == -9:
        return WorkerCrashed(
            "The engine was killed by the system.",
            hint="Most often memory ran out: use a smaller model or a shorter context.",
            details=details,
        )
    return WorkerCrashed(
        "The engine stopped unexpectedly.", hint="Load the model again.", details=details
    )
