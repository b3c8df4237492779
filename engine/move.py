"""The job that takes the models folder to another place: models, what unfinished jobs have, notes.

What is no model stays where it is. No file is ever half under its name, and each model is whole in
one of the two folders, or in both: old names go when all new ones are there. Only on a disk without
hard links a kill can leave a split model in parts. The same job goes on from what a kill left.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from engine.copying import copy_file, hash_file, told
from engine.errors import AlreadyExists, NotWritable
from engine.files import (
    Mark,
    disk_full,
    file_mark,
    lock,
    make_folder,
    replace_bytes,
    write_error,
)
from engine.hub.part import KEPT_FREE_BYTES
from engine.hub.provenance import NAME, drop_notes, take_over_notes
from engine.jobs import Job, Progress
from engine.leftovers import MOVING
from engine.settings import Settings, SettingsFile
from engine.survey import Load, in_use, is_new, size_on_disk, survey
from engine.walk import folders_below

log = logging.getLogger(__name__)

WAIT_S = 0.2
COPIES, PLAN = "files", "plan.json"


class Moved(msgspec.Struct, frozen=True):
    """`left` is what was copied, but could not be removed from the old folder."""

    folder: str
    n_models: int
    size_bytes: int
    left: tuple[str, ...] = ()


class MoveModels(Job, frozen=True):
    """Move all models in the folder `source` to the folder `target`, laid out in the same way.

    On one disk they are only named anew. To another one they are copied into a hidden folder,
    compared, and given their places when all are there; then the settings follow, and the old ones
    go. Cancelled or failed before that, everything is where it was; after it, what is left in
    `source` is there twice. Raises AlreadyExists for other files of these names, StorageError
    while something is written to one of the models, DiskFull, NotWritable and CorruptFile.
    """

    Result: ClassVar = Moved

    source: str
    target: str
    settings_file: str

    def run(self) -> Generator[Progress, None, Moved]:
        yield Progress("Looking at the models", 0, None, "bytes")
        source, target = Path(self.source).absolute(), Path(self.target).absolute()
        load = survey(source, target)
        settings = SettingsFile(Path(self.settings_file))
        _save(settings)  # rather learn now than after hours of copying that it cannot be
        try:
            with _staging(target) as staging:
                load = _with_planned(load, source, staging)
                there = yield from _compare(source, target, load.files)
                _plan(staging, source, load)
                _require_unchanged(source, target, there)
                if not _place_all(source, target, _to_place(source, load.files, there)):
                    load = yield from _copy(source, target, staging, there)
                    _plan(staging, source, load)
                    _require_unchanged(source, target, there)
                    _place_all(staging / COPIES, target, _to_place(source, load.files, there))
                # Nothing is yielded once files have their places: that is not cancelled half-way.
                _link_again(source, target, load.files)
                _take_over_all_notes(source, target, load.files)
                settings.reload()  # others may have changed them since
                _save(settings, **_followed(settings.value, source, target))
                left = _clear(source, target, load.files)
        except OSError as error:
            raise write_error(error, target) from error
        return Moved(self.target, load.n_models, load.size_bytes, left)


def _save(settings: SettingsFile, **changes: Any) -> None:
    """Write `changes` over what the file says by now; raises NotWritable."""
    settings.update(**changes)
    if settings.problem:
        raise NotWritable(
            settings.problem,
            hint="Check the permissions of that file and the room on its disk, then move the models"
            " again. None is lost.",
            details=str(settings.path),
        )


def _followed(value: Settings, source: Path, target: Path) -> dict[str, Any]:
    """The changes of settings once the models are in `target`: what pointed to one still does."""

    def new(path: str) -> str:
        if source in Path(path).parents:
            moved = target / Path(path).relative_to(source)
            if moved.exists():
                return str(moved)
        return path

    return {
        "models_folder": str(target),
        "last_model": new(value.last_model),
        "added_models": tuple(map(new, value.added_models)),
    }


def _to_place(source: Path, files: Iterable[str], there: Mapping[str, Mark]) -> list[str]:
    """Those of `files` that have yet to come; links are made anew."""
    return [file for file in files if file not in there and not (source / file).is_symlink()]


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
        yield target / MOVING
    finally:
        held.close()
        shutil.rmtree(target / MOVING, ignore_errors=True)
        if not was_there:
            with contextlib.suppress(OSError):  # not empty
                target.rmdir()


class _Plan(msgspec.Struct, frozen=True):
    """What is being moved: of a checkpoint a kill may leave what no longer looks like one.

    Names in hex.
    """

    source: str
    files: tuple[str, ...]


def _plan(staging: Path, source: Path, load: Load) -> None:
    files = tuple(os.fsencode(file).hex() for file in load.files)  # a name may be any bytes
    replace_bytes(staging / PLAN, msgspec.json.encode(_Plan(os.fsencode(source).hex(), files)))


def _with_planned(load: Load, source: Path, staging: Path) -> Load:
    """`load`, with what a move from `source` that was killed has left."""
    with contextlib.suppress(OSError, msgspec.DecodeError, ValueError):  # none was
        plan = msgspec.json.decode((staging / PLAN).read_bytes(), type=_Plan)
        if plan.source == os.fsencode(source).hex():
            planned = [os.fsdecode(bytes.fromhex(file)) for file in plan.files]
            left = [file for file in planned if os.path.lexists(source / file)]
            files = tuple(dict.fromkeys((*left, *load.files)))
            return msgspec.structs.replace(load, files=files)
    return load


def _compare(
    source: Path, target: Path, files: tuple[str, ...]
) -> Generator[Progress, None, dict[str, Mark]]:
    """Which of `files` are in `target` too, as a kill leaves them, with the marks of the old ones.

    Raises AlreadyExists where another file has the place.
    """
    here = {os.path.realpath(source / file) for file in files}
    there: dict[str, Mark] = {}
    for file in files:
        old, new = source / file, target / file
        if not os.path.lexists(new):
            continue
        if old.is_symlink():
            is_same = os.path.realpath(new) == os.path.realpath(_end(source, target, file, files))
        else:  # and not the very file, by way of a linked folder
            is_same = new.is_file() and os.path.realpath(new) not in here
            is_same = is_same and old.stat().st_size == new.stat().st_size
        if not is_same:
            raise _taken(new)
        if not old.is_symlink():
            there[file] = file_mark(old)

    to_read = [file for file in there if not (source / file).samefile(target / file)]

    def compare() -> Generator[int, None, None]:
        for file in to_read:
            if (yield from hash_file(source / file)) != (yield from hash_file(target / file)):
                raise _taken(target / file)

    yield from told("Comparing", compare(), 2 * sum(there[file][0] for file in to_read))
    return there


def _require_unchanged(source: Path, target: Path, there: Mapping[str, Mark]) -> None:
    """What was compared and is about to go must still be what it was."""
    for file, mark in there.items():
        if file_mark(source / file) != mark:
            raise _taken(target / file)


def _taken(path: Path) -> AlreadyExists:
    return AlreadyExists(
        f"Another {path.name} is in {path.parent} already.",
        hint="Move it away or remove it, or choose another folder. Nothing has been moved.",
        details=str(path),
    )


def _place_all(origin: Path, target: Path, files: Iterable[str]) -> bool:
    """Give `files` their places at once, all or none; False, and none, on another disk."""
    done: list[str] = []
    try:
        for file in files:
            _place(origin / file, target / file)
            done.append(file)
    except (OSError, AlreadyExists) as error:
        for file in reversed(done):
            with contextlib.suppress(OSError):
                if (origin / file).exists():
                    (target / file).unlink()
                else:
                    (target / file).rename(origin / file)
        _drop_empty_folders(target, files)
        if isinstance(error, OSError) and error.errno == errno.EXDEV:
            return False
        raise
    return True


def _place(origin: Path, target: Path) -> None:
    """Let `target` be a name of the file `origin` too, or instead where it can have only one."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(origin, target)
    except FileExistsError as error:
        raise _taken(target) from error
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise
        if os.path.lexists(target):
            raise _taken(target) from error
        origin.rename(target)


