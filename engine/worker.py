"""The child process in which everything heavy and everything fragile happens.

The main thread reads requests, one other thread runs the jobs in turn, so a cancel is heard at
once. A closed stdin means pause: the window is gone. Nothing but events is written to stdout.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from engine import gpu_modules, protocol
from engine.calibrate.job import Calibrate
from engine.convert.job import Convert
from engine.convert.lora.job import ConvertAdapter
from engine.detect import Detect
from engine.duplicates import FindDuplicates
from engine.errors import EngineError, ErrorReport, InferenceError, OutOfMemory
from engine.fit.job import Fit
from engine.hub.download import Download
from engine.hub.here import FindHere
from engine.hub.search import Describe, Search
from engine.hub.token import AskToken, KeepToken
from engine.hub.verify import Verify
from engine.inference import Bench, Generate, Load
from engine.jobs import Paused, Step
from engine.move import MoveModels
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
from engine.quantize.ladder import Ladder
from engine.quantize.quality import Quality
from engine.quantize.recommend import Recommend
from engine.quantize.shrink import Shrink
from engine.quantize.shrink_to_size import ShrinkToSize
from engine.scan import ScanLibrary
from engine.selftest import SelfTest
from engine.updates import LookForUpdate

log = logging.getLogger(__name__)

AnyJob = (
    Convert
    | ConvertAdapter
    | Shrink
    | ShrinkToSize
    | Calibrate
    | Quality
    | Ladder
    | Recommend
    | Detect
    | Fit
    | Load
    | Generate
    | Bench
    | Search
    | Describe
    | FindHere
    | Download
    | AskToken
    | KeepToken
    | LookForUpdate
    | Verify
    | MoveModels
    | FindDuplicates
    | ScanLibrary
    | SelfTest
)

GRACE_S = 5.0
"""How long a job may take to notice that it was cancelled before the process ends itself."""


class Worker:
    """Runs one job at a time and keeps the model that a `Load` job has loaded."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._requests: queue.SimpleQueue[Run | None] = queue.SimpleQueue()
        self._cancelled: set[int] = set()
        self._paused: set[int] = set()
        self._running: int | None = None
        self._session: Any = None
        self._decode_job = msgspec.json.Decoder(AnyJob).decode

    def serve(self, requests: BinaryIO) -> None:
        """Obey `requests` until they end."""
        jobs = threading.Thread(target=self._run_jobs, name="jobs", daemon=True)
        jobs.start()
        for line in requests:
            if not line.endswith(b"\n"):  # cut off: whoever wrote it is gone
                break
            request = protocol.decode_request(line)
            if isinstance(request, Cancel):
                self._stop(request.id, self._cancelled)
            elif isinstance(request, Pause):
                self._stop(request.id, self._paused)
            else:
                self._requests.put(request)
        if (running := self._running) is not None:
            self._stop(running, self._paused)
        self._requests.put(None)
        jobs.join(GRACE_S)

    def send(self, event: protocol.Event) -> None:
        with contextlib.suppress(OSError):  # nobody hears it: the closed stdin will tell
            self._out.write(protocol.encode(event) + b"\n")

    def _stop(self, job_id: int, stopped: set[int]) -> None:
        stopped.add(job_id)
        if job_id != self._running:
            return
        if self._session is not None:
            self._session.interrupt()
        # A job that hangs in the system, on a dead network drive say, hears nothing.
        last_resort = threading.Timer(GRACE_S, self._end_unless_over, (job_id,))
        last_resort.daemon = True
        last_resort.start()

    def _end_unless_over(self, job_id: int) -> None:
        if job_id == self._running:
            log.error("job %d did not hear its cancel", job_id)
            logging.shutdown()
            os._exit(protocol.STUCK_STATUS)

    def _run_jobs(self) -> None:
        while (request := self._requests.get()) is not None:
            self._running = request.id
            self.send(self._run(request))
            self._running = None
            self._cancelled.discard(request.id)
            self._paused.discard(request.id)
        if self._session is not None:
            self._session.close()

    def _run(self, request: Run) -> ResultEvent | ErrorEvent | CancelledEvent:
        try:
            job = self._decode_job(request.job)
            steps = self._start(job)
            try:
                while request.id not in self._cancelled | self._paused:
                    self.send(StepEvent(request.id, next(steps)))
                if request.id not in self._cancelled:
                    steps.throw(Paused())
                return CancelledEvent(request.id)
            except Paused:
                return CancelledEvent(request.id)
            except StopIteration as stop:
                return ResultEvent(request.id, self._keep(job, stop.value))
            finally:
                steps.close()
        except EngineError as error:
            return ErrorEvent(request.id, _readable(error.report()))
        except MemoryError as error:
            out_of_memory = OutOfMemory(
                "There was not enough memory to finish.",
                hint="Close other programs or choose a smaller model.",
                details=str(error),
            )
            return ErrorEvent(request.id, out_of_memory.report())
        except Exception as error:  # a bug of ours: told as such, and the worker lives on
            log.exception("job failed")
            message = f"Snug made a mistake: {type(error).__name__}: {error}"
            report = ErrorReport("Bug", message, "", traceback.format_exc())
            return ErrorEvent(request.id, _readable(report))

    def _start(self, job: AnyJob) -> Generator[Step, None, Any]:
        if isinstance(job, Generate):
            if self._session is None:
                raise InferenceError("No model is loaded.", hint="Choose a model first.")
            return job.run(self._session)
        if isinstance(job, Load) and self._session is not None:
            self._session.close()
            self._session = None
        return job.run()

    def _keep(self, job: AnyJob, result: Any) -> msgspec.Raw:
        if isinstance(job, Load):
            self._session = result
            result = result.info
        return msgspec.Raw(protocol.encode(result))


def _readable(report: ErrorReport) -> ErrorReport:
    """`report` as JSON can hold it: what a file says of itself may be no text (lone surrogates)."""
    parts = msgspec.structs.astuple(report)
    return ErrorReport(*(part.encode("utf-8", "replace").decode("utf-8") for part in parts))


def main() -> int:
    """Serve stdin until it closes; what other code prints goes to the log on stderr."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    # Ctrl+C in a terminal reaches every process of it; whoever started this one decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for told in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(told, _close_stdin)
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    _be_the_first_to_go()
    gpu_modules.take_back()  # for one of the same number that is gone
    worker = Worker(out)
    worker.send(Ready(protocol.VERSION, os.getpid()))
    worker.serve(sys.stdin.buffer)
    logging.shutdown()
    # Not `return`: a job that does not hear its cancel must not keep the process, and its memory.
    os._exit(0)


def _close_stdin(*_: object) -> None:
    """Told to end, by a closed terminal or a `kill` of the whole group: tidy up as always.

    Raises nothing: stdin may have ended just before, and a job be tidying up already.
    """
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)


def _be_the_first_to_go() -> None:
    """Offer this process, not the window, to Linux's out-of-memory killer."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    except OSError as error:
        log.debug("oom_score_adj not set: %s", error)
