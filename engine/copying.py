"""Copies and hashes large files block by block, so that whoever waits sees how far it is."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import sys
from collections import deque
from collections.abc import Generator
from pathlib import Path
from typing import TypeVar

from engine.errors import AlreadyExists, CorruptFile
from engine.files import bytes_on_disk, make_folder, read_error, write_error
from engine.jobs import Progress
from engine.output import new_file

T = TypeVar("T")

BLOCK_BYTES = 4 << 20
_ZEROS = bytes(BLOCK_BYTES)


def told(
    stage: str, steps: Generator[int, None, T], total_bytes: int
) -> Generator[Progress, None, T]:
    """Turn `steps`, which yield how many bytes they have done since, into progress."""
    done_bytes = 0
    try:
        while True:
            done_bytes += next(steps)
            yield Progress(stage, done_bytes, total_bytes, "bytes")
    except StopIteration as stop:
        result: T = stop.value
        return result
    finally:
        steps.close()


def hash_file(path: Path) -> Generator[int, None, str]:
    """Read `path`; returns its SHA-256 in hex. Raises what `read_error` gives."""
    digest = hashlib.sha256()
    for block in _blocks(path):
        digest.update(block)
        yield len(block)
    return digest.hexdigest()


def copy_file(source: Path, target: Path) -> Generator[int, None, None]:
    """Copy `source` and read the copy again; it appears whole, with the same times, or not at all.

    Yields twice its size. Raises CorruptFile for a copy that is another one, what `new_file`
    raises, and what `read_error` gives.
    """
    digest = hashlib.sha256()
    with new_file(target, size_bytes=bytes_on_disk(source)) as copy:
        for block in _blocks(source):
            digest.update(block)
            if block == _ZEROS:  # as in the part of a download: it takes no room there either
                copy.skip(len(block))
            else:
                copy.write(block)
            yield len(block)
    _forget_what_was_read(target)
    if (yield from hash_file(target)) != digest.hexdigest():
        target.unlink()
        raise CorruptFile(
            f"The copy of {source.name} is not what was written.",
            hint="Check the disk, or choose a folder on another one. The model is where it was.",
            details=str(target),
        )
    with contextlib.suppress(OSError):  # a disk that keeps no times
        shutil.copystat(source, target)


def move_path(source: Path, target: Path) -> None:
    """Give a file or folder another place, on another disk too; takes long there.

    Raises AlreadyExists for a place that is taken, and what `copy_file` and `write_error` give.
    """
    if os.path.lexists(target):
        raise AlreadyExists(
            f"Another {target.name} is in {target.parent} by now.",
            hint="Move it away or rename it, then try again.",
            details=str(source),
        )
    make_folder(target.parent)
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise write_error(error, target) from error
        _bring(source, target)


def _bring(source: Path, target: Path) -> None:
    """Copy `source` to another disk and remove it; a folder gets its name when all is in it."""
    is_folder = source.is_dir() and not source.is_symlink()
    staged = target.with_name(f".{target.name}.new")
    try:
        if is_folder:
            _copy_entry(source, staged)
            staged.rename(target)
        else:
            _copy_entry(source, target)
            source.unlink()
    except OSError as error:
        raise write_error(error, target) from error
    finally:
        if is_folder:
            shutil.rmtree(staged, ignore_errors=True)
    if is_folder:
        shutil.rmtree(source, ignore_errors=True)


def _copy_entry(source: Path, target: Path) -> None:
    """Copy all of `source`; links stay links, to wherever they say. Raises OSError besides."""
    if source.is_symlink():
        target.symlink_to(source.readlink(), target_is_directory=source.is_dir())
    elif source.is_dir():
        target.mkdir()
        for path in source.iterdir():
            _copy_entry(path, target / path.name)
    elif source.is_file():
        deque(copy_file(source, target), maxlen=0)
    else:  # a socket, say: left out it would be lost
        raise shutil.SpecialFileError(errno.EINVAL, "is neither a file nor a folder", str(source))


def _blocks(path: Path) -> Generator[bytes, None, None]:
    try:
        with path.open("rb", buffering=0) as file:
            while block := file.read(BLOCK_BYTES):
                yield block
    except OSError as error:
        raise read_error(error, path) from error


def _forget_what_was_read(path: Path) -> None:
    """Let the next look at `path` go to the disk, where the system can do so."""
    if sys.platform == "linux":
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
