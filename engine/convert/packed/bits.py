"""Codes in bit fields: how each packer lays them out, unpacked by native code."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine import _native

Codes = NDArray[np.uint8]


class Layout(NamedTuple):
    """Chunks of `chunk_bytes`; code i of a chunk begins at its bit `positions[i]`."""

    n_bits: int
    chunk_bytes: int
    positions: tuple[int, ...]

    def n_words(self, n_codes: int) -> int:
        """The words of 32 bits that hold `n_codes`, where they are in order of their bits."""
        n_whole, rest = divmod(n_codes, len(self.positions))
        n_bits = n_whole * self.chunk_bytes * 8
        if rest:
            n_bits += self.positions[rest - 1] + self.n_bits
        return -(-n_bits // 32)


def dense(n_bits: int) -> Layout:
    """One code after the other without a gap, the lowest bits first."""
    return Layout(n_bits, n_bits, tuple(range(0, 8 * n_bits, n_bits)))


def word_padded(n_bits: int) -> Layout:
    """As many codes as a word of 32 bits holds whole, the lowest bits first."""
    return Layout(n_bits, 4, tuple(range(0, 33 - n_bits, n_bits)))


HIGH_FIRST = Layout(4, 4, (4, 0, 12, 8, 20, 16, 28, 24))
"""bitsandbytes: two codes to a byte, the first one in the high half."""
AWQ = Layout(4, 4, (0, 16, 4, 20, 8, 24, 12, 28))
"""AutoAWQ's GEMM: the order in which its kernel takes eight codes out of a word."""


def unpack(packed: NDArray[Any], layout: Layout, n_cols: int) -> Codes:
    """Rows of packed bytes or words [n, ...] to codes [n, n_cols]."""
    packed = np.ascontiguousarray(packed)
    rows = packed.view(np.uint8).reshape(len(packed), -1)
    codes = np.empty((len(rows), n_cols), np.uint8)
    positions = np.array(layout.positions, np.int32)
    _native.unpack_codes(rows, layout.chunk_bytes, layout.n_bits, positions, codes)
    return codes


def unpack_columns(
    words: NDArray[np.uint32], layout: Layout, start: int, stop: int, n_codes: int
) -> Codes:
    """Words [n_words, n_cols] that are packed downwards: columns start..stop, [n, n_codes]."""
    return unpack(_transposed(words[:, start:stop]), layout, n_codes)


def split_columns(words: NDArray[np.uint32], layout: Layout, start: int, stop: int) -> Codes:
    """Words [n, n_words] that are packed along rows: codes start..stop of each, [codes, n]."""
    per_word = len(layout.positions)
    first, last = start // per_word, -(-stop // per_word)
    turned = _transposed(words[:, first:last])
    codes = np.empty((len(turned) * per_word, len(words)), np.uint8)
    positions = np.array(layout.positions, np.int32)
    _native.split_words(turned, layout.n_bits, positions, codes)
    return codes[start - first * per_word : stop - first * per_word]


def _transposed(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    turned = np.empty(words.shape[::-1], np.uint32)
    _native.transpose(np.require(words, requirements="A"), turned)
    return turned
