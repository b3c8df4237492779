"""A download in the making: the `.part` file and the journal that says which pieces it has.

Both lie beside the target. A kill at any moment costs at most the pieces of the last second; a
journal that does not fit what is wanted now is put away with its part.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import sys
import threading
import time
from io import FileIO
from pathlib import Path

import msgspec

from engine.errors import AlreadyExists, NotFound
from engine.files import allow_holes, as_write_error, bytes_on_disk, disk_full, lock

log = logging.getLogger(__name__)

PIECE_BYTES = 16 << 20
SAVE_EVERY_S = 1.0
SYNC_EVERY_S = 10.0
KEPT_FREE_BYTES = 1 << 30
"""No download takes the last gigabyte of a disk."""


class Wanted(msgspec.Struct, frozen=True):
    """A file as the server describes it; `digest` is "sha256:...", "git-sha1:..." or unknown."""

    url: str
    size_bytes: int
    digest: str = ""


class Journal(msgspec.Struct):
    """What a part has: the numbers of its whole pieces, of the version that `etag` names."""

    wanted: Wanted
    etag: str = ""
    piece_bytes: int = 0
    done: list[int] = []


class Part:
    """The open part of `target`; `write` and `mark` may be called from several threads."""

    def __init__(self, target: Path, wanted: Wanted) -> None:
        """Go on with what is there, or begin; raises NotFound, DiskFull, NotWritable."""
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self._journal_path = target.with_name(target.name + ".part.json")
        self._lock = threading.Lock()
        self._saved = self._synced = time.monotonic()
        self._require_room(wanted)
        self._file = self._open()
        self.journal = self._found(wanted) or Journal(wanted, piece_bytes=PIECE_BYTES)
        allow_holes(self._file)
        with as_write_error(self.path):
            self._file.truncate(wanted.size_bytes)  # sparse: the room is checked, not taken
        self.save()

    @property
    def wanted(self) -> Wanted:
        return self.journal.wanted

    @property
    def n_pieces(self) -> int:
        return -(-self.wanted.size_bytes // self.journal.piece_bytes)

    @property
    def done_bytes(self) -> int:
        """How much is here in whole pieces."""
        with self._lock:
            return sum(
                self.piece(number)[1] - self.piece(number)[0] for number in self.journal.done
            )

    def leading_bytes(self) -> int:
        """How much is here from the beginning on, without a gap."""
        with self._lock:
            done = set(self.journal.done)
        number = next(n for n in itertools.count() if n not in done)
        return min(number * self.journal.piece_bytes, self.wanted.size_bytes)

    def piece(self, number: int) -> tuple[int, int]:
        """Where piece `number` begins and ends."""
        start = number * self.journal.piece_bytes
        return start, min(start + self.journal.piece_bytes, self.wanted.size_bytes)

    def missing(self) -> list[int]:
        with self._lock:
            return sorted(set(range(self.n_pieces)) - set(self.journal.done))

    def write(self, at: int, data: memoryview) -> None:
        """Raises DiskFull, NotWritable, StorageError; what was written before stays."""
        with as_write_error(self.path):
            while data:
                written = self._write_at(at, data)
                at, data = at + written, data[written:]

    def _write_at(self, at: int, data: memoryview) -> int:
        if sys.platform != "win32":
            return os.pwrite(self._file.fileno(), data, at)
        with self._lock:
            self._file.seek(at)
            return self._file.write(data) or 0

    def read(self, at: int, n_bytes: int) -> bytes:
        if sys.platform != "win32":
            return os.pread(self._file.fileno(), n_bytes, at)
        with self._lock:
            self._file.seek(at)
            return self._file.read(n_bytes) or b""

    def mark(self, number: int) -> None:
        """Piece `number` is here; the journal on disk learns it within a second or so."""
        with self._lock:
            self.journal.done.append(number)
            is_due = time.monotonic() - self._saved > SAVE_EVERY_S
        if is_due:
            self.save()

    def save(self) -> None:
        """Write the journal, after the pieces it speaks of if the last sync is some time ago."""
        with self._lock:
            now = time.monotonic()
            if now - self._synced > SYNC_EVERY_S:
                os.fsync(self._file.fileno())
                self._synced = now
            fresh = self._journal_path.with_name(self._journal_path.name + ".new")
            with as_write_error(self._journal_path):
                fresh.write_bytes(msgspec.json.encode(self.journal))
                fresh.replace(self._journal_path)
            self._saved = now

    def begin_again(self, piece_bytes: int = 0) -> None:
        """Forget every piece, and from now on count in others if `piece_bytes` is given."""
        with self._lock:
            self.journal.done, self.journal.etag = [], ""
            self.journal.piece_bytes = piece_bytes or self.journal.piece_bytes
        self.save()

    def close(self) -> None:
        """Keep what is here for another time."""
        self._file.close()

    def publish(self) -> None:
        """Give the whole file its name and take the journal away."""
        with as_write_error(self.target):
            os.fsync(self._file.fileno())
            if os.name == "nt":  # an open file cannot be renamed there
                self.close()
            self.path.replace(self.target)
            self.close()
        self._journal_path.unlink(missing_ok=True)

    def discard(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)
        self._journal_path.unlink(missing_ok=True)

    def _open(self) -> FileIO:
        """The part, new or left from another time; AlreadyExists while someone else fetches it."""
        with as_write_error(self.path):
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
            file = FileIO(fd, "r+")
        if not lock(file):
            file.close()
            raise AlreadyExists(
                f"{self.target.name} is being downloaded already.",
                hint="Wait until that has ended, or choose another folder.",
            )
        return file

    def _found(self, wanted: Wanted) -> Journal | None:
        """The journal of an earlier try, if it is of the same file."""
        try:
            journal = msgspec.json.decode(self._journal_path.read_bytes(), type=Journal)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError) as error:
            log.warning("journal of %s not used: %s", self.target.name, error)
            return None
        same = (journal.wanted.size_bytes, journal.wanted.digest) == (
            wanted.size_bytes,
            wanted.digest,
        )
        is_there = os.fstat(self._file.fileno()).st_size == wanted.size_bytes
        if not (same and is_there and journal.piece_bytes > 0):
            return None
        n_pieces = -(-wanted.size_bytes // journal.piece_bytes)
        journal.done = sorted({number for number in journal.done if 0 <= number < n_pieces})
        journal.wanted = wanted
        return journal

    def _require_room(self, wanted: Wanted) -> None:
        """Raises DiskFull unless what is missing fits and a gigabyte is left."""
        try:
            free_bytes = shutil.disk_usage(self.target.parent).free
        except FileNotFoundError as error:
            raise NotFound(
                f"The folder {self.target.parent} does not exist.",
                hint="Create it, or choose another folder.",
            ) from error
        here_bytes = 0
        with contextlib.suppress(OSError):
            here_bytes = bytes_on_disk(self.path)
        needed_bytes = max(0, wanted.size_bytes - here_bytes) + KEPT_FREE_BYTES
        if free_bytes < needed_bytes:
            raise disk_full(self.target, needed_bytes=needed_bytes, free_bytes=free_bytes)
