"""Files that are whole or not there.

Output goes to `name.partial` beside its target, is synced, and takes the name only at the end. The
partial file is locked while it is written; one without a lock was left by a killed job and is
replaced. Knows nothing of what is in a file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from engine.errors import AlreadyExists, KeptAside, NotFound, StorageError
from engine.files import as_write_error, disk_full, lock, sync_folder

_ERROR_SHARING_VIOLATION = 32  # of Windows: another process has the file open
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
        with as_write_error(self._path):
            while rest:  # a raw write may take only a part
                rest = rest[self._file.write(rest) :]
            self.n_bytes += len(data)
            if self.n_bytes - self._n_synced >= SYNC_EVERY_BYTES:
                self.sync()

    def skip(self, n_bytes: int) -> None:
        """Append zeros that take no room."""
        with as_write_error(self._path):
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
    with as_write_error(target):
        file = _create_locked(partial, target)
    with file:
        try:
            output = OutputFile(file, target)
            yield output
            with as_write_error(target):
                output.sync()
                _require_ours(file, partial, target)
                _release_on_windows(file)
                _publish(partial, target, overwrite=overwrite)
                sync_folder(target.parent)
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
    with as_write_error(target):
        free_bytes = shutil.disk_usage(folder).free
    if free_bytes < size_bytes:
        raise disk_full(target, needed_bytes=size_bytes, free_bytes=free_bytes)
