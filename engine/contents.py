"""What is inside the models of this disk: looked into once, and again only after a change.

It is remembered from one start to the next: the headers of many models take seconds to read. There
may be thousands of them in memory, and none refers to itself: the garbage collector need not look.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from pathlib import Path

import msgspec

from engine import __version__
from engine.errors import EngineError, StorageError
from engine.files import make_folder, replace_bytes
from engine.fit.estimate import Estimate
from engine.hub.provenance import Source, source_of
from engine.inspect import ModelSummary, look_into
from engine.walk import is_dir, is_text, items

log = logging.getLogger(__name__)

Fingerprint = tuple[tuple[str, int, int], ...]


class Contents(msgspec.Struct, frozen=True, gc=False):
    """What a model is and would take, or in `problem` and `hint` why it is none.

    `estimate` is None for a checkpoint, which does not run as it is.
    """

    summary: ModelSummary | None = None
    estimate: Estimate | None = None
    problem: str = ""
    hint: str = ""
    source: Source | None = None
    """Where it was downloaded from."""


class _Known(msgspec.Struct, frozen=True, gc=False):
    fingerprint: Fingerprint
    contents: Contents

    def is_worth_keeping(self, path: str) -> bool:
        """Not what is broken, nor what a file cannot hold: a name may be any bytes."""
        names = (path, *(name for name, _, _ in self.fingerprint))
        return self.contents.summary is not None and all(map(is_text, names))


class _File(msgspec.Struct, frozen=True):
    version: str
    known: dict[str, _Known]


class Index:
    """Contents by path, kept in `file` if one is given; for any thread."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._known = _load(file) if file else {}
        self._is_new = False

    def known(self, path: Path, files: tuple[str, ...]) -> Contents | None:
        """What was found there before, if it has not changed; it takes no look inside."""
        with self._lock:
            known = self._known.get(str(path))
        # What is wrong with a file may pass without a change of it.
        if known and known.contents.summary and known.fingerprint == _fingerprint(files):
            return known.contents
        return None

    def examine(self, path: Path, files: tuple[str, ...]) -> Contents:
        """Look into the model at `path`, known or not."""
        fingerprint = _fingerprint(files)
        contents = _examine(path)
        with self._lock:
            self._known[str(path)] = _Known(fingerprint, contents)
            self._is_new = True
        return contents

    def last(self, path: str) -> Contents:
        """What was found in the model at `path` when it was looked into last."""
        with self._lock:
            known = self._known.get(path)
        return known.contents if known else Contents()

    def keep_only(self, paths: set[str]) -> None:
        """Forget the others."""
        with self._lock:
            kept = {path: known for path, known in self._known.items() if path in paths}
            self._is_new = self._is_new or len(kept) < len(self._known)
            self._known = kept

    def save(self) -> None:
        """Remember what is new for the next start."""
        with self._lock:
            known, is_new = dict(self._known), self._is_new
            self._is_new = False
        if self._file and is_new:
            good = {path: one for path, one in known.items() if one.is_worth_keeping(path)}
            try:
                make_folder(self._file.parent)
                replace_bytes(self._file, msgspec.msgpack.encode(_File(__version__, good)))
            except StorageError as error:  # they only have to be read again
                log.warning("contents not remembered: %s", error.details)


def _load(file: Path) -> dict[str, _Known]:
    try:
        found = msgspec.msgpack.decode(file.read_bytes(), type=_File)
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError) as error:
        log.warning("remembered contents not used: %s", error)
        return {}
    return found.known if found.version == __version__ else {}


def _fingerprint(files: tuple[str, ...]) -> Fingerprint:
    """Path, size and time of change of each file; of the files in it for a checkpoint's folder."""
    marks = []
    for file in files:
        for path in items(Path(file)) if is_dir(Path(file)) else [Path(file)]:
            with contextlib.suppress(OSError, ValueError):  # what is not there leaves no mark
                stat = path.stat()
                marks.append((str(path), stat.st_size, stat.st_mtime_ns))
    return tuple(marks)


def _examine(path: Path) -> Contents:
    try:
        if not path.exists():
            return Contents(
                problem="It is not there any more.",
                hint="Connect its drive, or remove it from the list.",
            )
        summary, estimate = look_into(path)
        return Contents(summary, estimate, source=source_of(path))
    except EngineError as error:
        return Contents(problem=error.message, hint=error.hint)
    except OSError as error:
        return Contents(
            problem=f"It cannot be read: {error.strerror or error}.", hint="Check its permissions."
        )
    except Exception:  # a bug of ours that one model brings out must not hide the others
        log.exception("cannot look into a model")
        return Contents(
            problem="Snug cannot make sense of it.",
            hint="Get it again, or remove it from the list.",
        )
