"""The job that takes the models folder to another place: models, unfinished downloads, notes.

What is no model stays where it is. No model is ever half under its name, and each is whole in one
of the two folders, or in both: after a kill the same job goes on from what it finds.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from engine.copying import copy_file, hash_file, told
from engine.errors import AlreadyExists, NotWritable, StorageError
from engine.files import bytes_on_disk, disk_full, file_mark, lock, make_folder, write_error
from engine.hub.download import NOTE
from engine.hub.part import KEPT_FREE_BYTES
from engine.hub.provenance import NAME, drop_notes, read, take_over_notes
from engine.jobs import Job, Progress
from engine.leftovers import MOVING, is_in_use, unfinished
from engine.library import find_models
from engine.settings import Settings
from engine.splits import model_files
from engine.walk import folders_below

log = logging.getLogger(__name__)

WAIT_S = 0.2


class Load(msgspec.Struct, frozen=True):
    """What is to move: `files` by their path in the folder, those that make a model one last."""

    files: tuple[str, ...]
    n_models: int
    size_bytes: int


class Moved(msgspec.Struct, frozen=True):
    """`left` is what was copied, but could not be removed from the old folder."""

    folder: str
    n_models: int
    size_bytes: int
    left: tuple[str, ...] = ()


class MoveModels(Job, frozen=True):
    """Move all models in the folder `source` to the folder `target`, laid out in the same way.

    On one disk they are renamed. To another one they are copied into a hidden folder, compared, and
    given their places when all are there; then the old ones go. Cancelled or failed, everything is
    where it was. Raises AlreadyExists for other files of these names, StorageError while something
    is written to one of the models, DiskFull, NotWritable and CorruptFile.
    """

    Result: ClassVar = Moved

    source: str
    target: str

    def run(self) -> Generator[Progress, None, Moved]:
        yield Progress("Looking at the models", 0, None, "bytes")
        source, target = Path(self.source).absolute(), Path(self.target).absolute()
        load = survey(source, target)
        with _staging(target) as staging:
            yield from _require_same(source, target, load.files)
            is_one_disk = _rename(source, target, load.files)
            if not is_one_disk:
                load = yield from _copy(source, target, staging)
            # From here on nothing is yielded: what has been begun is not cancelled half-way.
            try:
                if not is_one_disk:
                    for file in _missing(source, target, load.files):
                        _place(staging / file, target / file)
                _link_again(source, target, load.files)
                _take_over_all_notes(source, target, load.files)
            except OSError as error:
                raise write_error(error, target) from error
            left = _clear(source, target, load.files)
        return Moved(self.target, load.n_models, load.size_bytes, left)


def survey(source: Path, target: Path) -> Load:
    """What moves from `source` to `target`, without reading it; may take the disk a while.

    Raises AlreadyExists if both are one folder, StorageError if something is written to there.
    """
    if os.path.realpath(source) == os.path.realpath(target):
        raise AlreadyExists(f"The models are in {target} already.", hint="Choose another folder.")
    if busy := _in_use(source, target):
        raise StorageError(
            f"A job is still writing to {busy.parent}.",
            hint="Wait until downloads and shrinks have ended, then move the models.",
            details=str(busy),
        )
    models = [path for path in find_models(source) if not _is_new(path, source, target)]
    found = [_own(path, source) for path in (*models, *unfinished(source))]
    files = dict.fromkeys(file for path in found for file in _files(path))
    old = (file for file in files if not _is_new(file, source, target))
    names = tuple(str(file.relative_to(source)) for file in old)
    return Load(names, len(models), sum(_size(source / name) for name in names))


def followed(value: Settings, target: str) -> dict[str, Any]:
    """The changes of settings once the models are in `target`: what pointed to one still does."""
    source, folder = Path(value.models_folder).absolute(), Path(target).absolute()

    def new(path: str) -> str:
        if source in Path(path).parents:
            moved = folder / Path(path).relative_to(source)
            if moved.exists():
                return str(moved)
        return path

    added = tuple(map(new, value.added_models))
    return {
        "models_folder": str(folder),
        "last_model": new(value.last_model),
        "added_models": added,
    }


def _in_use(source: Path, target: Path) -> Path | None:
    """What a job is writing to in `source`."""
    old = (path for path in unfinished(source) if not _is_new(path, source, target))
    return next(filter(is_in_use, old), None)


def _is_new(path: Path, source: Path, target: Path) -> bool:
    """Whether `path` is in the new folder already, where that lies in the old one."""
    return source in target.parents and target in (path, *path.parents)


def _own(path: Path, source: Path) -> Path:
    """`path`, or the link in `source` behind which it lies: then only the link is Snug's."""
    above = [folder for folder in path.parents if source in folder.parents and folder.is_symlink()]
    return above[-1] if above else path


