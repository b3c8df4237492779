"""FP8 (E4M3, E5M2) and int8 weights that are stored one number to a byte, with scales beside them.

W = weight * scale, where the scale is of the whole tensor, of a row or of a square of columns and
rows ([128, 128] as a rule). Its name ends in weight_scale_inv (which multiplies, too),
weight_scale or qscale_weight; scales of activations beside it are not needed.
Source: transformers integrations/finegrained_fp8.py, llama.cpp conversion/base.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.checkpoint import StoredTensor
from engine.convert.packed.bits import Codes
from engine.convert.packed.grid import Grid, Tile
from engine.convert.packed.quantization import Quantization
from engine.convert.packed.shelf import FLOATS, Shelf, misfit
from engine.convert.packed.tables import FP8, INT8
from engine.convert.packed.weight import (
    IGNORING_INFINITIES,
    Floats,
    Groups,
    Lattice,
    PackedWeight,
    fits_blocks,
)
from engine.floats import from_float32
from engine.ggml_types import GgmlType

SCALES = (*FLOATS, "F8_E8M0", "U8")


class ByteWeight(PackedWeight):
    """One byte to a number; float8 is BF16 where all scales are powers of two: exactly."""

    def __init__(
        self,
        shelf: Shelf,
        stored: StoredTensor,
        scales: Grid,
        zeros: Grid | None = None,
        *,
        is_symmetric: bool = True,
        has_powers_of_two: bool = False,
    ) -> None:
        is_integer = stored.dtype == "I8"
        self.table = INT8 if is_integer else FP8[stored.dtype]
        self._shelf, self._stored = shelf, stored
        self._scales, self._zeros = scales, zeros
        lattice = None
        if is_integer and is_symmetric and fits_blocks(scales.groups):
            lattice = Lattice(GgmlType.Q8_0)
        super().__init__(stored.name, stored.shape, lattice)
        self._is_bf16 = not is_integer and has_powers_of_two

    @property
    def type(self) -> GgmlType:
        return GgmlType.BF16 if self._is_bf16 else super().type

    def groups(self) -> Groups:
        return self._scales.groups

    def codes(self, first: int, last: int) -> Codes:
        stored = self._shelf.array(self._stored).view(np.uint8)
        return stored.reshape(-1, self.shape[-1])[first:last]

    def scales(self, first: int, last: int) -> Floats:
        return self._scales.rows(first, last)

    def zeros(self, first: int, last: int) -> Floats | None:
        return self._zeros.rows(first, last) if self._zeros else None

    @IGNORING_INFINITIES
    def raw(self, start: int, stop: int) -> NDArray[np.uint8]:
        if not self._is_bf16:
            return super().raw(start, stop)
        return from_float32(self.rows(start, stop), GgmlType.BF16).view(np.uint8)


def unpack_fp8(shelf: Shelf, quantization: Quantization) -> list[PackedWeight]:
    """Raises CorruptFile for scales that do not fit their weight."""
    tiles = _tiles(quantization, quantization.settings.get("weight_block_size"))
    is_told = quantization.text("scale_fmt") == "ue8m0"
    shelf.drop_scales_of_activations()
    found: list[PackedWeight] = [
        byte_weight(shelf, name, tiles, has_powers_of_two=is_told)
        for name in shelf.named(tuple(FP8))
    ]
    return found


def byte_weight(
    shelf: Shelf,
    name: str,
    tiles: tuple[Tile, ...],
    *,
    is_symmetric: bool = True,
    has_powers_of_two: bool = False,
) -> ByteWeight:
    """The weight `name` with the scales, and the zero points, that lie beside it."""
    stored = shelf.take(name, (*FP8, "I8"))
    if len(stored.shape) < 2:
        raise misfit(stored, "is packed, but no matrix")
    ends = (name + "_scale_inv", name + "_scale", name.removesuffix("weight") + "qscale_weight")
    scale_name = next(filter(shelf.has, ends), None)
    if scale_name is None:
        raise misfit(stored, "is packed, but has no scale")
    scales = Grid(shelf, shelf.take(scale_name, SCALES), stored.shape, tiles)
    zeros = None
    zero_name = f"{name}_zero_point"
    if shelf.has(zero_name):
        # Symmetric ones of older versions have zero points, of nothing but zeros.
        taken = shelf.take(zero_name, ("I8", stored.dtype))
        if stored.dtype == "I8":
            zeros = Grid(shelf, taken, stored.shape, tiles)
    if not shelf.believes_config:
        is_symmetric = zeros is None or not shelf.array(zeros.stored).any()
        has_powers_of_two = has_powers_of_two and scales.are_powers_of_two()
    if scales.stored.dtype in ("F8_E8M0", "U8"):
        has_powers_of_two = True  # they are nothing but exponents
    return ByteWeight(
        shelf,
        stored,
        scales,
        zeros,
        is_symmetric=is_symmetric,
        has_powers_of_two=has_powers_of_two,
    )


def _tiles(quantization: Quantization, size: Any) -> tuple[Tile, ...]:
    """The tile that a config tells as [rows, columns]."""
    if size is None:
        return ()
    if (
        not isinstance(size, list)
        or len(size) != 2
        or not all(type(n) is int and 0 < n < 1 << 31 for n in size)
    ):
        raise quantization.odd("weight_block_size", size)
    return ((size[0], size[1]),)
