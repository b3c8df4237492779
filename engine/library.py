"""Finds the models on this disk: what is in the models folder, and what was added from elsewhere.

It knows where models lie and which files make one up; what is inside a model is `inspect`'s
business. Nothing is copied, moved or deleted here, and a broken file is an entry with a sentence.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import msgspec

from engine import starter
from engine.contents import Index
from engine.fit.estimate import Estimate
from engine.hub.provenance import Source
from engine.inspect import ModelSummary
from engine.jobs import Progress, finish
from engine.other_apps import App, Place, ollama_models
from engine.splits import SPLIT_NAME, model_files
from engine.walk import folders_below, is_file, items

CHECKPOINT_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A model on this disk, or a file that should be one: `problem` says what is wrong with it.

    `files` is everything that makes it up: the GGUF or all its parts, or the checkpoint's folder.
    `own` is true where these lie in the models folder.
    """

    path: str
    summary: ModelSummary | None
    problem: str
    own: bool
    files: tuple[str, ...]
    hint: str = ""
    origin: App | None = None
    """The other app whose model this is."""
    given_name: str = ""
    """What that app calls it, where the file's own name says nothing."""
    source: Source | None = None
    """Where it was downloaded from."""

    @property
    def is_starter(self) -> bool:
        """Whether this is the toy that comes with Snug: part of the program, not to be removed."""
        return self.path == str(starter.MODEL)

    @property
    def name(self) -> str:
        inner_name = self.summary.name if self.summary else ""
        return self.given_name or inner_name or Path(self.path).name


class Library:
    """The models folder and the paths added to it; safe to scan from any thread."""

    def __init__(
        self,
        models_folder: str | Path,
        added: tuple[str, ...] = (),
        places: tuple[Place, ...] = (),
        index: Index | None = None,
    ) -> None:
        self.models_folder = Path(models_folder)
        self.added = added
        self.places = places
        self._index = index or Index()

    def scan(self) -> tuple[Entry, ...]:
        """List every model by name, each once however many links lead to it; broken ones last."""
        return finish(self.look())

    def look(self) -> Generator[Progress, None, tuple[Entry, ...]]:
        """Scan as a job does it: before a model is read, the `stage` of a step names it."""
        try:
            entries = yield from self._find()
            self._index.keep_only({entry.path for entry in entries})
        finally:  # what was read until a cancel is not read again
            self._index.save()
        return tuple(sorted(entries, key=_order))

    def _find(self) -> Generator[Progress, None, list[Entry]]:
        entries: dict[str, Entry] = {}
        for path in self._candidates():
            identity = _identity(path)
            if identity not in entries:
                entries[identity] = yield from self._look_at(path, len(entries))
        for path, app, name in self._of_other_apps():
            identity = _identity(path)
            if identity not in entries:
                entry = yield from self._look_at(path, len(entries))
                if entry.summary:  # what is broken there is not ours to tell
                    entries[identity] = msgspec.structs.replace(entry, origin=app, given_name=name)
        return list(entries.values())

    def _look_at(self, path: Path, n_before: int) -> Generator[Progress, None, Entry]:
        """Describe one GGUF or checkpoint folder, wherever it lies."""
        files = tuple(map(str, model_files(path)))
        found = self._index.known(path, files)
        if found is None:
            name = path.name.encode("utf-8", "replace").decode()
            yield Progress(f"Reading {name}", n_before, None, "steps")
            found = self._index.examine(path, files)
        return Entry(
            path=str(path),
            summary=found.summary,
            problem=found.problem,
            own=is_own(path, self.models_folder),
            files=files,
            hint=found.hint,
            source=found.source,
        )

    def estimate(self, entry: Entry) -> Estimate | None:
        """What running a model that was found would take; None where it does not run as it is."""
        return self._index.last(entry.path).estimate

    def _candidates(self) -> Iterator[Path]:
        yield from find_models(self.models_folder)
        yield from map(Path, self.added)

    def _of_other_apps(self) -> Iterator[tuple[Path, App, str]]:
        for place in self.places:
            folder = Path(place.folder)
            if place.app == "Ollama":
                yield from ((Path(m.path), place.app, m.name) for m in ollama_models(folder))
            else:
                yield from ((path, place.app, "") for path in find_models(folder))


def find_models(root: Path) -> Iterator[Path]:
    """Yield the GGUF files (the first part of a split one) and checkpoint folders under `root`."""
    for folder in folders_below(root):
        if _is_checkpoint(folder):
            yield folder
        seen_splits = set()
        for path in items(folder):
            if path.suffix.lower() != ".gguf" or not is_file(path):
                continue
            split = SPLIT_NAME.fullmatch(path.name)
            if split is None:
                yield path
            elif (split["stem"], split["count"]) not in seen_splits:
                seen_splits.add((split["stem"], split["count"]))
                yield path


def is_own(path: Path, models_folder: Path) -> bool:
    """Tell whether `path` lies in the models folder, so that removing it deletes it."""
    return models_folder.absolute() in path.absolute().parents


def _identity(path: Path) -> str:
    """What the names of one model have in common: links to it, and all its parts."""
    try:
        return os.path.realpath(model_files(path)[0])
    except (OSError, ValueError):  # a name that no disk can hold, from a settings file
        return str(path)


def _order(entry: Entry) -> tuple[bool, bool, str, str]:
    return entry.summary is None, entry.is_starter, entry.name.lower(), entry.path


def _is_checkpoint(folder: Path) -> bool:
    """Tell whether `folder` has weights beside a config.json; pickled ones too, to say why not."""
    if not is_file(folder / "config.json"):
        return False
    return any(path.suffix.lower() in CHECKPOINT_WEIGHTS for path in items(folder))