def _files(path: Path) -> list[Path]:
    """What moves with a model or with what a job has left; what makes it one comes last."""
    if path.is_symlink() or not path.is_dir():
        return [part for part in reversed(model_files(path)) if os.path.lexists(part)]
    files = []
    for root, folders, names in os.walk(path):
        links = [name for name in folders if Path(root, name).is_symlink()]
        files += [Path(root, name) for name in (*names, *links)]
    notes = {file for file in files if file.name == NAME and read(file.parent).files}
    last = (path / "config.json", path / NOTE)
    return sorted((file for file in files if file not in notes), key=lambda file: file in last)


def _size(path: Path) -> int:
    return 0 if path.is_symlink() else bytes_on_disk(path.stat())


def _missing(source: Path, target: Path, files: Iterable[str]) -> list[str]:
    """Those of `files` that have yet to come to `target`; links are made there anew."""
    return [
        file
        for file in files
        if not ((source / file).is_symlink() or os.path.lexists(target / file))
    ]


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """The hidden folder for copies. Only a kill leaves it behind; the next move uses it again."""
    was_there = os.path.lexists(target)
    if was_there and not target.is_dir():
        raise NotWritable(f"{target} is not a folder.", hint="Choose another one.")
    make_folder(target / MOVING)
    held = FileIO(target / MOVING / "lock", "a")
    if not lock(held):
        held.close()
        raise AlreadyExists(
            f"Models are being moved to {target} already.", hint="Wait until that has ended."
        )
    try:
        yield target / MOVING / "files"
    finally:
        held.close()
        shutil.rmtree(target / MOVING, ignore_errors=True)
        if not was_there:
            with contextlib.suppress(OSError):  # not empty
                target.rmdir()


def _require_same(
    source: Path, target: Path, files: Iterable[str]
) -> Generator[Progress, None, None]:
    """Raise AlreadyExists if one of `files` is in `target` and is not a copy, as a kill leaves."""
    here = {os.path.realpath(source / file) for file in files}
    there = [file for file in files if os.path.lexists(target / file)]
    for file in there:
        old, new = source / file, target / file
        if old.is_symlink():
            is_same = os.path.realpath(old) == os.path.realpath(new)
        else:  # and not the very file, by way of a linked folder
            is_same = new.is_file() and os.path.realpath(new) not in here
            is_same = is_same and old.stat().st_size == new.stat().st_size
        if not is_same:
            raise _taken(new)

    def compare() -> Generator[int, None, None]:
        for file in there:
            if (yield from hash_file(source / file)) != (yield from hash_file(target / file)):
                raise _taken(target / file)

    yield from told("Comparing", compare(), 2 * sum(_size(source / file) for file in there))


def _taken(path: Path) -> AlreadyExists:
    return AlreadyExists(
        f"Another {path.name} is in {path.parent} already.",
        hint="Move it away or remove it, or choose another folder. Nothing has been moved.",
        details=str(path),
    )


