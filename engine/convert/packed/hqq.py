"""HQQ; 1, 2, 4 and 8 bits, groups along either axis.

The weight is reshaped to [-1, group_size] (axis 1) or [group_size, -1] (axis 0), and quantized
along the axis: W = (q - zero) * scale, zero and scale of any float. W_q U8 holds 8 / n_bits codes
to a byte: the highest bits are the first part of the codes, the lowest ones the last. nbits,
group_size, axis, shape and packing are tensors, too.
Source: hqq core/quantize.py, core/bitpack.py, core/utils.py (encode_safetensor_type).
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.checkpoint import StoredTensor
from engine.convert.packed.bits import Codes
from engine.convert.packed.quantization import Quantization
from engine.convert.packed.refused import refusal
from engine.convert.packed.shelf import FLOATS, Shelf, misfit
from engine.convert.packed.weight import Floats, Groups, PackedWeight, integer_lattice
from engine.ggml_types import GgmlType

PACKINGS = {"8bit_u8": 8, "4bit_u8": 4, "2bit_u8": 2, "1bit_u8": 1}
# What a layer stores beside its weight and is not needed, or read elsewhere.
REST = (
    "stores_quant_config", "encoded_state_dict", "offload_meta", "channel_wise", "optimize",
    "round_zero", "compute_dtype", "view_as_float", "unpack_view_dtype", "quant_zero",
    "quant_scale",
)  # fmt: skip


class Layer(NamedTuple):
    shape: tuple[int, int]
    n_bits: int
    packed_bits: int
    group_size: int
    axis: int

    @property
    def n_groups(self) -> int:
        return prod(self.shape) // self.group_size


class HqqWeight(PackedWeight):
    """With axis 1 its lines are groups; with axis 0 rows, where each weight has its own scale."""

    def __init__(
        self,
        name: str,
        layer: Layer,
        shelf: Shelf,
        parts: tuple[StoredTensor, StoredTensor, StoredTensor],
    ) -> None:
        is_along_rows = layer.axis == 1
        is_whole = layer.shape[1] % layer.group_size == 0
        fits = is_along_rows and is_whole and layer.group_size % GgmlType.Q4_1.block_size == 0
        super().__init__(
            name,
            layer.shape,
            integer_lattice(layer.n_bits, None) if fits else None,
            layer.group_size if is_along_rows else layer.shape[1],
        )
        self._layer, self._shelf = layer, shelf
        self._packed, self._scales, self._zeros = parts

    def groups(self) -> Groups:
        if self._layer.axis == 1:
            return super().groups()
        return np.arange(self.line_cols, dtype=np.int32)

    def codes(self, first: int, last: int) -> Codes:
        begin, end = first * self.line_cols, last * self.line_cols
        packed = self._shelf.array(self._packed).reshape(-1).view(np.uint8)
        n_bits = self._layer.packed_bits
        codes = np.empty(end - begin, np.uint8)
        # Byte i holds the codes i, i + len(packed), ..., the first in the highest bits.
        for part in range(begin // len(packed), -(-end // len(packed))):
            start = part * len(packed)
            low, high = max(begin, start), min(end, start + len(packed))
            some = packed[low - start : high - start] >> (8 - n_bits * (part + 1))
            codes[low - begin : high - begin] = some & ((1 << n_bits) - 1)
        return codes.reshape(last - first, self.line_cols)

    def scales(self, first: int, last: int) -> Floats:
        return self._of_lines(self._scales, first, last)

    def zeros(self, first: int, last: int) -> Floats:
        return self._of_lines(self._zeros, first, last)

    def _of_lines(self, stored: StoredTensor, first: int, last: int) -> Floats:
        values: NDArray[np.generic] = self._shelf.array(stored).reshape(-1)
        if self._layer.axis == 1:
            return self._shelf.floats(stored, values[first:last])[:, None]
        places = np.arange(first * self.line_cols, last * self.line_cols) % self._layer.n_groups
        return self._shelf.floats(stored, values[places]).reshape(last - first, self.line_cols)


def unpack_hqq(shelf: Shelf, quantization: Quantization) -> list[PackedWeight]:
    """Raises CorruptFile for what does not fit, UnsupportedTensor for other packings."""
    found: list[PackedWeight] = []
    for base in shelf.bases(".W_q"):
        layer = _read_layer(shelf, quantization, base)
        n_bytes = prod(layer.shape) * layer.packed_bits // 8
        # "view_as_float" gives the same bytes another name.
        packed = shelf.take(f"{base}.W_q", ("U8", *FLOATS))
        if packed.end - packed.begin != n_bytes:
            raise misfit(packed, f"does not hold {list(layer.shape)} weights")
        parts = []
        for part in ("scale", "zero"):
            stored = shelf.take(f"{base}.{part}", FLOATS)
            if prod(stored.shape) != layer.n_groups:
                raise misfit(stored, f"does not hold one for each of {layer.n_groups} groups")
            parts.append(stored)
        found.append(HqqWeight(f"{base}.weight", layer, shelf, (packed, parts[0], parts[1])))
    shelf.drop(*(f".{name}" for name in REST))
    return found


def _read_layer(shelf: Shelf, quantization: Quantization, base: str) -> Layer:
    told = shelf.take(f"{base}.packing", ("U8",), (None,))
    packing = shelf.array(told).tobytes()[:20].decode("latin-1")
    if packing not in PACKINGS:
        raise refusal(quantization.name, f"HQQ in the packing {packing}")
    n_bits, axis = _integer(shelf, f"{base}.nbits"), _integer(shelf, f"{base}.axis")
    stored_shape = shelf.take(f"{base}.shape", ("I64", "I32"), (2,))
    n_out, n_in = (int(n) for n in shelf.array(stored_shape).astype(np.int64))
    group_size = n_in if axis == 1 else n_out
    if shelf.has(f"{base}.group_size"):
        group_size = _integer(shelf, f"{base}.group_size")
    layer = Layer((n_out, n_in), n_bits, PACKINGS[packing], group_size, axis)
    are_sizes = all(0 < n < 1 << 31 for n in (n_out, n_in, group_size))
    if (
        not are_sizes
        or axis not in (0, 1)
        or not 1 <= n_bits <= layer.packed_bits
        or n_out * n_in % group_size
        or n_out * n_in * layer.packed_bits % 8
    ):
        raise misfit(told, "is one of a layer whose sizes cannot be")
    return layer


def _integer(shelf: Shelf, name: str) -> int:
    stored = shelf.take(name, ("I32", "I64", "U8"))
    if prod(stored.shape) != 1:
        raise misfit(stored, "is no single number")
    return int(shelf.array(stored).reshape(-1)[0])
