"""BitNet b1.58: weights of -1, 0 and 1, four to a byte.

weight U8 [out / 4, in]; bits 2k and 2k + 1 of row r are row k * out / 4 + r, plus one;
weight_scale [1]. W = (code - 1) * weight_scale for the linear class "autobitlinear", and
(code - 1) / weight_scale for "bitlinear". Held by TQ2_0 with d rounded to a half: off by 2^-11 of a
weight at most.
Source: transformers integrations/bitnet.py (unpack_weights, BitLinear, AutoBitLinear).
"""

from __future__ import annotations

import numpy as np

from engine.checkpoint import COMPLETE_HINT, StoredTensor
from engine.convert.packed.bits import Codes
from engine.convert.packed.quantization import Quantization
from engine.convert.packed.refused import refusal
from engine.convert.packed.shelf import FLOATS, Shelf
from engine.convert.packed.weight import Floats, Lattice, PackedWeight, integer_lattice
from engine.errors import CorruptFile
from engine.ggml_types import GgmlType


class BitNetWeight(PackedWeight):
    def __init__(
        self, shelf: Shelf, stored: StoredTensor, scale: StoredTensor, *, is_divisor: bool
    ) -> None:
        n_rows, n_in = stored.shape
        lattice: Lattice | None = None
        if n_in % GgmlType.TQ2_0.block_size == 0:
            lattice = Lattice(GgmlType.TQ2_0)
        elif n_in % GgmlType.Q4_0.block_size == 0:
            lattice = integer_lattice(2, 1)
        super().__init__(stored.name, (n_rows * 4, n_in), lattice)
        self._shelf, self._stored = shelf, stored
        self._scale, self._is_divisor = scale, is_divisor

    def codes(self, first: int, last: int) -> Codes:
        stored = self._shelf.array(self._stored)
        n_rows = len(stored)
        codes = np.empty((last - first, self.shape[1]), np.uint8)
        for k in range(first // n_rows, -(-last // n_rows)):
            begin, end = max(first, k * n_rows), min(last, (k + 1) * n_rows)
            some = stored[begin - k * n_rows : end - k * n_rows] >> (2 * k)
            codes[begin - first : end - first] = some & 3
        return codes

    def scales(self, first: int, last: int) -> Floats:
        scale = np.float32(self._shelf.scalar(self._scale))
        if self._is_divisor:
            if scale == 0:
                raise CorruptFile(f"{self._scale.name[:120]} is zero.", hint=COMPLETE_HINT)
            scale = np.float32(1) / scale
        return np.full((last - first, 1), scale)

    def zeros(self, first: int, last: int) -> Floats:
        return np.ones((last - first, 1), np.float32)


def unpack_bitnet(shelf: Shelf, quantization: Quantization) -> list[PackedWeight]:
    """Raises CorruptFile for tensors that do not fit, UnsupportedTensor for unrounded weights."""
    if quantization.text("quantization_mode", default="offline") != "offline":
        raise refusal(quantization.name, "BitNet, not rounded yet")
    is_divisor = quantization.text("linear_class", default="bitlinear") != "autobitlinear"
    found: list[PackedWeight] = []
    for base in shelf.bases(".weight_scale"):
        stored = shelf.take(f"{base}.weight", ("U8",), (None, None))
        scale = shelf.take(f"{base}.weight_scale", FLOATS)
        found.append(BitNetWeight(shelf, stored, scale, is_divisor=is_divisor))
    return found
