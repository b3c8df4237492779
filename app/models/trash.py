"""Files on their way to the system's trash, and back from it. May take the disk a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

import msgspec
from PySide6.QtCore import QFile, QStandardPaths

from engine.copying import move_path
from engine.errors import NotWritable


class Trashed(msgspec.Struct, frozen=True):
    """Where a file or folder was, and where in the trash it is now (empty: the system hides it)."""

    place: str
    in_trash: str


def move_to_trash(paths: Iterable[str]) -> tuple[Trashed, ...]:
    """Move those that are there to the trash, all or none; raises NotWritable."""
    data = QStandardPaths.StandardLocation.GenericDataLocation
    with contextlib.suppress(OSError):  # where a desktop keeps its trash: a new home has none
        Path(QStandardPaths.writableLocation(data)).mkdir(parents=True, exist_ok=True)
    trashed: list[Trashed] = []
    for path in paths:
        if not Path(path).exists():
            continue
        file = QFile(path)
        if not file.moveToTrash():
            bring_back(trashed)
            raise NotWritable(
                f"{Path(path).name} could not be moved to the trash.",
                hint="This disk may have no trash. Show it in its folder and delete it there.",
                details=path,
            )
        trashed.append(Trashed(path, file.fileName()))
    return tuple(trashed)


def bring_back(trashed: Iterable[Trashed]) -> None:
    """Put each back to where it was; raises AlreadyExists for a place that is taken by now."""
    for item in trashed:
        source = Path(item.in_trash)
        move_path(source, Path(item.place))
        if source.parent.name == "files":  # a desktop's trash notes where each thing was
            note = source.parents[1] / "info" / f"{source.name}.trashinfo"
            with contextlib.suppress(OSError):
                note.unlink(missing_ok=True)
