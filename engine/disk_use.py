"""How much of its disk the models folder takes."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from engine.library import Entry


class DiskUse(msgspec.Struct, frozen=True):
    """What the models in `folder` take, and what is free on the disk that holds it."""

    folder: str
    used_bytes: int
    free_bytes: int


def disk_use(models_folder: Path, entries: Iterable[Entry]) -> DiskUse:
    """Add up the own ones of `entries`: a file once however many names it has, a link to elsewhere
    not at all. Raises nothing; may take the disk a moment.
    """
    root = Path(os.path.realpath(models_folder))
    sizes: dict[tuple[int, int], int] = {}
    for file in (file for entry in entries if entry.own for file in _files(entry)):
        with contextlib.suppress(OSError):  # gone, or not to be looked at
            if root in Path(os.path.realpath(file)).parents:
                stat = file.stat()
                sizes[stat.st_dev, stat.st_ino] = stat.st_size
    return DiskUse(str(models_folder), sum(sizes.values()), _free_bytes(models_folder))


def _files(entry: Entry) -> Iterator[Path]:
    for name in entry.files:
        if Path(name).is_file():
            yield Path(name)
        for folder, _, names in os.walk(name):  # nothing for what is no folder
            yield from (Path(folder, inner) for inner in names)


def _free_bytes(folder: Path) -> int:
    """What is free on the disk on which `folder` is, or will be made."""
    for place in (folder, *folder.absolute().parents):
        with contextlib.suppress(OSError):
            return shutil.disk_usage(place).free
    return 0
