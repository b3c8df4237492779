"""Logits of a text's first chunks, kept on disk so that a large model has to read it only once."""

from __future__ import annotations

import logging
import shutil
import tempfile
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

from engine.files import read_error

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

log = logging.getLogger(__name__)

MOST_BYTES = 4 << 30
"""A vocabulary of 128,000 takes 130 MB for a chunk of 512 tokens."""


class KeptLogits:
    """Takes chunks of float32 [n_rows, n_vocab] in order until `most_bytes` are reached.

    Never more than half of what is free on the disk of `folder` (None: where temporary files go).
    The file has no name, or goes with the process: nothing is left of it after a crash.
    """

    def __init__(self, n_rows: int, n_vocab: int, most_bytes: int, folder: Path | None) -> None:
        self.n = 0
        self._shape = (n_rows, n_vocab)
        self._chunk_bytes = n_rows * n_vocab * 4
        self._n_max = 0
        self._file: FileIO | None = None
        if most_bytes < self._chunk_bytes:
            return
        try:
            free_bytes = shutil.disk_usage(folder or tempfile.gettempdir()).free
            self._file = tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115 - kept
            self._n_max = min(most_bytes, free_bytes // 2) // self._chunk_bytes
        except OSError as error:
            log.info("logits are not kept: %s", error)

    @property
    def capacity(self) -> int:
        """How many chunks it has room for, as far as is known."""
        return self._n_max

    def append(self, logits: NDArray[np.float32]) -> None:
        """Keep the next chunk if there is room; a full disk is no failure."""
        if self._file is None or self.n >= self._n_max:
            return
        try:
            self._file.seek(self.n * self._chunk_bytes)
            rest = logits.data.cast("B")
            while rest:
                rest = rest[self._file.write(rest) :]
            self.n += 1
        except OSError as error:
            log.info("no more logits are kept: %s", error)
            self._n_max = self.n

    def read(self, index: int) -> NDArray[np.float32] | None:
        """The chunk `index`, float32 [n_rows, n_vocab]; None if it is not kept.

        Raises StorageError for a disk that lost it.
        """
        import numpy as np

        if self._file is None or index >= self.n:
            return None
        logits = np.empty(self._shape, dtype=np.float32)
        rest = logits.data.cast("B")
        try:
            self._file.seek(index * self._chunk_bytes)
            while rest:
                n_read = self._file.readinto(rest)
                if not n_read:
                    raise OSError("the file is shorter than what was written")
                rest = rest[n_read:]
        except OSError as error:
            raise read_error(error, Path("the temporary file")) from error
        return logits

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
