"""A file in the making: `name.partial` beside its target, and the note that says how to go on.

The partial file is locked while it is written. One without a lock was left by a job that was killed
or paused: the note `name.partial.json` says which, and how much of the file is on the disk for
certain. Notes are input like any other: whoever goes on compares what is there with what it makes.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys
import time
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from engine import __version__
from engine.errors import AlreadyExists
from engine.files import Mark, bytes_on_disk, lock, replace_bytes
from engine.jobs import Job

log = logging.getLogger(__name__)

J = TypeVar("J", bound=Job)

PARTIAL = ".partial"
MAX_NOTE_BYTES = 1 << 20
TRIES, PAUSE_S = 10, 0.02


class Note(msgspec.Struct, frozen=True):
    """What goes on with a partial file: `job`, as JSON, while its `sources` are what they were.

    Of the `size_bytes` that the file will have, the first `done_bytes` are on the disk for certain.
    Another `version` of Snug may write other bytes.
    """

    job: msgspec.Raw
    sources: dict[str, Mark]
    size_bytes: int
    done_bytes: int = 0
    version: str = __version__

    @classmethod
    def of(cls, job: Job, sources: Mapping[str, Mark], size_bytes: int) -> Self | None:
        """None for a job that names what is no text: a file's name may be any bytes."""
        try:
            return cls(msgspec.Raw(msgspec.json.encode(job)), dict(sources), size_bytes)
        except UnicodeEncodeError:
            return None

    def read_job(self, kind: type[J]) -> J | None:
        """`job`, if it is of this kind."""
        try:
            return msgspec.json.decode(self.job, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            log.info("no job to go on with: %s", error)
            return None

    def is_of_same(self, other: Note) -> bool:
        """Whether both are of files that may have the same bytes."""
        mine, theirs = ((note.version, note.sources, note.size_bytes) for note in (self, other))
        return mine == theirs


def partial_of(target: Path) -> Path:
    return target.with_name(target.name + PARTIAL)


def note_of(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


def read_note(partial: Path) -> Note | None:
    """The note of a file that was left; None where there is none to go by.

    Nothing goes on with a file of two names: it may be a finished model, whose job was killed
    between giving it its name and taking this one away. Nor with a link.
    """
    try:
        found, path = partial.lstat(), note_of(partial)
        if not (stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and path.is_file()):
            return None
        with path.open("rb") as file:
            data = file.read(MAX_NOTE_BYTES + 1)
        note = msgspec.json.decode(data, type=Note)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        log.info("nothing to go on from: %s", error)
        return None
    is_sound = len(data) <= MAX_NOTE_BYTES and 0 <= note.done_bytes <= note.size_bytes < 1 << 63
    return note if is_sound and note.done_bytes <= found.st_size else None


def save_note(partial: Path, note: Note, done_bytes: int) -> None:
    """Write down that `done_bytes` are on the disk; raises what `replace_bytes` does."""
    note = msgspec.structs.replace(note, done_bytes=done_bytes)
    replace_bytes(note_of(partial), msgspec.json.encode(note))


def drop_note(partial: Path) -> None:
    """Remove the note, and what a kill can leave of a new one."""
    note = note_of(partial)
    for path in (note, note.with_name(note.name + ".new")):
        path.unlink(missing_ok=True)


def open_partial(partial: Path, note: Note | None) -> tuple[FileIO, int]:
    """Open `partial` for this process alone; returns how many bytes in it are to go on from.

    That is what a job of the same `note` has left; all else is unlinked, and never written over.
    Raises AlreadyExists while another process writes it, and OSError.
    """
    if note and (left := _left(partial, note)):
        return left
    busy = AlreadyExists(
        f"{partial.stem} is being written by another job.",
        hint="Wait until it has ended, or choose another name.",
        details=str(partial),
    )
    if not remove_partial(partial):
        raise busy
    try:
        # Unbuffered: after a full disk, closing has nothing left to write and cannot fail again.
        file = FileIO(partial, "x+")
    except FileExistsError as error:
        raise busy from error
    if not _lock(file):  # the other one takes it for a left one, and will replace it
        file.close()
        raise busy
    return file, 0


def _left(partial: Path, note: Note) -> tuple[FileIO, int] | None:
    with contextlib.suppress(FileNotFoundError):
        file = FileIO(partial, "r+")
        if _lock(file) and is_ours(file, partial):
            old = read_note(partial)
            if old and old.is_of_same(note):
                return file, old.done_bytes
        file.close()
    return None


def remove_partial(partial: Path) -> bool:
    """Unlink `partial`, if it is there, and its note; False if a process is writing it."""
    try:
        with FileIO(partial, "r+") as left:
            if not (_lock(left) and is_ours(left, partial)):
                return False
            drop_note(partial)
            release_on_windows(left)
            patiently(partial.unlink)
    except FileNotFoundError:
        drop_note(partial)
    return True


def room_of(partial: Path) -> int:
    """How many bytes of the disk become free with `partial`, or are gone on from."""
    with contextlib.suppress(OSError):
        if partial.lstat().st_nlink == 1:
            return bytes_on_disk(partial)
    return 0


def is_ours(file: FileIO, partial: Path) -> bool:
    """Whether `partial` still is the name of the open `file`."""
    if os.name == "nt":  # nobody can take an open file's name away
        return True
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), partial.stat())
    return False


def release_on_windows(file: FileIO) -> None:
    """Close `file` where an open file cannot be renamed; elsewhere the lock is kept to the end."""
    if os.name == "nt":
        file.close()


def patiently(act: Callable[[], object]) -> None:
    """Rename or unlink: Windows refuses that while another process looks whether it is written."""
    for _ in range(TRIES if sys.platform == "win32" else 0):
        try:
            act()
            return
        except PermissionError:
            time.sleep(PAUSE_S)
    act()


def _lock(file: FileIO) -> bool:
    """Lock `file`; who only looks whether it is written holds the lock for a moment."""
    for _ in range(TRIES):
        if lock(file):
            return True
        time.sleep(PAUSE_S)
    return False
