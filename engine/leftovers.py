"""What interrupted jobs left in the models folder, how it goes on, and how it is discarded.

The partial file of a shrink or a conversion, the workbench of a shrink to a size, the hidden folder
of a download, that of a move to here. Their notes are input: a job is told from them only if all of
it makes sense.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec

from engine.convert.job import TYPES, Convert
from engine.files import is_locked, write_error
from engine.hub.download import STAGING, Download, is_busy, read_note, size_on_disk
from engine.partial import PARTIAL, remove_partial
from engine.partial import read_note as read_note_of_file
from engine.quantize import workbench
from engine.quantize.recipe import RECIPES
from engine.quantize.shrink import Shrink
from engine.quantize.shrink_to_size import ShrinkToSize
from engine.walk import folders_below, is_dir, is_file, items
from engine.words import format_bytes

MOVING = ".snug-moving"
"""The hidden folder in which `engine.move` gathers what comes from another disk."""

MAX_NAME = 80


class Leftover(msgspec.Struct, frozen=True):
    """What an interrupted job left in the models folder: a file, or a folder.

    `job` goes on with it, to `total_bytes` (0: not known yet), and `title` says what that makes;
    without one there is nothing to do but to discard it.
    """

    path: str
    size_bytes: int
    job: Download | Shrink | ShrinkToSize | Convert | None = None
    title: str = ""
    total_bytes: int = 0


def find_leftovers(models_folder: Path) -> tuple[Leftover, ...]:
    """List what nobody is writing to any more."""
    found = []
    for path in unfinished(models_folder):
        with contextlib.suppress(OSError):  # finished or discarded meanwhile
            if not is_in_use(path):
                found.append(_leftover(path, models_folder))
    return tuple(sorted(found, key=lambda leftover: leftover.path))


def _leftover(path: Path, models_folder: Path) -> Leftover:
    if not path.is_dir():
        return _of_file(path, models_folder)
    if path.name.startswith(workbench.WORK):
        return _of_workbench(path, models_folder)
    return _of_folder(path)


def _of_workbench(path: Path, models_folder: Path) -> Leftover:
    left = Leftover(str(path), workbench.size_on_disk(path))
    note, out = workbench.read_note(path), workbench.out_of(path)
    job = note and note.read_job(ShrinkToSize)
    if not (job and out and (size := _size(job))):
        return left
    source = _followed(job.source, Path(job.out), out, models_folder)
    job = msgspec.structs.replace(job.placed(source, str(out)), overwrite=False)
    title = f"{Path(source).name[:MAX_NAME]} to {size}"
    return msgspec.structs.replace(left, job=job, title=title)


def _size(job: ShrinkToSize) -> str:
    """How small it becomes; nothing for what there is not."""
    if job.recipe is not None:
        return job.recipe if job.recipe in RECIPES else ""
    if 0 < job.size_bytes < 1 << 63:
        return format_bytes(job.size_bytes)
    if 0 < job.bits_per_weight < 64:
        return f"{job.bits_per_weight:g} bits per weight"
    return ""


def _of_folder(path: Path) -> Leftover:
    left = Leftover(str(path), size_on_disk(path))
    if (note := read_note(path)) is None:
        return left
    return msgspec.structs.replace(
        left, job=note.job, title=note.title, total_bytes=note.size_bytes
    )


def _of_file(path: Path, models_folder: Path) -> Leftover:
    left = Leftover(str(path), path.stat().st_size)
    note = read_note_of_file(path)
    job = note and (note.read_job(Shrink) or note.read_job(Convert))
    if not (note and job):
        return left
    source, kind = _from_and_to(job)
    if not kind:
        return left
    out = path.with_suffix("")
    source = _followed(source, Path(job.out), out, models_folder)
    # What is there is not replaced without being asked for again.
    job = msgspec.structs.replace(job.placed(source, str(out)), overwrite=False)
    title = f"{Path(source).name[:MAX_NAME]} to {kind}"
    return msgspec.structs.replace(left, job=job, title=title, total_bytes=note.size_bytes)


def _from_and_to(job: Shrink | Convert) -> tuple[str, str]:
    """The source, and what it becomes; nothing for what there is not."""
    if isinstance(job, Shrink):
        return job.source, job.recipe if job.recipe in RECIPES else ""
    kind = job.type.lower() if job.type.lower() in TYPES else ""
    return job.checkpoint, "GGUF" if kind == "auto" else kind.upper()


def _followed(source: str, old: Path, new: Path, models_folder: Path) -> str:
    """Where `source` is by now, if it moved along in the models folder with an output."""
    with contextlib.suppress(OSError, ValueError):  # a name that no disk can hold, another drive
        moved = Path(os.path.normpath(new.parent / os.path.relpath(source, old.parent)))
        if models_folder in moved.parents and moved.exists():
            return str(moved)
    return source


def unfinished(models_folder: Path) -> Iterator[Path]:
    """What jobs write to before it is whole, still at it or not."""
    for folder in folders_below(models_folder):
        for path in items(folder):
            is_partial = path.suffix == PARTIAL and is_file(path)
            is_workbench = path.name.startswith(workbench.WORK) and is_dir(path)
            is_workbench = is_workbench and not path.is_symlink()
            is_begun = path.name.startswith(STAGING) or path.name == MOVING
            if is_partial or is_workbench or is_begun:
                yield path


def is_in_use(path: Path) -> bool:
    """Whether a job is writing to the unfinished file or folder `path`, as far as one can see."""
    with contextlib.suppress(OSError):  # it has ended meanwhile
        return _is_busy(path) if path.is_dir() else is_locked(path)
    return False


def _is_busy(folder: Path) -> bool:
    if folder.name.startswith(workbench.WORK):
        return workbench.is_busy(folder)
    return is_busy(folder)


def discard(leftovers: tuple[Leftover, ...]) -> None:
    """Delete them for good, but for one that is written to again; may take the disk a while.

    Raises what `write_error` gives.
    """
    for leftover in leftovers:
        path = Path(leftover.path)
        try:
            if not path.is_dir():
                remove_partial(path)
            elif not _is_busy(path):
                shutil.rmtree(path)
        except OSError as error:
            raise write_error(error, path) from error
