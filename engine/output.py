"""Files that are whole or not there.

Output goes to a partial file, is synced, and takes its name only at the end. Where a note goes with
it, what a killed or paused job has left is gone on from. Knows nothing of what is in a file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from engine.errors import AlreadyExists, KeptAside, NotFound, StorageError
from engine.files import as_write_error, disk_full, sync_folder
from engine.jobs import Paused
from engine.partial import (
    Note,
    drop_note,
    is_ours,
    open_partial,
    partial_of,
    patiently,
    release_on_windows,
    room_of,
    save_note,
)

# Dirty pages are pushed out as we go: one fsync at the very end of 10 GB would look like a hang.
SYNC_EVERY_BYTES = 64 << 20
LEAST_SYNC_BYTES = 1 << 20  # a kill should not cost all of a small file either


class OutputFile:
    """The open partial file: `write` appends, and keeps count in `n_bytes`.

    `n_kept` bytes are there already, from a job that was broken off: `read` gives them, and `keep`
    says, before anything is written, how many of them are good.
    """

    def __init__(self, file: FileIO, path: Path, note: Note | None = None, n_kept: int = 0) -> None:
        self._file = file
        self._path = path
        self._note = note
        self._sync_every = SYNC_EVERY_BYTES
        if note:
            self._sync_every = min(SYNC_EVERY_BYTES, max(LEAST_SYNC_BYTES, note.size_bytes // 16))
        self._n_synced = 0
        self.n_kept = n_kept
        self.n_bytes = 0

    def read(self, at: int, n_bytes: int) -> bytes:
        """What is kept there; less than `n_bytes` where that ends."""
        self._file.seek(at)
        return self._file.read(max(0, min(n_bytes, self.n_kept - at))) or b""

    def keep(self, n_bytes: int) -> None:
        """Go on after the first `n_bytes`; zeros are appended up to there, all else is dropped."""
        with as_write_error(self._path):
            self._save(min(n_bytes, self.n_kept))  # first: later bytes are not certain any more
            self._file.truncate(n_bytes)
            self._file.seek(n_bytes)
        self.n_bytes = self._n_synced = n_bytes
        self.n_kept = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data` (a memoryview must be of bytes).

        Raises DiskFull, NotWritable or StorageError.
        """
        rest = memoryview(data)
        with as_write_error(self._path):
            while rest:  # a raw write may take only a part
                rest = rest[self._file.write(rest) :]
            self.n_bytes += len(data)
            if self.n_bytes - self._n_synced >= self._sync_every:
                self.sync()

    def skip(self, n_bytes: int) -> None:
        """Append zeros that take no room."""
        with as_write_error(self._path):
            self.n_bytes += n_bytes
            self._file.truncate(self.n_bytes)
            self._file.seek(self.n_bytes)

    def reserve(self, n_bytes: int) -> None:
        """Append zeros that have their room: a map that writes over them cannot fail."""
        with as_write_error(self._path):
            if n_bytes and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._file.fileno(), self.n_bytes, n_bytes)
        self.skip(n_bytes)

    def sync(self) -> None:
        os.fsync(self._file.fileno())
        self._n_synced = self.n_bytes
        if not self.n_kept:  # else nothing was decided, and all that was certain still is
            self._save(self.n_bytes)

    def _save(self, done_bytes: int) -> None:
        if self._note:
            save_note(partial_of(self._path), self._note, done_bytes)


@contextmanager
def new_file(
    path: str | os.PathLike[str],
    *,
    size_bytes: int,
    overwrite: bool = False,
    note: Note | None = None,
) -> Generator[OutputFile, None, None]:
    """Open `path` for writing `size_bytes`; it appears whole when the block ends well.

    When the block raises (a cancelled job raises GeneratorExit) nothing is left behind and a file
    of that name stays as it was. With a `note` a job that is paused, or killed, leaves what it has,
    and the next one of the same note begins with that: then the block begins with `keep`.
    Raises AlreadyExists (at the end too, when something took the name meanwhile: the file is then
    whole beside it), NotFound, DiskFull, NotWritable.
    """
    target = Path(path)
    partial = partial_of(target)
    check_output(target, size_bytes=size_bytes - room_of(partial), overwrite=overwrite)
    with as_write_error(target):
        file, n_kept = open_partial(partial, note)
    with file:
        output = OutputFile(file, target, note, n_kept)
        try:
            yield output
            with as_write_error(target):
                output.sync()
                _require_ours(file, partial, target)
                drop_note(partial)
                release_on_windows(file)
                publish(partial, target, overwrite=overwrite)
                sync_folder(target.parent)
        except BaseException as error:
            with contextlib.suppress(OSError, StorageError):
                if note and isinstance(error, Paused):
                    output.sync()
                elif is_ours(file, partial):
                    drop_note(partial)
                    release_on_windows(file)
                    partial.unlink()
            raise


def _require_ours(file: FileIO, partial: Path, target: Path) -> None:
    if not is_ours(file, partial):
        raise StorageError(
            f"The unfinished file of {target.name} was removed while it was written.",
            hint="Start again, and leave the file alone until it is done.",
            details=str(partial),
        )


def publish(partial: Path, target: Path, *, overwrite: bool) -> None:
    """Give the whole file `partial` its name; what has taken the name meanwhile stays.

    Raises AlreadyExists, and the file is then whole beside it under a name that was free.
    """
    if overwrite:
        patiently(lambda: partial.replace(target))
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
        patiently(lambda: partial.replace(name))
        return True
    patiently(partial.unlink)
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
