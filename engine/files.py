"""Files that are whole or not there: atomic output, and the disk's refusals as sentences.

Output goes to `name.partial` beside its target, is synced, and takes the name only at the end. The
partial file is locked while it is written; one without a lock was left by a killed job and is
replaced. Knows nothing of what is in a file.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from engine.errors import AlreadyExists, DiskFull, KeptAside, NotFound, NotWritable, StorageError

log = logging.getLogger(__name__)

# Of Windows: another process has the file open; errors and requests of its kernel.
_ERROR_SHARING_VIOLATION = 32
_INVALID_FILE_SIZE = 0xFFFFFFFF
_FSCTL_SET_SPARSE = 0x900C4
_LOCKED_BYTE = 2**31 - 1

# Dirty pages are pushed out as we go: one fsync at the very end of 10 GB would look like a hang.
SYNC_EVERY_BYTES = 64 << 20


class OutputFile:
    """The open partial file: `write` appends, and keeps count in `n_bytes`."""

    def __init__(self, file: FileIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._n_synced = 0
        self.n_bytes = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data` (a memoryview must be of bytes).

        Raises DiskFull, NotWritable or StorageError.
        """
        rest = memoryview(data)
        with _as_write_error(self._path):
            while rest:  # a raw write may take only a part
                rest = rest[self._file.write(rest) :]
            self.n_bytes += len(data)
            if self.n_bytes - self._n_synced >= SYNC_EVERY_BYTES:
                self.sync()

    def skip(self, n_bytes: int) -> None:
        """Append zeros that take no room."""
        with _as_write_error(self._path):
            self.n_bytes += n_bytes
            self._file.truncate(self.n_bytes)
            self._file.seek(self.n_bytes)

    def sync(self) -> None:
        os.fsync(self._file.fileno())
        self._n_synced = self.n_bytes


@contextmanager
def new_file(
    path: str | os.PathLike[str], *, size_bytes: int, overwrite: bool = False
) -> Generator[OutputFile, None, None]:
    """Open `path` for writing `size_bytes`; it appears whole when the block ends well.

    When the block raises (a cancelled job raises GeneratorExit) nothing is left behind and a file
    of that name stays as it was. Raises AlreadyExists (at the end too, when something took the name
    meanwhile: the file is then whole beside it), NotFound, DiskFull, NotWritable.
    """
    target = Path(path)
    check_output(target, size_bytes=size_bytes, overwrite=overwrite)
    partial = target.with_name(target.name + ".partial")
    with _as_write_error(target):
        file = _create_locked(partial, target)
    with file:
        try:
            output = OutputFile(file, target)
            yield output
            with _as_write_error(target):
                output.sync()
                _require_ours(file, partial, target)
                _release_on_windows(file)
                _publish(partial, target, overwrite=overwrite)
                _sync_folder(target.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                if _is_ours(file, partial):
                    _release_on_windows(file)
                    partial.unlink()
            raise


def _create_locked(partial: Path, target: Path) -> FileIO:
    """Create `partial` for this process alone; raises AlreadyExists while another one writes it.

    A file without a lock is unlinked and never written over: it may be a second name of a finished
    model, whose job was killed between giving it its name and taking this one away.
    """
    busy = AlreadyExists(
        f"{target.name} is being written by another job.",
        hint="Wait until it has ended, or choose another name.",
        details=str(partial),
    )
    if not _remove_unlocked(partial):
        raise busy
    try:
        # Unbuffered: after a full disk, closing has nothing left to write and cannot fail again.
        file = FileIO(partial, "x")
    except FileExistsError as error:
        raise busy from error
    if not lock(file):  # the other one takes it for a left one, and will replace it
        file.close()
        raise busy
    return file


def _remove_unlocked(partial: Path) -> bool:
    """Unlink `partial`, if it is there; False if a process is writing it."""
    if sys.platform == "win32":
        try:
            partial.unlink(missing_ok=True)
        except PermissionError as error:
            if error.winerror == _ERROR_SHARING_VIOLATION:
                return False
            raise
        return True
    with contextlib.suppress(FileNotFoundError), FileIO(partial, "r+") as left:
        if not (lock(left) and _is_ours(left, partial)):
            return False
        partial.unlink()
    return True


def lock(file: FileIO) -> bool:
    """Mark an open partial file as being written, until it is closed; False if it is already."""
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
    return True


def _is_ours(file: FileIO, partial: Path) -> bool:
    """Whether `partial` still is the name of the open `file`."""
    if os.name == "nt":  # nobody can take an open file's name away
        return True
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), partial.stat())
    return False


def _require_ours(file: FileIO, partial: Path, target: Path) -> None:
    if not _is_ours(file, partial):
        raise StorageError(
            f"The unfinished file of {target.name} was removed while it was written.",
            hint="Start again, and leave the file alone until it is done.",
            details=str(partial),
        )


def _release_on_windows(file: FileIO) -> None:
    """Close `file` where an open file cannot be renamed; elsewhere the lock is kept to the end."""
    if os.name == "nt":
        file.close()


def _publish(partial: Path, target: Path, *, overwrite: bool) -> None:
    """Give the whole file its name; what has taken the name meanwhile stays.

    Raises AlreadyExists, and the file is then whole beside it under a name that was free.
    """
    if overwrite:
        partial.replace(target)
        return
    name = target
    number = 1
    while not _take_name(partial, name):
        number += 1
        name = target.with_name(f"{target.stem} ({number}){target.suffix}")
    if name != target:
        raise KeptAside(
            f"Another {target.name} has appeared while this one was made.",
            hint=f"This one is whole, and called {name.name}.",
            details=str(name),
        )


def _take_name(partial: Path, name: Path) -> bool:
    """Rename `partial`, unless there is a file of that name: then return False."""
    try:
        os.link(partial, name)  # unlike a rename, it never replaces
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links, such as exFAT
        # What takes the name between these two lines is lost there: nothing closes that gap.
        if name.exists():
            return False
        partial.replace(name)
        return True
    partial.unlink()
    return True


def check_output(target: Path, *, size_bytes: int, overwrite: bool) -> None:
    """Raise what would make writing `size_bytes` to `target` fail, before any work is done."""
    folder = target.parent
    if not folder.is_dir():
        raise NotFound(
            f"The folder {folder} does not exist.", hint="Create it, or choose another folder."
        )
    if target.is_dir():
        raise AlreadyExists(f"{target} is a folder.", hint="Give the new file another name.")
    if os.path.lexists(target) and not target.is_file():
        raise AlreadyExists(
            f"{target.name} exists already and is no ordinary file.",
            hint="Choose another name.",
            details=str(target),
        )
    if target.exists() and not overwrite:
        raise AlreadyExists(
            f"{target.name} exists already.",
            hint="Choose another name, or remove the old file first.",
            details=str(target),
        )
    with _as_write_error(target):
        free_bytes = shutil.disk_usage(folder).free
    if free_bytes < size_bytes:
        raise disk_full(target, needed_bytes=size_bytes, free_bytes=free_bytes)


def file_mark(path: Path) -> tuple[int, int]:
    """What changes when a file does: its size in bytes, and when it was written to, in ns."""
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
def _as_write_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise write_error(e, path) from e


def _sync_folder(folder: Path) -> None:
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
    with _as_write_error(path):
        with FileIO(fresh, "w") as file:
            file.write(data)
            os.fsync(file.fileno())
        fresh.replace(path)
        _sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it, unless they are there; raises NotWritable and its kin."""
    with _as_write_error(folder):
        folder.mkdir(parents=True, exist_ok=True)
