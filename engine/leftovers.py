"""What interrupted jobs left in the models folder, and how it is discarded.

A `.partial` file of a shrink, the hidden folder of a download, that of a move to here.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from engine.files import write_error
from engine.hub.download import STAGING, Note, is_busy, read_note, size_on_disk
from engine.walk import folders_below, is_file, items

IN_USE_SECONDS = 60.0  # a partial file written to within the last minute is still being made
PARTIAL = ".partial"
MOVING = ".snug-moving"
"""The hidden folder in which `engine.move` gathers what comes from another disk."""


class Leftover(msgspec.Struct, frozen=True):
    """What an interrupted job left in the models folder: a file, or a folder.

    `note` says how a download goes on; without one there is nothing to do but to discard it.
    """

    path: str
    size_bytes: int
    note: Note | None = None


def find_leftovers(models_folder: Path) -> tuple[Leftover, ...]:
    """List what nobody is writing to any more."""
    found = []
    for path in unfinished(models_folder):
        with contextlib.suppress(OSError):  # finished or discarded meanwhile
            if is_in_use(path):
                continue
            if path.is_dir():
                found.append(Leftover(str(path), size_on_disk(path), read_note(path)))
            else:
                found.append(Leftover(str(path), path.stat().st_size))
    return tuple(sorted(found, key=lambda leftover: leftover.path))


def unfinished(models_folder: Path) -> Iterator[Path]:
    """What jobs write to before it is whole, still at it or not."""
    for folder in folders_below(models_folder):
        for path in items(folder):
            is_partial = path.suffix == PARTIAL and is_file(path)
            if is_partial or path.name.startswith(STAGING) or path.name == MOVING:
                yield path


def is_in_use(path: Path) -> bool:
    """Whether a job is writing to the unfinished file or folder `path`, as far as one can see."""
    with contextlib.suppress(OSError):  # it has ended meanwhile
        if path.is_dir():
            return is_busy(path)
        return path.stat().st_mtime > time.time() - IN_USE_SECONDS
    return False


def discard(leftovers: tuple[Leftover, ...]) -> None:
    """Delete them for good, but for one that is written to again; may take the disk a while.

    Raises what `write_error` gives.
    """
    for leftover in leftovers:
        path = Path(leftover.path)
        try:
            if not path.is_dir():
                path.unlink(missing_ok=True)
            elif not is_busy(path):
                shutil.rmtree(path)
        except OSError as error:
            raise write_error(error, path) from error
