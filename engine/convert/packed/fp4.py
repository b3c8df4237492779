"""MXFP4 and NVFP4: 4-bit floats (E2M1) with a scale for 32 or 16 neighbours; moved bit for bit.

Two codes to a byte along a row, the first one in the low half.
MXFP4: W = e2m1 * 2^(scale - 127), scales U8 or E8M0, groups of 32.
NVFP4: W = e2m1 * (scale * factor), scales E4M3, groups of 16, one factor F32 for the tensor:
weight_scale_2 (ModelOpt), or 1 / weight_global_scale (compressed-tensors).
Source: OCP Microscaling Formats 1.0; transformers integrations/mxfp4.py; ModelOpt
torch/quantization/qtensor/nvfp4_tensor.py; compressed-tensors compressors/nvfp4.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.checkpoint import COMPLETE_HINT, StoredTensor
from engine.convert.packed.bits import Codes, dense, unpack
from engine.convert.packed.quantization import Quantization
from engine.convert.packed.shelf import Shelf, misfit
from engine.convert.packed.tables import E2M1
from engine.convert.packed.weight import Floats, Groups, Lattice, PackedWeight, ordered_groups
from engine.errors import CorruptFile
from engine.ggml_types import GgmlType


class Fp4Weight(PackedWeight):
    """`blocks` and `scales` have the weight's outer dimensions; NVFP4 has a number for all.

    That is a factor, or (`is_divisor`) what the scales are divided by.
    """

    table = E2M1

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        shelf: Shelf,
        blocks: StoredTensor,
        scales: StoredTensor,
        number: float | None = None,
        *,
        is_divisor: bool = False,
    ) -> None:
        block_type = GgmlType.MXFP4 if number is None else GgmlType.NVFP4
        is_whole = shape[-1] % block_type.block_size == 0
        super().__init__(name, shape, Lattice(block_type) if is_whole else None)
        self._shelf, self._blocks, self._scales = shelf, blocks, scales
        self._group_cols = 32 if number is None else 16
        self._number = np.float32(1 if number is None else number)
        self._is_divisor = is_divisor
        if is_whole and number is not None:
            self.factors = (float(1 / self._number if is_divisor else self._number),)

    def groups(self) -> Groups:
        return ordered_groups(self.shape[-1], self._group_cols)

    def codes(self, first: int, last: int) -> Codes:
        packed = self._shelf.array(self._blocks).reshape(-1, self.shape[-1] // 2)
        return unpack(packed[first:last], dense(4), self.shape[-1])

    def scales(self, first: int, last: int) -> Floats:
        scales = self._shelf.floats(self._scales, self._scale_bytes(first, last))
        return scales / self._number if self._is_divisor else scales * self._number

    def heads(self, first: int, last: int) -> NDArray[np.uint8]:
        heads = self._scale_bytes(first, last)
        # E8M0 has one NaN; ggml reads a negative E4M3 as positive, and its NaN as 0.
        is_odd = heads == 255 if self.type is GgmlType.MXFP4 else heads >= 0x7F
        if is_odd.any():
            raise CorruptFile(
                f"{self.name[:120]} has a scale that is negative or no number.", hint=COMPLETE_HINT
            )
        return heads

    def _scale_bytes(self, first: int, last: int) -> NDArray[np.uint8]:
        stored = self._shelf.array(self._scales)
        return stored.reshape(-1, self.shape[-1] // self._group_cols)[first:last]


def unpack_mxfp4(shelf: Shelf, quantization: Quantization) -> list[PackedWeight]:
    """The experts of gpt-oss: blocks U8 [n_expert, n_rows, n, 16], scales U8 [n_expert, n_rows, n].

    A weight is [n_expert, n_rows, 32 n]; where gate and up are one they alternate row by row.
    """
    del quantization
    found: list[PackedWeight] = []
    for base in shelf.bases("_blocks"):
        blocks = shelf.take(f"{base}_blocks", ("U8",), (None, None, None, 16))
        scales = shelf.take(f"{base}_scales", ("U8", "F8_E8M0"), blocks.shape[:3])
        shape = (*blocks.shape[:2], blocks.shape[2] * 32)
        found.append(Fp4Weight(base, shape, shelf, blocks, scales))
    return found


def packed_mxfp4(shelf: Shelf, base: str, blocks: StoredTensor) -> Fp4Weight:
    """`base`_scale beside codes U8 [..., n_cols / 2]."""
    *outer, n_bytes = blocks.shape
    if n_bytes % 16:
        raise misfit(blocks, "is no whole blocks of 32")
    scales = shelf.take(f"{base}_scale", ("U8", "F8_E8M0"), (*outer, n_bytes // 16))
    return Fp4Weight(base, (*outer, n_bytes * 2), shelf, blocks, scales)


def packed_nvfp4(
    shelf: Shelf, base: str, blocks: StoredTensor, number_name: str, *, is_divisor: bool
) -> Fp4Weight:
    """`base`_scale and the scalar `number_name` beside codes U8 [n_rows, n_cols / 2]."""
    *outer, n_bytes = blocks.shape
    if n_bytes % 8:
        raise misfit(blocks, "is no whole groups of 16")
    scales = shelf.take(f"{base}_scale", ("F8_E4M3",), (*outer, n_bytes // 8))
    stored = shelf.take(number_name, ("F32",))
    number = shelf.scalar(stored)
    if number < 0 or (is_divisor and number == 0):
        raise misfit(stored, "is negative, or zero and what is divided by")
    return Fp4Weight(
        base, (*outer, n_bytes * 2), shelf, blocks, scales, number, is_divisor=is_divisor
    )