def _copy(
    source: Path, target: Path, staging: Path, there: Mapping[str, Mark]
) -> Generator[Progress, None, Load]:
    """Copy what has yet to come, also what comes meanwhile; returns all there is in the end."""
    copies = staging / COPIES
    copied: dict[str, Mark] = {}
    while True:
        while in_use(source, target):  # begun since; what is copied is not given up for that
            yield Progress("Waiting for a download or a shrink to end", 0, None, "bytes")
            time.sleep(WAIT_S)
        load = _with_planned(survey(source, target), source, staging)
        marks = {file: file_mark(source / file) for file in _to_place(source, load.files, there)}
        fresh = {file: mark for file, mark in marks.items() if copied.get(file) != mark}
        if not fresh:
            return load
        for file in copied.keys() & fresh.keys():  # it has changed
            (copies / file).unlink()
        _require_room(source, target, copies, fresh)
        total_bytes = 2 * sum(size_bytes for size_bytes, _ in fresh.values())
        yield from told("Copying and comparing", _gather(source, copies, fresh), total_bytes)
        copied |= fresh


def _gather(source: Path, copies: Path, files: Iterable[str]) -> Generator[int, None, None]:
    for file in files:
        old, new = source / file, copies / file
        if new.exists():  # a move that was killed has brought it
            if (yield from hash_file(old)) == (yield from hash_file(new)):
                continue
            new.unlink()
        make_folder(new.parent)
        yield from copy_file(old, new)


def _require_room(source: Path, target: Path, copies: Path, files: Iterable[str]) -> None:
    to_copy = [source / file for file in files if not (copies / file).exists()]
    needed_bytes = sum(map(size_on_disk, to_copy)) + KEPT_FREE_BYTES
    free_bytes = shutil.disk_usage(target).free
    if to_copy and free_bytes < needed_bytes:
        raise disk_full(target, needed_bytes=needed_bytes, free_bytes=free_bytes)


def _take_over_all_notes(source: Path, target: Path, files: tuple[str, ...]) -> None:
    moved = [Path(file) for file in files]
    for folder in folders_below(source):
        if (folder / NAME).exists() and not is_new(folder, source, target):
            below = folder.relative_to(source)
            names = {file.relative_to(below).as_posix() for file in moved if below in file.parents}
            take_over_notes(folder, target / below, names)


def _link_again(source: Path, target: Path, files: tuple[str, ...]) -> None:
    for file in files:
        if (source / file).is_symlink() and not os.path.lexists(target / file):
            end = _end(source, target, file, files)
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            (target / file).symlink_to(end, target_is_directory=end.is_dir())


def _end(source: Path, target: Path, link: str, files: tuple[str, ...]) -> Path:
    """Where the link in `source` leads to once `files` have moved."""
    root, end = Path(os.path.realpath(source)), Path(os.path.realpath(source / link))
    if root in end.parents and str(end.relative_to(root)) in files:
        return target / end.relative_to(root)
    return end


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
        if not is_new(folder, source, target):
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
