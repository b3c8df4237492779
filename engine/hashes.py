"""SHA-256 of model files: told by a note or a name where there is one, else read and remembered."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Generator
from pathlib import Path

import msgspec

from engine.copying import hash_file
from engine.errors import StorageError
from engine.files import file_mark, make_folder, replace_bytes
from engine.hub.provenance import source_of
from engine.walk import is_text

log = logging.getLogger(__name__)

_BLOB = re.compile(r"(?:sha256-)?([0-9a-f]{64})")
"""What Hugging Face's cache (without the prefix) and Ollama call a file, after its content."""


class Hash(msgspec.Struct, frozen=True):
    """The SHA-256 of a file as it was when it had this `file_mark`."""

    mark: tuple[int, int]
    sha256: str


class Hashes:
    """What is remembered in the cache `file`; a broken one counts as empty."""

    def __init__(self, file: Path) -> None:
        self._file = file
        try:
            self._known = msgspec.json.decode(file.read_bytes(), type=dict[str, Hash])
        except FileNotFoundError:
            self._known = {}
        except (OSError, msgspec.DecodeError, RecursionError) as error:
            log.warning("remembered hashes not used: %s", error)
            self._known = {}

    def get(self, path: Path) -> str:
        """The SHA-256 of `path` in hex, if it can be told without reading; raises OSError."""
        return _told(path) or self._remembered(path)

    def read(self, path: Path) -> Generator[int, None, str]:
        """Hash `path` and remember it; yields bytes. Raises what `hash_file` raises, OSError."""
        before = file_mark(path)
        sha256 = yield from hash_file(path)
        if file_mark(path) == before:
            self._known[str(path)] = Hash(before, sha256)
            self._save()
        return sha256

    def _remembered(self, path: Path) -> str:
        known = self._known.get(str(path))
        return known.sha256 if known and known.mark == file_mark(path) else ""

    def _save(self) -> None:
        self._known = {path: known for path, known in self._known.items() if Path(path).exists()}
        noted = {path: known for path, known in self._known.items() if is_text(path)}
        try:
            make_folder(self._file.parent)
            replace_bytes(self._file, msgspec.json.encode(noted))
        except StorageError as error:  # it only has to be read again another time
            log.warning("hashes not remembered: %s", error.details)


def _told(path: Path) -> str:
    """What the name of a blob, or the note of a download, says."""
    real = Path(os.path.realpath(path))
    if real.parent.name == "blobs" and (blob := _BLOB.fullmatch(real.name)):
        return blob[1]
    source = source_of(path)
    if source and source.size_bytes == path.stat().st_size:
        kind, _, digest = source.digest.partition(":")
        return digest if kind == "sha256" else ""
    return ""
