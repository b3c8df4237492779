"""What moves with the models folder: models, what unfinished jobs have; by name, unread."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from engine.errors import AlreadyExists, StorageError
from engine.files import bytes_on_disk, read_error
from engine.hub.download import NOTE
from engine.hub.provenance import NAME, read
from engine.leftovers import MOVING, is_in_use, unfinished
from engine.library import find_models
from engine.partial import PARTIAL, note_of
from engine.quantize.report import report_path
from engine.splits import model_files


class Load(msgspec.Struct, frozen=True):
    """What is to move: `files` by their path in the folder, those that make a model one last."""

    files: tuple[str, ...]
    n_models: int
    size_bytes: int


def survey(source: Path, target: Path) -> Load:
    """What moves from `source` to `target`, without reading it; may take the disk a while.

    Raises AlreadyExists if both are one folder, StorageError if something is written to there.
    """
    if os.path.realpath(source) == os.path.realpath(target):
        raise AlreadyExists(f"The models are in {target} already.", hint="Choose another folder.")
    if busy := in_use(source, target):
        raise StorageError(
            f"A job is still writing to {busy.parent}.",
            hint="Wait until downloads and shrinks have ended, then move the models.",
            details=str(busy),
        )
    models = [path for path in find_models(source) if not is_new(path, source, target)]
    # What a move to `source` has left of itself is of no use elsewhere, and is named as this one's.
    begun = [path for path in unfinished(source) if path.name != MOVING]
    try:
        found = [_own(path, source) for path in (*models, *begun)]
        files = dict.fromkeys(file for path in found for file in _files(path))
        old = [file for file in files if not is_new(file, source, target)]
        size_bytes = sum(map(size_on_disk, old))
    except OSError as error:
        raise read_error(error, source) from error
    return Load(tuple(str(file.relative_to(source)) for file in old), len(models), size_bytes)


def in_use(source: Path, target: Path) -> Path | None:
    """What a job is writing to in `source`."""
    old = (path for path in unfinished(source) if not is_new(path, source, target))
    return next(filter(is_in_use, old), None)


def is_new(path: Path, source: Path, target: Path) -> bool:
    """Whether `path` is in the new folder already, where that lies in the old one."""
    return source in target.parents and target in (path, *path.parents)


def _own(path: Path, source: Path) -> Path:
    """`path`, or the link in `source` behind which it lies: then only the link is Snug's."""
    above = [folder for folder in path.parents if source in folder.parents and folder.is_symlink()]
    return above[-1] if above else path


def _files(path: Path) -> list[Path]:
    """What moves with a model or with what a job has left; what makes it one comes last."""
    if path.suffix == PARTIAL:
        return [part for part in (note_of(path), path) if part.exists()]
    if path.is_symlink() or not path.is_dir():
        files = [report_path(path), *reversed(model_files(path))]
        return [file for file in files if os.path.lexists(file)]
    files = []
    for root, folders, names in os.walk(path):
        links = [name for name in folders if Path(root, name).is_symlink()]
        files += [Path(root, name) for name in (*names, *links)]
    notes = {file for file in files if file.name == NAME and read(file.parent).files}
    last = (path / "config.json", path / NOTE)
    return sorted((file for file in files if file not in notes), key=lambda file: file in last)


def size_on_disk(path: Path) -> int:
    return 0 if path.is_symlink() else bytes_on_disk(path)
