"""What the disk is asked and told: locks, marks, small files, folders; its refusals in words."""

from __future__ import annotations

import errno
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from engine.errors import DiskFull, NotFound, NotWritable, StorageError

log = logging.getLogger(__name__)

# Of Windows: errors and requests of its kernel.
_INVALID_FILE_SIZE = 0xFFFFFFFF
_FSCTL_SET_SPARSE = 0x900C4
_LOCKED_BYTE = 2**31 - 1

RECENT_S = 60.0

Mark = tuple[int, int]
"""What changes when a file does: its size in bytes, and when it was written to, in ns."""


def lock(file: FileIO) -> bool:
    """Mark an open partial file as being written, until it is closed; False if it is already."""
    return _try_lock(file) is not False


def is_locked(path: Path) -> bool:
    """Whether a process is writing `path`: on a disk without locks, whether one was a minute ago.

    Raises OSError.
    """
    with FileIO(path, "r+") as file:
        is_free = _try_lock(file)
    if is_free is None:
        return path.stat().st_mtime > time.time() - RECENT_S
    return not is_free


def _try_lock(file: FileIO) -> bool | None:
    """Lock `file` until it is closed; False if it is locked, None where files cannot be."""
    try:
        if sys.platform == "win32":
            import msvcrt

            position = file.tell()
            file.seek(_LOCKED_BYTE)  # a byte that others do not read meanwhile
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            finally:
                file.seek(position)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:  # a file system without locks, such as some network drives
        log.debug("%s not locked: %s", file.name, error)
        return None
    return True


def file_mark(path: Path) -> Mark:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def bytes_on_disk(path: Path) -> int:
    """The room that `path` takes: of a file with holes less than its length. Raises OSError."""
    stat = path.stat()
    if sys.platform != "win32":
        return min(stat.st_size, stat.st_blocks * 512)
    import ctypes

    high = ctypes.c_ulong()
    ask = ctypes.windll.kernel32.GetCompressedFileSizeW
    ask.restype = ctypes.c_ulong
    low = ask(str(path), ctypes.byref(high))
    return stat.st_size if low == _INVALID_FILE_SIZE else (high.value << 32) + low


def allow_holes(file: FileIO) -> None:
    """Let what is never written take no room. Only Windows has to be asked; it may refuse."""
    if sys.platform == "win32":
        import ctypes
        import msvcrt

        handle, n_returned = msvcrt.get_osfhandle(file.fileno()), ctypes.c_ulong()
        ctypes.windll.kernel32.DeviceIoControl(
            ctypes.c_void_p(handle),
            _FSCTL_SET_SPARSE,
            None,
            0,
            None,
            0,
            ctypes.byref(n_returned),
            None,
        )


def disk_full(target: Path, *, needed_bytes: int, free_bytes: int) -> DiskFull:
    return DiskFull(
        f"There is not enough space for {target.name}: it needs {_gigabytes(needed_bytes)}"
        f" and {_gigabytes(free_bytes)} are free.",
        hint="Free some space, or choose a folder on another disk.",
        details=f"{target}: {needed_bytes} bytes needed, {free_bytes} bytes free",
    )


def write_error(error: OSError, path: Path) -> StorageError:
    """The sentence for an OSError met while writing `path`."""
    details = f"{path}: {error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(
            f"The disk became full while {path.name} was written.",
            hint="Free some space, or choose a folder on another disk. Nothing half-written is"
            " left behind.",
            details=details,
        )
    if error.errno == errno.EFBIG:
        return NotWritable(
            f"The disk's file system cannot hold a file as large as {path.name}.",
            hint="Choose a folder on another disk.",
            details=details,
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG):
        return NotWritable(
            f"{path.name} cannot be written in {path.parent}.",
            hint="Choose a folder you may write to, such as one in your home.",
            details=details,
        )
    return StorageError(
        f"The disk reported an error while {path.name} was written.",
        hint="Check the disk, or choose a folder on another one.",
        details=details,
    )


def read_error(error: OSError, path: Path) -> StorageError:
    """The sentence for an OSError met while opening or reading `path`."""
    details = f"{path}: {error}"
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return NotFound(
            f"{path} does not exist.",
            hint="Check the name, or add the model again.",
            details=details,
        )
    if isinstance(error, IsADirectoryError):
        return StorageError(
            f"{path.name} is a folder, not a file.", hint="Choose a file in it.", details=details
        )
    if isinstance(error, PermissionError):
        return StorageError(
            f"{path.name} may not be read.",
            hint="Change its permissions, or copy it to a folder of yours.",
            details=details,
        )
    return StorageError(
        f"{path.name} could not be read.",
        hint="Check that its disk is connected and healthy.",
        details=details,
    )


@contextmanager
def as_write_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise write_error(e, path) from e


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut; Windows neither needs nor allows it."""
    if os.name == "nt":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _gigabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB" if n_bytes >= 1e8 else f"{n_bytes / 1e6:.1f} MB"


def replace_bytes(path: Path, data: bytes) -> None:
    """Write a small file so that at any moment the old or the new one is there, whole.

    Raises what `write_error` gives.
    """
    fresh = path.with_name(path.name + ".new")
    with as_write_error(path):
        with FileIO(fresh, "w") as file:
            file.write(data)
            os.fsync(file.fileno())
        fresh.replace(path)
        sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it, unless they are there; raises NotWritable and its kin."""
    with as_write_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
