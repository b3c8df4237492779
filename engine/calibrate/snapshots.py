"""What a calibration has summed up so far, kept so that a killed or paused one goes on from it.

Now and then the whole file in the making is copied; then a note says how far the copy is, and only
then the one before goes. So at any moment there is one that is whole, or none.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine.calibrate.sums import Sums, Tally
from engine.errors import StorageError
from engine.files import read_error, replace_bytes
from engine.partial import partial_of

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

EVERY_S = 60.0
PIECE_BYTES = 16 << 20
MOST_SHARE = 20
"""A copy that takes a second is made every 20 seconds at most."""


class _Note(msgspec.Struct, frozen=True):
    """Of the calibration `key` the first `n_chunks` are in the copy, with `tally`."""

    key: str
    n_chunks: int
    tally: Tally


class Snapshots:
    """Those of the file `out` that is made of `key`, beside it; without `is_wanted` there are none.

    For one thread at a time, but for `interrupt`.
    """

    def __init__(self, out: Path, key: str, *, is_wanted: bool) -> None:
        self._out = out
        self._key = key
        self._is_wanted = is_wanted
        self._pause_s = EVERY_S
        self._saved_at = time.monotonic()
        self._is_interrupted = threading.Event()

    @property
    def is_due(self) -> bool:
        return self._is_wanted and time.monotonic() - self._saved_at >= self._pause_s

    def save(self, sums: Sums, n_chunks: int) -> None:
        """Keep `sums` after `n_chunks`, if the disk has room for that and nothing interrupts.

        Else the one before stays.
        """
        began = time.monotonic()
        copy = self._copy(n_chunks)
        try:
            if self._made(copy):
                note = _Note(self._key, n_chunks, sums.tally())
                replace_bytes(self._note, msgspec.msgpack.encode(note))
        except (OSError, StorageError) as error:
            log.info("what was read so far is not kept: %s", error)
            self._is_wanted = False
        self._drop_others()
        self._saved_at = time.monotonic()
        self._pause_s = max(EVERY_S, MOST_SHARE * (self._saved_at - began))

    def interrupt(self) -> None:
        """Let `save` and `restore` end soon, whatever they are at; from any thread, for good."""
        self._is_interrupted.set()

    def restore(self, sums: Sums) -> int:
        """Let `sums` go on from what is kept; returns how many chunks that is.

        What is kept of others, or damaged, goes.
        Raises StorageError if it cannot be read to its end, CancelledError when interrupted.
        """
        if not self._is_wanted:
            return 0
        note = self._read_note()
        if note is None or not self._is_of(note, sums):
            self.remove()
            return 0
        copy = self._copy(note.n_chunks)
        try:
            sums.restore(note.tally, copy, self._is_interrupted.is_set)
        except OSError as error:
            raise read_error(error, copy) from error
        return note.n_chunks

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self._note.unlink(missing_ok=True)
            for copy in self._copies():
                copy.unlink()

    def _is_of(self, note: _Note, sums: Sums) -> bool:
        try:
            size_bytes = self._copy(note.n_chunks).stat().st_size
        except OSError:
            return False
        return note.key == self._key and sums.fits(note.tally, size_bytes)

    def _made(self, copy: Path) -> bool:
        """Copy the file in the making, piece by piece; False when interrupted. Raises OSError."""
        with partial_of(self._out).open("rb") as source, copy.open("wb", buffering=0) as file:
            # What was written to the map is seen.
            while piece := memoryview(source.read(PIECE_BYTES)):
                if self._is_interrupted.is_set():
                    return False
                while piece:
                    piece = piece[file.write(piece) :]
                os.fsync(file.fileno())  # each by itself: the whole may take minutes
        return True

    def _drop_others(self) -> None:
        """Remove the copies that the note does not name: those that are not whole, and old ones."""
        note = self._read_note()
        with contextlib.suppress(OSError):
            for copy in self._copies():
                if note is None or copy != self._copy(note.n_chunks):
                    copy.unlink()

    def _read_note(self) -> _Note | None:
        try:
            return msgspec.msgpack.decode(self._note.read_bytes(), type=_Note)
        except (OSError, msgspec.DecodeError):
            return None

    @property
    def _note(self) -> Path:
        return self._out.with_name(f"{self._out.name}.kept")

    def _copy(self, n_chunks: int) -> Path:
        return self._out.with_name(f"{self._out.name}.kept-{n_chunks}")

    def _copies(self) -> Iterator[Path]:
        return self._out.parent.glob(f"{self._out.name}.kept-*")
