"""Where the codes of ggml's scalar types lie in a block, written down apart from native/."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.ggml_types import GgmlType
from engine.llama.ggml import dequantize_rows

Bytes = NDArray[np.uint8]
Rows = NDArray[np.float32]


class Plane(NamedTuple):
    """Bytes that hold `n_bits` of each code, which begin at bit `place` of it."""

    where: slice
    n_bits: int
    place: int = 0


PLANES: dict[GgmlType, tuple[Plane, ...]] = {
    GgmlType.Q2_K: (Plane(slice(16, 80), 2),),
    GgmlType.Q3_K: (Plane(slice(32, 96), 2), Plane(slice(0, 32), 1, 2)),
    GgmlType.Q4_K: (Plane(slice(16, 144), 4),),
    GgmlType.Q5_K: (Plane(slice(48, 176), 4), Plane(slice(16, 48), 1, 4)),
    GgmlType.Q6_K: (Plane(slice(0, 128), 4), Plane(slice(128, 192), 2, 4)),
    GgmlType.Q8_0: (Plane(slice(2, 34), 8),),
    GgmlType.Q4_0: (Plane(slice(2, 18), 4),),
    GgmlType.Q4_1: (Plane(slice(4, 20), 4),),
    GgmlType.Q5_0: (Plane(slice(6, 22), 4), Plane(slice(2, 6), 1, 4)),
    GgmlType.Q5_1: (Plane(slice(8, 24), 4), Plane(slice(4, 8), 1, 4)),
    GgmlType.IQ4_NL: (Plane(slice(2, 18), 4),),
    GgmlType.IQ4_XS: (Plane(slice(8, 136), 4),),
}

# The halves of a block: its scales.
HALVES: dict[GgmlType, tuple[int, ...]] = {
    GgmlType.Q2_K: (80, 82),
    GgmlType.Q3_K: (108,),
    GgmlType.Q4_K: (0, 2),
    GgmlType.Q5_K: (0, 2),
    GgmlType.Q6_K: (208,),
    GgmlType.Q4_1: (0, 2),
    GgmlType.Q5_1: (0, 2),
}


def random_blocks(ggml_type: GgmlType, n_rows: int, n_cols: int, seed: int) -> Bytes:
    """Blocks of random bits, but for their halves, which are ordinary numbers of either sign."""
    rng = np.random.default_rng(seed)
    n_blocks = n_cols // ggml_type.block_size
    blocks = rng.integers(0, 256, (n_rows, n_blocks, ggml_type.block_bytes), dtype=np.uint8)
    for offset in HALVES.get(ggml_type, (0,)):
        halves = rng.normal(size=(n_rows, n_blocks, 1)).astype(np.float16)
        blocks[:, :, offset : offset + 2] = halves.view(np.uint8)
    if ggml_type is GgmlType.Q8_0:
        codes = blocks[:, :, 2:]
        codes[codes == 0x80] = 0x81  # a code that ggml does not write, either
    return blocks.reshape(n_rows, -1)


def with_code(ggml_type: GgmlType, stored: Bytes, code: int) -> Bytes:
    """The same blocks with one code for all weights."""
    blocks = stored.reshape(len(stored), -1, ggml_type.block_bytes).copy()
    for plane in PLANES[ggml_type]:
        mask = (1 << plane.n_bits) - 1
        blocks[:, :, plane.where] = ((code >> plane.place) & mask) * (255 // mask)
    return blocks.reshape(stored.shape)


def without_codes(ggml_type: GgmlType, stored: Bytes) -> Bytes:
    """The blocks' scales, all else 0."""
    return with_code(ggml_type, stored, 0)


def choices(ggml_type: GgmlType, stored: Bytes) -> Rows:
    """What each weight could be with these scales: [n_codes, n_rows, n_cols]."""
    n_bits = sum(plane.n_bits for plane in PLANES[ggml_type])
    codes = [c for c in range(1 << n_bits) if not (ggml_type is GgmlType.Q8_0 and c == 0x80)]
    return np.stack([dequantize_rows(ggml_type, with_code(ggml_type, stored, c)) for c in codes])
