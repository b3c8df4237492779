"""compressed-tensors (llm-compressor, vLLM): pack-quantized, int-, float- and naive-quantized,
nvfp4- and mxfp4-pack-quantized, also mixed.

pack-quantized, for W [out, in]: weight_packed I32 [out, in * n_bits / 32] with q + 2^(n_bits - 1),
the lowest bits first; weight_scale [out, n_groups]; weight_zero_point I32, packed downwards
likewise, or I8 [out, n_groups]; weight_g_idx I32 [in], the group of each column in act-order;
weight_shape I64 [2]. W = weight_scale * (q - zero). Older versions begin a new word where a code
does not fit whole; newer ones split it. The others hold one number to a byte: see `fp8`, `fp4`.
Source: compressed-tensors compressors/pack_quantized, compressors/naive_quantized.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from engine.checkpoint import StoredTensor
from engine.convert.packed.bits import Codes, Layout, dense, unpack, unpack_columns, word_padded
from engine.convert.packed.fp4 import packed_mxfp4, packed_nvfp4
from engine.convert.packed.fp8 import byte_weight
from engine.convert.packed.grid import Grid, Tile
from engine.convert.packed.quantization import Quantization
from engine.convert.packed.refused import refusal
from engine.convert.packed.shelf import FLOATS, WORDS, Shelf, misfit
from engine.convert.packed.weight import (
    Floats,
    Groups,
    PackedWeight,
    fits_blocks,
    integer_lattice,
)

FORMATS = (
    "pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "dense",
    "nvfp4-pack-quantized", "mxfp4-pack-quantized", "mixed-precision",
)  # fmt: skip


class PackQuantizedWeight(PackedWeight):
    def __init__(
        self,
        name: str,
        shape: tuple[int, int],
        shelf: Shelf,
        stored: tuple[StoredTensor, StoredTensor],
        layout: Layout,
        grid: Grid,
        zero_point: StoredTensor | None,
        groups: Groups,
    ) -> None:
        middle = 1 << (layout.n_bits - 1)
        lattice = None
        if fits_blocks(groups):
            lattice = integer_lattice(layout.n_bits, None if zero_point else middle)
        super().__init__(name, shape, lattice)
        self._shelf, self._layout = shelf, layout
        self._packed, self._told_shape = stored
        self._grid, self._zero_point, self._groups = grid, zero_point, groups
        self._middle = np.float32(middle)

    def groups(self) -> Groups:
        return self._groups

    def codes(self, first: int, last: int) -> Codes:
        if self._shelf.array(self._told_shape).tolist() != list(self.shape):
            raise misfit(self._told_shape, f"is not {list(self.shape)}, as words and scales are")
        packed = self._shelf.array(self._packed)[first:last]
        return unpack(packed, self._layout, self.shape[1])

    def scales(self, first: int, last: int) -> Floats:
        return self._grid.rows(first, last)

    def zeros(self, first: int, last: int) -> Floats:
        n_groups = self._grid.n_groups
        if self._zero_point is None:
            return np.full((last - first, n_groups), self._middle)
        stored = self._shelf.array(self._zero_point)
        if self._zero_point.dtype == "I8":
            return stored[first:last].astype(np.float32) + self._middle
        return unpack_columns(stored, self._layout, 0, n_groups, self.shape[0])[
            :, first:last
        ].T.astype(np.float32)


def unpack_compressed_tensors(shelf: Shelf, quantization: Quantization) -> list[PackedWeight]:
    """Raises CorruptFile for what does not fit, UnsupportedTensor for other formats."""
    _check_formats(quantization)
    schemes = tuple(_schemes(quantization))
    tiles = tuple(_tiles(schemes))
    found: list[PackedWeight] = []
    for base in shelf.bases(".weight_packed"):
        name = f"{base}.weight"
        if shelf.look(f"{name}_packed").dtype == "U8":
            blocks = shelf.take(f"{name}_packed", ("U8",), (None, None))
            factor = f"{name}_global_scale"
            if shelf.has(factor):
                found.append(packed_nvfp4(shelf, name, blocks, factor, is_divisor=True))
            else:
                found.append(packed_mxfp4(shelf, name, blocks))
        else:
            found.append(_pack_quantized(shelf, quantization, name, schemes, tiles))
    shelf.drop_scales_of_activations()
    is_symmetric = all(scheme.get("symmetric", True) for scheme in schemes)
    found.extend(
        byte_weight(shelf, name, tiles, is_symmetric=is_symmetric)
        for name in shelf.named(("I8", "F8_E4M3", "F8_E5M2"))
    )
    return found


def _check_formats(quantization: Quantization) -> None:
    sparsity = quantization.settings.get("sparsity_config")
    formats = [quantization.text("format", default="pack-quantized")]
    formats += [s["format"] for s in (sparsity,) if isinstance(s, dict) and s.get("format")]
    for told in formats:
        if told not in FORMATS:
            raise refusal(quantization.name, f"compressed-tensors {told}"[:40])


def _schemes(quantization: Quantization) -> Iterator[dict[str, Any]]:
    """How the weights of each group of modules are said to be packed."""
    groups = quantization.settings.get("config_groups")
    if not isinstance(groups, dict):
        raise quantization.odd("config_groups", groups)
    for group in groups.values():
        weights = group.get("weights") if isinstance(group, dict) else None
        if isinstance(weights, dict):
            yield weights


def _tiles(schemes: tuple[dict[str, Any], ...]) -> Iterator[Tile]:
    for scheme in schemes:
        block, group = scheme.get("block_structure"), scheme.get("group_size")
        if isinstance(block, list) and len(block) == 2 and all(_is_size(n) for n in block):
            yield block[0], block[1]
        if isinstance(group, int) and _is_size(group):
            yield 1, group


def _is_size(number: Any) -> bool:
    return type(number) is int and 0 < number < 1 << 31


def _pack_quantized(
    shelf: Shelf,
    quantization: Quantization,
    name: str,
    schemes: tuple[dict[str, Any], ...],
    tiles: tuple[Tile, ...],
) -> PackQuantizedWeight:
    packed = shelf.take(f"{name}_packed", WORDS, (None, None))
    n_out, n_words = packed.shape
    told = shelf.take(f"{name}_shape", ("I64", "I32"), (2,))
    scale = shelf.take(f"{name}_scale", FLOATS)
    bits = {n for s in schemes if type(n := s.get("num_bits")) is int and 1 <= n <= 8}
    n_in = _n_in(shelf, told, n_words, scale, bits, tiles)
    layouts = list(_layouts(bits, n_in, n_words)) if 0 < n_in < 1 << 31 else []
    if not layouts:
        raise quantization.disagrees(
            f"{name[:120]} has {n_words} words for {n_in} weights in a row"
        )
    if len(layouts) > 1:
        raise misfit(packed, "is so narrow that it could be read in two ways")
    shape = (n_out, n_in)
    grid = Grid(shelf, scale, shape, tiles)
    zero_point = None
    if shelf.has(f"{name}_zero_point"):
        zero_point = shelf.look(f"{name}_zero_point")
        n_rows = n_out if zero_point.dtype == "I8" else layouts[0].n_words(n_out)
        shelf.take(zero_point.name, (*WORDS, "I8"), (n_rows, grid.n_groups))
    groups = _groups(shelf, name, grid, n_in)
    return PackQuantizedWeight(
        name, shape, shelf, (packed, told), layouts[0], grid, zero_point, groups
    )


def _n_in(
    shelf: Shelf,
    told: StoredTensor,
    n_words: int,
    scale: StoredTensor,
    bits: set[int],
    tiles: tuple[Tile, ...],
) -> int:
    """The columns of a weight, as words and groups tell; only if they do not, `told` is read.

    There may be tens of thousands of weights.
    """
    of_words = {n_words * 32 // n for n in bits if 32 % n == 0}
    of_groups = {n * cols for n in scale.shape[-1:] for rows, cols in tiles if rows == 1}
    if len(of_words & of_groups) == 1:
        return (of_words & of_groups).pop()
    return int(shelf.array(told)[1].astype(np.int64))


def _layouts(bits: set[int], n_in: int, n_words: int) -> Iterator[Layout]:
    """How `n_words` words can hold `n_in` codes."""
    for n in bits:
        for layout in (dense(n), word_padded(n)) if 32 % n else (dense(n),):
            if layout.n_words(n_in) == n_words:
                yield layout


def _groups(shelf: Shelf, name: str, grid: Grid, n_in: int) -> Groups:
    """The group of each column; in act-order they are scattered."""
    if not shelf.has(f"{name}_g_idx"):
        return grid.groups
    stored = shelf.take(f"{name}_g_idx", WORDS, (n_in,))
    if (shelf.array(stored).view(np.int32) == -1).all():
        return grid.groups  # what it is made with, before there is an order
    return shelf.groups(stored, grid.n_groups)
