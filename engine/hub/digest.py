"""The digest of a download, taken beside it: the beginning is hashed while the rest comes in."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Generator
from typing import Self

from engine.errors import CorruptFile
from engine.hub.part import Part
from engine.jobs import Progress

READ_BYTES = 4 << 20
TICK_S = 0.05


class Digest:
    """Follows the pieces of `part` on a thread of its own, from the first one on, in order."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._kind, _, self._expected = part.wanted.digest.partition(":")
        if self._kind == "git-sha1":  # small files have no other: the name that git gives them
            self._hash = hashlib.sha1(b"blob %d\0" % part.wanted.size_bytes)
        else:
            self._hash = hashlib.sha256()
        self._done_bytes = 0
        self._error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="digest")

    def __enter__(self) -> Self:
        if self._expected:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._expected:
            self._thread.join()

    def verify(self) -> Generator[Progress, None, None]:
        """Wait until all is hashed; raises CorruptFile unless it is what the hub describes."""
        if not self._expected:
            return
        size_bytes = self._part.wanted.size_bytes
        while self._thread.is_alive():
            yield Progress("Verifying", self._done_bytes, size_bytes, "bytes")
            self._thread.join(TICK_S)
        if self._error:
            raise self._error
        if self._hash.hexdigest() != self._expected:
            raise CorruptFile(
                f"{self._part.target.name} arrived damaged: it is not the file that the hub"
                " describes.",
                hint="Download it again.",
                details=f"{self._kind} {self._hash.hexdigest()}, expected {self._expected}",
            )

    def _follow(self) -> None:
        try:
            while self._done_bytes < self._part.wanted.size_bytes and not self._stop.is_set():
                n_bytes = min(self._part.leading_bytes() - self._done_bytes, READ_BYTES)
                if n_bytes:
                    self._hash.update(self._part.read(self._done_bytes, n_bytes))
                    self._done_bytes += n_bytes
                else:
                    self._stop.wait(TICK_S)
        except Exception as error:  # noqa: BLE001 - `verify` raises it in the thread that asked
            self._error = error
