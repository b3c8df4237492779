"""What the disk can do to the conversations file, as sentences with a next step."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import CorruptFile, DiskFull, EngineError, NotWritable, StorageError


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn what the disk can do to us into sentences; any other SQLite error is our bug."""
    try:
        yield
    except sqlite3.Error as error:
        sentence = _sentence(error, path)
        if sentence is None:
            raise
        raise sentence from error
    except OSError as error:
        raise NotWritable(
            "The folder for your conversations cannot be made.",
            hint="Allow Snug to write there.",
            details=f"{path}: {error}",
        ) from error


def _sentence(error: sqlite3.Error, path: Path) -> EngineError | None:
    name = getattr(error, "sqlite_errorname", None) or ""
    details = f"{path}: {error} ({name})"
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return CorruptFile(
            "The file with your conversations is damaged.",
            hint="Move it away to start anew; a backup may lie beside it.",
            details=details,
        )
    if name == "SQLITE_FULL":
        return DiskFull(
            "The disk is full, so your conversations cannot be saved.",
            hint="Free some space, then try again.",
            details=details,
        )
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return NotWritable(
            "The file with your conversations cannot be written.",
            hint="Allow Snug to write to it.",
            details=details,
        )
    if name.startswith(("SQLITE_IOERR", "SQLITE_BUSY", "SQLITE_LOCKED")):
        return StorageError(
            "The file with your conversations cannot be reached.",
            hint="Close other programs that use it, then try again.",
            details=details,
        )
    return None
