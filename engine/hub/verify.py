"""The job that looks whether downloaded files still are what they were."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from pathlib import Path
from typing import ClassVar

import msgspec

from engine.files import read_error
from engine.hub.provenance import NAME, noted_files, source_of
from engine.jobs import Job, Progress
from engine.splits import model_files

BLOCK = 8 << 20


class Verified(msgspec.Struct, frozen=True):
    """Files of a model by what became of them.

    `missing` ones are noted, or parts of a split GGUF, and not there; `unknown` ones have no note
    of their digest.
    """

    path: str
    good: tuple[str, ...]
    damaged: tuple[str, ...]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]


class Verify(Job, frozen=True):
    """Hash every file of the model at `path` again; raises NotFound, StorageError."""

    Result: ClassVar = Verified

    path: str

    def run(self) -> Generator[Progress, None, Verified]:
        model = Path(self.path)
        files, missing = _files(model)
        total_bytes = sum(file.stat().st_size for file in files)
        done_bytes = 0
        found: dict[str, list[str]] = {"good": [], "damaged": [], "unknown": []}
        for file in files:
            source = source_of(file)
            if source is None or not source.digest:
                found["unknown"].append(str(file))
                done_bytes += file.stat().st_size
                continue
            kind, _, expected = source.digest.partition(":")
            size = file.stat().st_size
            digest = hashlib.sha256() if kind == "sha256" else hashlib.sha1(b"blob %d\0" % size)
            try:
                with file.open("rb") as opened:
                    while block := opened.read(BLOCK):
                        digest.update(block)
                        done_bytes += len(block)
                        yield Progress("Verifying", done_bytes, total_bytes, "bytes")
            except OSError as error:
                raise read_error(error, file) from error
            is_good = size == source.size_bytes and digest.hexdigest() == expected
            found["good" if is_good else "damaged"].append(str(file))
        lists = {kind: tuple(paths) for kind, paths in found.items()}
        return Verified(self.path, missing=tuple(map(str, missing)), **lists)


def _files(model: Path) -> tuple[list[Path], list[Path]]:
    """The files of `model` that are there, and those that should be; raises NotFound for none."""
    try:
        if model.is_dir():
            here = {path for path in model.iterdir() if path.is_file() and path.name != NAME}
            wanted = here | set(noted_files(model))
        else:
            wanted = set(model_files(model))
        files = [path for path in sorted(wanted) if path.is_file()]
        if not files:
            model.stat()
    except OSError as error:
        raise read_error(error, model) from error
    return files, sorted(wanted - set(files))
