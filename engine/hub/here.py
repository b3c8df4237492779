"""What of a model of the hub is on this disk already: whole, unfinished, or another version."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import ClassVar

import msgspec

from engine.errors import AlreadyExists, UnsafeFile
from engine.hub.download import Note, Place, is_busy, read_note, size_on_disk
from engine.hub.repo import Repo, Variant
from engine.jobs import Job, Progress


class Here(msgspec.Struct, frozen=True):
    """What the models folder has of one variant: the `path` to use, or the `note` to go on with.

    `is_current` is False where the hub has other files by now; `size_bytes` is what has arrived.
    """

    path: str = ""
    is_current: bool = True
    note: Note | None = None
    size_bytes: int = 0


class FindHere(Job, frozen=True):
    """What of `repo` is in the models folder `folder`, by the name of each variant's main file."""

    Result: ClassVar = dict[str, Here]

    repo: Repo
    folder: str

    def run(self) -> Generator[Progress, None, dict[str, Here]]:
        yield Progress("Looking at the models folder", 0, None, "steps")
        return find_here(self.repo, Path(self.folder))


def find_here(repo: Repo, folder: Path) -> dict[str, Here]:
    """What of `repo` is below the models folder, by the name of each variant's main file."""
    found = {}
    for variant in repo.variants():
        with contextlib.suppress(UnsafeFile):  # of such a name nothing is ever fetched
            if here := _look(Place(folder, repo, variant), repo, variant):
                found[variant.main_file.name] = here
    return found


def _look(place: Place, repo: Repo, variant: Variant) -> Here | None:
    note = read_note(place.staging) if place.staging.is_dir() else None
    if note and not is_busy(place.staging):
        return Here(note=note, size_bytes=size_on_disk(place.staging))
    source = place.source()
    if source is None or source.repo != repo.id:
        return None
    # Another text about it makes no other model.
    files = [file for file in variant.files if file.name != "README.md"]
    try:
        is_current = all(map(place.has, files))
    except AlreadyExists:
        is_current = False
    # Of the same revision with something missing it is no other version: a download completes it.
    is_usable = is_current or source.revision != repo.revision
    return Here(str(place.path), is_current) if is_usable else None
