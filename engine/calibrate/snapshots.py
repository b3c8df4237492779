"""What a calibration has summed up so far, kept so that a killed or paused one goes on from it.

Now and then the whole file in the making is copied; then a note says how far the copy is, and only
then the one before goes. So at any moment there is one that is whole, or none.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
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
MOST_SHARE = 20
"""A copy that takes a second is made every 20 seconds at most."""


class _Note(msgspec.Struct, frozen=True):
    """Of the calibration `key` the first `n_chunks` are in the copy, with `tally`."""

    key: str
    n_chunks: int
    tally: Tally


class Snapshots:
    """Those of the file `out` that is made of `key`, beside it; without `is_wanted` there are none.

    For one thread at a time.
    """

    def __init__(self, out: Path, key: str, *, is_wanted: bool) -> None:
        self._out = out
        self._key = key
        self._is_wanted = is_wanted
        self._pause_s = EVERY_S
        self._saved_at = time.monotonic()

    @property
    def is_due(self) -> bool:
        return self._is_wanted and time.monotonic() - self._saved_at >= self._pause_s

    def save(self, sums: Sums, n_chunks: int) -> None:
        """Keep `sums` after `n_chunks`, if the disk has room for that."""
        began = time.monotonic()
        copy = self._copy(n_chunks)
        try:
            shutil.copyfile(partial_of(self._out), copy)  # sees what was written to the map
            with copy.open("rb+") as file:
                os.fsync(file.fileno())
            note = _Note(self._key, n_chunks, sums.tally())
            replace_bytes(self._note, msgspec.msgpack.encode(note))
            for old in self._copies():
                if old != copy:
                    old.unlink()
        except (OSError, StorageError) as error:
            log.info("what was read so far is not kept: %s", error)
            self._is_wanted = False
            self.remove()
        self._saved_at = time.monotonic()
        self._pause_s = max(EVERY_S, MOST_SHARE * (self._saved_at - began))

    def restore(self, sums: Sums) -> int:
        """Let `sums` go on from what is kept; returns how many chunks that is.

        Raises StorageError if it cannot be read to its end.
        """
        if not self._is_wanted:
            return 0
        try:
            note = msgspec.msgpack.decode(self._note.read_bytes(), type=_Note)
            copy = self._copy(note.n_chunks)
            size_bytes = copy.stat().st_size
        except (OSError, msgspec.DecodeError):
            return 0
        if note.key != self._key or not sums.fits(note.tally, size_bytes):
            return 0
        try:
            sums.restore(note.tally, copy)
        except OSError as error:
            raise read_error(error, copy) from error
        return note.n_chunks

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self._note.unlink(missing_ok=True)
            for copy in self._copies():
                copy.unlink()

    @property
    def _note(self) -> Path:
        return self._out.with_name(f"{self._out.name}.kept")

    def _copy(self, n_chunks: int) -> Path:
        return self._out.with_name(f"{self._out.name}.kept-{n_chunks}")

    def _copies(self) -> Iterator[Path]:
        return self._out.parent.glob(f"{self._out.name}.kept-*")
