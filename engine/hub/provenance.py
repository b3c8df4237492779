"""Where a model came from: `model.json` in its folder, by the name of each file."""

from __future__ import annotations

import logging
from collections.abc import Container
from pathlib import Path

import msgspec

from engine.files import replace_bytes
from engine.hub.names import MAX_DEPTH
from engine.hub.repo import Repo, Variant

log = logging.getLogger(__name__)

NAME = "model.json"


class Source(msgspec.Struct, frozen=True):
    """The origin of a file; `digest` is what it was verified with."""

    repo: str
    revision: str
    license: str
    size_bytes: int
    digest: str


class Provenance(msgspec.Struct, frozen=True):
    """What `model.json` holds. A file of another version, or a broken one, counts as empty."""

    files: dict[str, Source] = {}


def read(folder: Path) -> Provenance:
    """What is known of the files in `folder`; nothing where there is no note."""
    try:
        return msgspec.json.decode((folder / NAME).read_bytes(), type=Provenance)
    except FileNotFoundError:
        return Provenance()
    except (OSError, ValueError, msgspec.DecodeError) as error:
        log.warning("provenance not used: %s", error)
        return Provenance()


def source_of(model: Path) -> Source | None:
    """Where the GGUF or checkpoint folder `model` was downloaded from, if it was."""
    main_file = model / "config.json" if model.is_dir() else model
    for folder in main_file.parents[:MAX_DEPTH]:
        if source := read(folder).files.get(main_file.relative_to(folder).as_posix()):
            return source
    return None


def noted_files(checkpoint: Path) -> list[Path]:
    """The files of the folder `checkpoint` that notes speak of, whether they are there or not."""
    return [
        home / name
        for home in (checkpoint, *checkpoint.parents)[:MAX_DEPTH]
        for name in read(home).files
        if checkpoint in (home / name).parents and not name.lower().endswith(".gguf")
    ]


def take_over_notes(source: Path, target: Path, moved: Container[str]) -> None:
    """Add the note in `source` to the one in `target`, where its files are now.

    Of files that are noted in both, those named in `moved` have come from `source`. Raises what
    writing a file raises.
    """
    coming = read(source).files
    if any((target / name).exists() for name in coming):
        there = read(target).files
        _write(target, there | {n: s for n, s in coming.items() if n in moved or n not in there})


def drop_notes(folder: Path) -> None:
    """Remove the note in `folder` once none of its files is there any more."""
    files = read(folder).files
    if files and not any((folder / name).exists() for name in files):
        (folder / NAME).unlink(missing_ok=True)


def note_source(folder: Path, repo: Repo, variant: Variant) -> None:
    """Add the files of `variant` to the note in `folder`; raises what writing a file raises."""
    sources = {
        file.name: Source(repo.id, repo.revision, repo.about.license, file.size_bytes, file.digest)
        for file in variant.files
    }
    _write(folder, read(folder).files | sources)


def _write(folder: Path, files: dict[str, Source]) -> None:
    data = msgspec.json.encode(Provenance(files))
    replace_bytes(folder / NAME, msgspec.json.format(data, indent=1))