def _rename(source: Path, target: Path, files: Iterable[str]) -> bool:
    """Give the files their new places at once; False, with nothing done, on another disk."""
    done: list[str] = []
    try:
        for file in _missing(source, target, files):
            _place(source / file, target / file)
            done.append(file)
    except OSError as error:
        for file in reversed(done):
            with contextlib.suppress(OSError):
                (target / file).rename(source / file)
        _drop_empty_folders(target, files)
        if error.errno == errno.EXDEV:
            return False
        raise write_error(error, target) from error
    return True


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.path.lexists(target):
        raise _taken(target)
    source.rename(target)


def _copy(source: Path, target: Path, staging: Path) -> Generator[Progress, None, Load]:
    """Copy what has yet to come, also what comes meanwhile; returns all there is in the end."""
    copied: dict[str, tuple[int, int]] = {}
    while True:
        while _in_use(source, target):  # begun since; what is copied is not given up for that
            yield Progress("Waiting for a download or a shrink to end", 0, None, "bytes")
            time.sleep(WAIT_S)
        load = survey(source, target)
        marks = {file: file_mark(source / file) for file in _missing(source, target, load.files)}
        fresh = {file: mark for file, mark in marks.items() if copied.get(file) != mark}
        if not fresh:
            return load
        for file in copied.keys() & fresh.keys():  # it has changed
            (staging / file).unlink()
        _require_room(source, target, staging, fresh)
        total_bytes = 2 * sum(size_bytes for size_bytes, _ in fresh.values())
        yield from told("Copying and comparing", _gather(source, staging, fresh), total_bytes)
        copied |= fresh


def _gather(source: Path, staging: Path, files: Iterable[str]) -> Generator[int, None, None]:
    for file in files:
        old, new = source / file, staging / file
        if new.exists():  # a move that was killed has brought it
            if (yield from hash_file(old)) == (yield from hash_file(new)):
                continue
            new.unlink()
        make_folder(new.parent)
        yield from copy_file(old, new)


def _require_room(source: Path, target: Path, staging: Path, files: Iterable[str]) -> None:
    to_copy = [source / file for file in files if not (staging / file).exists()]
    needed_bytes = sum(map(_size, to_copy)) + KEPT_FREE_BYTES
    free_bytes = shutil.disk_usage(target).free
    if to_copy and free_bytes < needed_bytes:
        raise disk_full(target, needed_bytes=needed_bytes, free_bytes=free_bytes)


def _take_over_all_notes(source: Path, target: Path, files: tuple[str, ...]) -> None:
    moved = [Path(file) for file in files]
    for folder in folders_below(source):
        if (folder / NAME).exists() and not _is_new(folder, source, target):
            below = folder.relative_to(source)
            names = {file.relative_to(below).as_posix() for file in moved if below in file.parents}
            take_over_notes(folder, target / below, names)


def _link_again(source: Path, target: Path, files: tuple[str, ...]) -> None:
    """Make the links in `source` again, to where what they lead to is now."""
    root = Path(os.path.realpath(source))
    for file in files:
        if (source / file).is_symlink() and not os.path.lexists(target / file):
            end = Path(os.path.realpath(source / file))
            if root in end.parents and str(end.relative_to(root)) in files:
                end = target / end.relative_to(root)
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            (target / file).symlink_to(end, target_is_directory=end.is_dir())


def _clear(source: Path, target: Path, files: tuple[str, ...]) -> tuple[str, ...]:
    """Remove what is in its new place from the old one; returns what would not go."""
    left = []
    for file in files:
        try:
            (source / file).unlink(missing_ok=True)
        except OSError as error:
            log.warning("not removed after it was copied: %s", error)
            left.append(str(source / file))
    for folder in list(folders_below(source)):
        if not _is_new(folder, source, target):
            with contextlib.suppress(OSError):
                drop_notes(folder)
    _drop_empty_folders(source, files)
    return tuple(left)


def _drop_empty_folders(root: Path, files: Iterable[str]) -> None:
    """Remove the folders in which `files` were, but `root`, where nothing else is in them."""
    folders = {folder for file in files for folder in (root / file).parents}
    for folder in sorted(folders, reverse=True):
        if root in folder.parents:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
