"""Which model statistics are of, told by its vectors: norms and biases, which no type rounds."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.source import ModelSource


def digest_of(source: ModelSource) -> str:
    """The SHA-256 of all vectors of `source` as float32; "" if it has none.

    The same for a checkpoint and its files in 16 or 8 bits, another one for what was trained
    further, if its norms were.
    """
    vectors = sorted((t for t in source.tensors if len(t.shape) == 1), key=lambda t: t.name)
    digest = hashlib.sha256()
    for tensor in vectors:
        digest.update(f"{tensor.name} {tensor.n_elements}\n".encode())
        digest.update(source.rows(tensor, 0, tensor.n_rows).astype("<f4").tobytes())
    return digest.hexdigest() if vectors else ""
