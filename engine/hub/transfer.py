"""Brings one file from a server here, whole: several ranges at once, and on after any failure.

Each connection takes the next missing piece and asks for it with `Range` and `If-Range`; more of
them are opened while it goes slowly. After a failure one waits, longer each time, and goes on where
the piece broke off. Only a 206 with the range that was asked for is believed; anything else is a
change of the file, or an error in words.
"""

from __future__ import annotations

import contextlib
import email.utils
import logging
import queue
import random
import re
import threading
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import urllib3
from urllib3.exceptions import HTTPError, MaxRetryError, ResponseError

from engine.errors import AccessDenied, CorruptFile, DiskFull, EngineError, NetworkError, NotFound
from engine.hub.connections import open_pool
from engine.hub.digest import Digest
from engine.hub.part import Part, Wanted
from engine.jobs import Progress

log = logging.getLogger(__name__)

CONNECTIONS = 4
FAST = 200e6
"""Bytes a second at which another connection would only be in the way of the others."""
OPEN_EVERY_S = 0.5
STALLED_S = 20.0
"""Without a byte for so long a connection is given up for a new one."""
READ_BYTES = 1 << 20
STOP_S = 2.0
"""How long a connection that waits for an answer is waited for at the end."""
MOST_FAILURES = 8
"""In a row, of one connection, without a byte between them: some two minutes."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
MOST_CHANGES = 2
TICK_S = 0.1
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")


class _Changed(Exception):
    """The server has another version of the file than the part; carries its ETag."""


class _NoRanges(Exception):
    """The server sends the whole file, whatever part of it was asked for."""


class _Refused(Exception):
    """This answer is of no use, another may be; carries how long the server wants to be left."""

    def __init__(self, why: str, seconds: float = 0.0) -> None:
        super().__init__(why)
        self.seconds = seconds


def transfer(
    wanted: Wanted,
    target: Path,
    headers: Mapping[str, str] | None = None,
    bytes_per_second: int = 0,
) -> Generator[Progress, None, Path]:
    """Download `wanted` to `target`; closing the generator keeps what is here for another time.

    `bytes_per_second` 0 is as fast as it goes. Raises NetworkError, AccessDenied, NotFound (also
    where the server has no such file), DiskFull and its kin, and CorruptFile for bytes that are
    not what the server promised: then nothing is kept.
    """
    part = Part(target, wanted)
    try:
        for _ in range(MOST_CHANGES + 1):
            try:
                with Digest(part) as digest:
                    yield from _Transfer(part, dict(headers or {}), bytes_per_second).run()
                    yield from digest.verify()
                break
            except _NoRanges:
                part.begin_again(piece_bytes=wanted.size_bytes)
            except _Changed:
                part.begin_again()
        else:
            raise NetworkError(
                f"{target.name} changes on the server while it is downloaded.",
                hint="Try again later.",
            )
        part.publish()
        return target
    except CorruptFile:
        part.discard()
        raise
    except DiskFull as error:
        hint = "Free some space, then resume: what has arrived is kept."
        raise DiskFull(error.message, hint=hint, details=error.details) from error
    except EngineError:
        if not part.done_bytes:
            part.discard()  # no piece is whole: there is nothing to go on from
        raise
    finally:
        part.close()


class _Transfer:
    """The connections of one try."""

    def __init__(self, part: Part, headers: dict[str, str], bytes_per_second: int) -> None:
        self._part = part
        self._headers = {**headers, "Accept-Encoding": "identity", "User-Agent": "snug"}
        self._pieces: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in part.missing():
            self._pieces.put(number)
        self._lock = threading.Lock()
        self._received = self._received_then = part.done_bytes
        self._threads: list[threading.Thread] = []
        self._opened = 0.0
        self._answers: dict[int, urllib3.BaseHTTPResponse] = {}
        self._pool = open_pool(part.wanted.url, CONNECTIONS, STALLED_S)
        self._error: Exception | None = None
        self._stop = threading.Event()
        self._per_second = bytes_per_second
        self._started = time.monotonic()
        self._allowed_from = self._received

    def run(self) -> Generator[Progress, None, None]:
        """Fetch every piece that is missing; raises also _Changed and _NoRanges."""
        try:
            while working := self._working():
                yield self._progress()
                working[0].join(TICK_S)
        finally:
            self._stop.set()
            for answer in list(self._answers.values()):
                # It may have ended by itself, or do so meanwhile in its own thread.
                with contextlib.suppress(RuntimeError, ValueError, TypeError, OSError):
                    answer.shutdown()
            for thread in self._threads:
                thread.join(STOP_S)
            self._pool.clear()
            self._part.save()
        if self._error:
            raise self._error
        yield self._progress()

    def _working(self) -> list[threading.Thread]:
        """The connections at work, with a new one where pieces wait and there is room for it."""
        n = len(self._threads)
        seconds = time.monotonic() - self._opened
        is_fast = self._received - self._received_then > FAST * seconds
        has_room = n < CONNECTIONS and seconds > OPEN_EVERY_S and not is_fast
        if (n == 0 or has_room) and not self._pieces.empty() and not self._stop.is_set():
            self._opened, self._received_then = time.monotonic(), self._received
            thread = threading.Thread(target=self._work, name=f"download-{n}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return [thread for thread in self._threads if thread.is_alive()]

    def _progress(self) -> Progress:
        total = self._part.wanted.size_bytes
        return Progress("Downloading", min(self._received, total), total, "bytes")

    def _work(self) -> None:
        """Fetch pieces until there are none, or something ends the try."""
        try:
            while not self._stop.is_set():
                number = self._pieces.get_nowait()
                self._fetch(number)
        except queue.Empty:
            pass
        except Exception as error:  # noqa: BLE001 - `run` raises it in the thread that asked
            with self._lock:
                self._error = self._error or error
            self._stop.set()

    def _fetch(self, number: int) -> None:
        """Fetch one piece, with as many answers as it takes."""
        at, stop = self._part.piece(number)
        n_failures = 0
        while at < stop and not self._stop.is_set():
            before = at
            try:
                for n_bytes in self._read(at, stop):
                    at += n_bytes
                if at < stop and not self._stop.is_set():
                    raise _Refused("the answer ended early")
            except (HTTPError, _Refused) as error:
                if isinstance(error, MaxRetryError) and isinstance(error.reason, ResponseError):
                    raise NetworkError(
                        "The server sends the download round in a circle.", hint="Try again later."
                    ) from error
                if self._stop.is_set():
                    return
                n_failures = 0 if at > before else n_failures + 1
                self._pause(error, n_failures)
        if at >= stop:
            self._part.mark(number)

    def _read(self, at: int, stop: int) -> Generator[int, None, None]:
        """Ask for the bytes from `at` to `stop`; yields how many more are written."""
        headers = {**self._headers, "Range": f"bytes={at}-{stop - 1}"}
        if self._part.journal.etag:
            headers["If-Range"] = self._part.journal.etag
        url = self._part.wanted.url
        answer = self._pool.request("GET", url, headers=headers, preload_content=False)
        me = threading.get_ident()
        self._answers[me] = answer
        try:
            self._judge(answer, at, stop)
            # As it comes: a cut loses nothing that was received.
            while at < stop and (data := answer.read1(READ_BYTES, decode_content=False)):
                if self._stop.is_set():
                    return
                view = memoryview(data)[: stop - at]
                self._part.write(at, view)
                at += len(view)
                yield len(view)
                self._count(len(view))
        finally:
            del self._answers[me]
            if at < stop:
                answer.close()  # not read to its end, its connection carries no other
            answer.release_conn()

    def _judge(self, response: urllib3.BaseHTTPResponse, at: int, stop: int) -> None:
        """Let an answer pass that is the range asked for, of the version that the part has."""
        status = response.status
        etag = response.headers.get("ETag", "")
        if status == 206:
            said = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if not said or int(said[1]) != at or int(said[2]) != stop - 1:
                raise _Refused("another range than was asked for")
            if int(said[3]) != self._part.wanted.size_bytes:
                raise _Changed(etag)
            self._keep_version(etag)
        elif status == 200 and self._part.journal.etag not in ("", etag):
            raise _Changed(etag)
        elif status == 200 and at == 0:
            self._keep_version(etag)  # a server without ranges: the beginning is there, in order
        elif status == 200:
            raise _NoRanges
        elif status == 416:
            raise _Changed(etag)
        else:
            raise _refusal(response)

    def _keep_version(self, etag: str) -> None:
        with self._lock:
            known = self._part.journal.etag
            if not known and not etag.startswith("W/"):
                self._part.journal.etag = known = etag
        if etag and known and etag != known:
            raise _Changed(etag)

    def _count(self, n_bytes: int) -> None:
        """Note what has come, and wait if that was faster than is allowed."""
        with self._lock:
            self._received += n_bytes
            if not self._per_second:
                return
            due = self._started + (self._received - self._allowed_from) / self._per_second
        self._stop.wait(max(0.0, due - time.monotonic()))

    def _pause(self, error: Exception, n_failures: int) -> None:
        """Wait before another answer is asked for; raises NetworkError after too many failures."""
        log.info("download interrupted (%d): %s", n_failures, error)
        if n_failures >= MOST_FAILURES:
            raise NetworkError(
                f"The download of {self._part.target.name} does not go on.",
                hint="Check the connection and try again: it continues where it stopped.",
                details=f"{type(error).__name__}: {error}",
            )
        asked = error.seconds if isinstance(error, _Refused) else 0.0
        pause = (
            min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**n_failures * random.uniform(0.5, 1))
            if n_failures
            else 0
        )
        self._stop.wait(max(asked, pause))


def _refusal(response: urllib3.BaseHTTPResponse) -> Exception:
    """What a status other than success means: an error in words, or a reason to ask again."""
    status = response.status
    details = f"HTTP {status} from {urlsplit(response.url or '').hostname}"
    if status in (401, 403):
        return AccessDenied(
            "The server does not hand out this file without permission.",
            hint="Accept the model's licence on its page, and give Snug an access token.",
            details=details,
        )
    if status == 407:
        return NetworkError(
            "The proxy wants a name and a password.",
            hint="Give them in HTTPS_PROXY: http://name:password@host:port.",
            details=details,
        )
    if status in (404, 410):
        return NotFound("The server has no such file.", hint="Look for it again.", details=details)
    if status in (408, 425, 429) or status >= 500:
        return _Refused(details, _retry_after(response.headers.get("Retry-After", "")))
    return NetworkError("The server's answer makes no sense.", details=details)


def _retry_after(text: str) -> float:
    """Seconds, or a date, as HTTP has it; at most a minute."""
    if re.fullmatch("[0-9]{1,9}", text):
        return min(float(text), LONGEST_PAUSE_S)
    try:
        then = email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return 0.0
    return min(max(0.0, then - time.time()), LONGEST_PAUSE_S)
