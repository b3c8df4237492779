"""Finds the models on this disk: what is in the models folder, and what was added from elsewhere.

It knows where models lie and which files make one up; what is inside a model is `inspect`'s
business. Nothing is copied, moved or deleted here, and a broken file is an entry with a sentence.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from engine import starter
from engine.errors import EngineError
from engine.hub.provenance import Source, source_of
from engine.inspect import ModelSummary, describe
from engine.other_apps import App, Place, ollama_models
from engine.splits import SPLIT_NAME, model_files
from engine.walk import folders_below, is_dir, is_file, items

log = logging.getLogger(__name__)

CHECKPOINT_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")


class Entry(msgspec.Struct, frozen=True):
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
    """The models folder and the paths added to it; safe to scan from any thread.

    A model is looked into once, and again only after its files have changed.
    """

    def __init__(
        self,
        models_folder: str | Path,
        added: tuple[str, ...] = (),
        places: tuple[Place, ...] = (),
    ) -> None:
        self.models_folder = Path(models_folder)
        self.added = added
        self.places = places
        self._known: dict[str, tuple[_Fingerprint, Entry]] = {}
        self._lock = threading.Lock()

    def scan(self) -> tuple[Entry, ...]:
        """List every model by name, each once however many links lead to it; broken ones last."""
        entries: dict[str, Entry] = {}
        for path in self._candidates():
            identity = _identity(path)
            if identity not in entries:
                entries[identity] = self.look_at(path)
        for path, app, name in self._of_other_apps():
            identity = _identity(path)
            if identity not in entries:
                entry = self.look_at(path)
                if entry.summary:  # what is broken there is not ours to tell
                    entries[identity] = msgspec.structs.replace(entry, origin=app, given_name=name)
        return tuple(sorted(entries.values(), key=_order))

    def look_at(self, path: Path) -> Entry:
        """Describe one GGUF or checkpoint folder, wherever it lies."""
        files = tuple(map(str, model_files(path)))
        fingerprint = _fingerprint(files)
        with self._lock:
            known = self._known.get(str(path))
        own = self.is_own(path)
        if known and known[0] == fingerprint and known[1].own == own:
            return known[1]
        entry = _examine(path, files, own)
        with self._lock:
            self._known[str(path)] = (fingerprint, entry)
        return entry

    def is_own(self, path: Path) -> bool:
        """Tell whether `path` lies in the models folder, so that removing it deletes it."""
        return self.models_folder.absolute() in path.absolute().parents

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


def _identity(path: Path) -> str:
    """What the names of one model have in common: links to it, and all its parts."""
    try:
        return os.path.realpath(model_files(path)[0])
    except (OSError, ValueError):  # a name that no disk can hold, from a settings file
        return str(path)


_Fingerprint = tuple[tuple[str, int, int], ...]


def _fingerprint(files: tuple[str, ...]) -> _Fingerprint:
    """Path, size and time of change of each file; of the files in it for a checkpoint's folder."""
    marks = []
    for file in files:
        for path in items(Path(file)) if is_dir(Path(file)) else [Path(file)]:
            with contextlib.suppress(OSError, ValueError):  # what is not there leaves no mark
                stat = path.stat()
                marks.append((str(path), stat.st_size, stat.st_mtime_ns))
    return tuple(marks)


def _examine(path: Path, files: tuple[str, ...], own: bool) -> Entry:
    def broken(problem: str, hint: str = "") -> Entry:
        return Entry(str(path), None, problem, own, files, hint)

    try:
        if not path.exists():
            return broken(
                "It is not there any more.", "Connect its drive, or remove it from the list."
            )
        return Entry(str(path), describe(path), "", own, files, source=source_of(path))
    except EngineError as error:
        return broken(error.message, error.hint)
    except OSError as error:
        return broken(f"It cannot be read: {error.strerror or error}.", "Check its permissions.")
    except Exception:  # a bug of ours that one model brings out must not hide the others
        log.exception("cannot describe a model")
        return broken("Snug cannot make sense of it.", "Get it again, or remove it from the list.")


def _order(entry: Entry) -> tuple[bool, bool, str, str]:
    return entry.summary is None, entry.is_starter, entry.name.lower(), entry.path


def _is_checkpoint(folder: Path) -> bool:
    """Tell whether `folder` has weights beside a config.json; pickled ones too, to say why not."""
    if not is_file(folder / "config.json"):
        return False
    return any(path.suffix.lower() in CHECKPOINT_WEIGHTS for path in items(folder))
