"""What all packed weights have in common once their codes are unpacked.

A weight is (table[code] - zero) * scale, with a scale and perhaps a zero point for each group of
columns. Where a GGUF type holds that lattice, codes and scales are moved into its blocks; decoded
values are those of the packer's own formula in float32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine import _native
from engine.convert.packed.bits import Codes
from engine.convert.packed.tables import UNSIGNED, Table
from engine.errors import CorruptFile
from engine.ggml_types import GgmlType

Floats = NDArray[np.float32]
# Scales of a damaged file may give infinities; whoever takes the values refuses them.
IGNORING_INFINITIES = np.errstate(over="ignore", invalid="ignore")

Groups = NDArray[np.int32]


class Lattice(NamedTuple):
    """The GGUF type that holds a weight's codes once `offset` is added to each (modulo 256)."""

    type: GgmlType
    offset: int = 0


class BlockLayout(NamedTuple):
    """Where the codes of a block lie: see native/codes.hpp. Source: llama.cpp ggml-common.h."""

    n_bits: int
    stride: int
    head_is_last: bool = False


BLOCK_LAYOUTS = {
    GgmlType.Q4_0: BlockLayout(4, 16),
    GgmlType.Q4_1: BlockLayout(4, 16),
    GgmlType.MXFP4: BlockLayout(4, 16),
    GgmlType.NVFP4: BlockLayout(4, 8),
    GgmlType.Q8_0: BlockLayout(8, 32),
    GgmlType.TQ2_0: BlockLayout(2, 32, head_is_last=True),
}


def integer_lattice(n_bits: int, zero: int | None) -> Lattice | None:
    """What holds `n_bits` codes around the zero point `zero`, the same for all, or None: any.

    Q4_0 is d * (q - 8), Q8_0 is d * q, both exact for a d that a half can hold. Q4_1 is d * q + m,
    where m = -d * zero is rounded to a half: a weight is off by zero / 2048 of a step at most.
    """
    if zero is None:
        return Lattice(GgmlType.Q4_1) if n_bits <= 4 else None
    if n_bits <= 4:
        return Lattice(GgmlType.Q4_0, 8 - zero)
    return Lattice(GgmlType.Q8_0, -zero % 256)


class PackedWeight(ABC):
    """A `Weight` whose subclass knows where codes, scales and zero points lie.

    It is stored in lines of `line_cols` codes: its rows, or blocks that know nothing of rows.
    """

    table: Table = UNSIGNED
    factors: tuple[float, ...] = ()

    def __init__(
        self, name: str, shape: tuple[int, ...], lattice: Lattice | None, line_cols: int = 0
    ) -> None:
        self.name, self.shape = name, shape
        self.lattice = lattice
        self.line_cols = line_cols or shape[-1]

    @property
    def type(self) -> GgmlType:
        return self.lattice.type if self.lattice else GgmlType.F32

    @abstractmethod
    def codes(self, first: int, last: int) -> Codes:
        """Lines `first` to `last`, [n, line_cols]."""

    @abstractmethod
    def scales(self, first: int, last: int) -> Floats:
        """The scales of these lines, [n, n_groups]."""

    def zeros(self, first: int, last: int) -> Floats | None:  # noqa: ARG002 - for subclasses
        """Their zero points, [n, n_groups]; None where there are none to subtract."""
        return None

    def groups(self) -> Groups:
        """The group of each column of a line, [line_cols]."""
        return np.zeros(self.line_cols, np.int32)

    def heads(self, first: int, last: int) -> NDArray[np.uint8]:
        """The scales as the blocks of `type` hold them, [n, n_blocks * head_bytes]."""
        block_groups = self.groups()[:: self.type.block_size]
        scales = self.scales(first, last)[:, block_groups]  # [n, n_blocks]
        numbers = [self._halves(scales)]
        if self.type is GgmlType.Q4_1:
            zeros = self.zeros(first, last)
            assert zeros is not None
            numbers.append(self._halves(-scales * zeros[:, block_groups]))
        return np.stack(numbers, axis=-1).view(np.uint8).reshape(last - first, -1)

    @IGNORING_INFINITIES
    def rows(self, start: int, stop: int) -> Floats:
        n_cols = self.shape[-1]
        first = start * n_cols // self.line_cols
        last = -(-stop * n_cols // self.line_cols)
        values = np.empty((last - first, self.line_cols), np.float32)
        scales = np.ascontiguousarray(self.scales(first, last), np.float32)
        zeros = self.zeros(first, last)
        if zeros is not None:
            zeros = np.ascontiguousarray(zeros, np.float32)
        codes = self.codes(first, last)
        _native.decode_codes(codes, self.table, self.groups(), scales, zeros, values)
        begin = start * n_cols - first * self.line_cols
        return values.reshape(-1)[begin : begin + (stop - start) * n_cols].reshape(-1, n_cols)

    @IGNORING_INFINITIES
    def raw(self, start: int, stop: int) -> NDArray[np.uint8]:
        n_cols = self.shape[-1]
        if self.lattice is None:
            return np.ascontiguousarray(self.rows(start, stop)).view(np.uint8)
        lines = n_cols // self.line_cols  # whole ones to a row, or there would be no lattice
        first, last = start * lines, stop * lines
        layout = BLOCK_LAYOUTS[self.type]
        blocks = np.empty((last - first, self.type.row_bytes(self.line_cols)), np.uint8)
        _native.pack_blocks(
            self.codes(first, last),
            self.lattice.offset,
            np.ascontiguousarray(self.heads(first, last)),
            self.type.block_size,
            layout.n_bits,
            layout.stride,
            layout.head_is_last,
            blocks,
        )
        return blocks.reshape(stop - start, -1)

    def _halves(self, values: Floats) -> NDArray[np.float16]:
        halves = values.astype("<f2")
        if not np.isfinite(halves).all():
            raise CorruptFile(
                f"{self.name[:120]} has a scale that is no number, or far too large.",
                hint="The checkpoint is damaged: download it again.",
            )
        return halves


@lru_cache(maxsize=64)
def ordered_groups(n_cols: int, group_cols: int) -> Groups:
    """Groups of `group_cols` neighbours, [n_cols]; many weights share them."""
    groups = (np.arange(n_cols) // group_cols).astype(np.int32)
    groups.setflags(write=False)
    return groups


def fits_blocks(groups: Groups, block_size: int = 32) -> bool:
    """Whether a row is whole blocks, none of which has columns of two groups."""
    if len(groups) % block_size:
        return False
    blocks = groups.reshape(-1, block_size)
    return bool((blocks == blocks[:, :1]).all())
