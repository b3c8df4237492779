"""The job that finds models which lie on the disk more than once, as the same bytes.

Links to one file are no duplicates: they take no room. What could be removed is for people to say.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections import defaultdict
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import ClassVar

import msgspec

from engine.copying import told
from engine.errors import StorageError
from engine.hashes import Hashes
from engine.jobs import Job, Progress
from engine.library import CHECKPOINT_WEIGHTS, Entry
from engine.walk import is_text, items

log = logging.getLogger(__name__)


class Same(msgspec.Struct, frozen=True):
    """`paths` are models of the same bytes: one takes `size_bytes`, the others `extra_bytes`."""

    paths: tuple[str, ...]
    size_bytes: int
    extra_bytes: int


class Duplicates(msgspec.Struct, frozen=True):
    """Largest waste first; `unread` are models that could not be compared."""

    groups: tuple[Same, ...]
    unread: tuple[str, ...] = ()


def comparable(entries: Iterable[Entry]) -> dict[str, tuple[str, ...]]:
    """The files of each model by its path, without those whose names are no text."""
    return {e.path: e.files for e in entries if all(map(is_text, (e.path, *e.files)))}


class FindDuplicates(Job, frozen=True):
    """Compare `models` (their files by the path of each) by size, then by SHA-256.

    Only what no note and no name tells is read, and remembered in the file `cache`. Of a checkpoint
    the weights count. Raises nothing: what cannot be read is left out.
    """

    Result: ClassVar = Duplicates

    models: dict[str, tuple[str, ...]]
    cache: str

    def run(self) -> Generator[Progress, None, Duplicates]:
        yield Progress("Looking at sizes", 0, None, "bytes")
        hashes = Hashes(Path(self.cache))
        same_size = _by_size(self.models)
        unknown = {
            file: file.size_bytes
            for models in same_size
            for model in models
            for file in model.files
            if not _told(file, hashes)
        }
        yield from told("Comparing models", _read(unknown, hashes), sum(unknown.values()))
        groups: dict[tuple[str, ...], list[_Model]] = defaultdict(list)
        unread = []
        for model in itertools.chain(*same_size):
            digests = tuple(sorted(_told(file, hashes) for file in model.files))
            if all(digests):
                groups[digests].append(model)
            else:
                unread.append(model.path)
        found = [_same(models) for models in groups.values() if len(models) > 1]
        return Duplicates(tuple(sorted(found, key=lambda same: -same.extra_bytes)), tuple(unread))


class _File(msgspec.Struct, frozen=True):
    """A file of weights; those with one `inode` are one file under several names."""

    path: Path
    size_bytes: int
    inode: tuple[int, int]


class _Model(msgspec.Struct, frozen=True):
    path: str
    files: tuple[_File, ...]


def _by_size(models: dict[str, tuple[str, ...]]) -> list[list[_Model]]:
    """The models that could be the same, those with weights of the same sizes, group by group."""
    groups: dict[tuple[int, ...], dict[frozenset[tuple[int, int]], _Model]] = defaultdict(dict)
    for path, files in models.items():
        with contextlib.suppress(OSError):  # it is not there any more
            weights = tuple(_look(file) for name in files for file in _weights(Path(name)))
            sizes = tuple(sorted(file.size_bytes for file in weights))
            inodes = frozenset(file.inode for file in weights)
            if weights:
                groups[sizes].setdefault(inodes, _Model(path, weights))
    return [list(group.values()) for group in groups.values() if len(group) > 1]


def _weights(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return [file for file in items(path) if file.suffix.lower() in CHECKPOINT_WEIGHTS]


def _look(path: Path) -> _File:
    stat = path.stat()
    return _File(path, stat.st_size, (stat.st_dev, stat.st_ino))


def _told(file: _File, hashes: Hashes) -> str:
    with contextlib.suppress(OSError):
        return hashes.get(file.path)
    return ""


def _read(files: Iterable[_File], hashes: Hashes) -> Generator[int, None, None]:
    for file in files:
        try:
            yield from hashes.read(file.path)
        except (OSError, StorageError) as error:
            log.warning("not compared: %s", error)


def _same(models: list[_Model]) -> Same:
    size_bytes = sum(file.size_bytes for file in models[0].files)
    on_disk = {file.inode: file.size_bytes for model in models for file in model.files}
    paths = tuple(model.path for model in models)
    return Same(paths, size_bytes, sum(on_disk.values()) - size_bytes)
