"""bitsandbytes: NF4 and FP4, also double quantized, and LLM.int8().

4 bits: weight U8, codes one after the other over all rows, the first one in the high half of a
byte; absmax F32, one for each block of codes; quant_map F32 [16].
W = quant_map[code] * absmax[block]. Double quantized, absmax is U8 and
nested_quant_map[absmax] * nested_absmax[block of absmax] + nested_offset. Sizes and shape are in
quant_state.bitsandbytes__nf4 or __fp4, a JSON object as bytes.
8 bits: weight I8 [out, in], SCB F32 [out], W = weight * SCB / 127.
Source: bitsandbytes functional.py (QuantState, int8_vectorwise_dequant), nn/modules.py.
"""

from __future__ import annotations

from math import prod
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.checkpoint import COMPLETE_HINT, StoredTensor
from engine.convert.packed.bits import HIGH_FIRST, Codes, unpack
from engine.convert.packed.quantization import Quantization
from engine.convert.packed.refused import refusal
from engine.convert.packed.shelf import Shelf, misfit
from engine.convert.packed.tables import INT8, Table
from engine.convert.packed.weight import IGNORING_INFINITIES, Floats, Lattice, PackedWeight
from engine.errors import CorruptFile
from engine.ggml_types import GgmlType

MAX_STATE_BYTES = 1 << 16
PER_127 = np.float32(7.874015718698502e-3)
"""What bitsandbytes multiplies with: nearly, but not quite, 1 / 127."""


class State(msgspec.Struct, frozen=True):
    """What quant_state says."""

    shape: tuple[int, ...]
    blocksize: int
    nested_blocksize: int = 0
    nested_offset: float = 0.0


class FourBitWeight(PackedWeight):
    """Its lines are blocks, which know nothing of rows; no GGUF type holds them."""

    def __init__(self, shelf: Shelf, stored: StoredTensor, state: State) -> None:
        super().__init__(stored.name, state.shape, None, state.blocksize)
        self._shelf, self._stored, self._state = shelf, stored, state
        self._n_blocks = -(-prod(state.shape) // state.blocksize)
        self._absmax = shelf.take(f"{self.name}.absmax", ("F32", "U8"), (self._n_blocks,))
        quant_map = shelf.take(f"{self.name}.quant_map", ("F32",), (16,))
        self.table = _padded(shelf.floats(quant_map))
        self._nested: tuple[StoredTensor, StoredTensor] | None = None
        if self._absmax.dtype == "U8":
            if state.nested_blocksize < 1:
                raise misfit(self._absmax, "is quantized, but nothing says how")
            n_nested = -(-self._n_blocks // state.nested_blocksize)
            self._nested = (
                shelf.take(f"{self.name}.nested_absmax", ("F32",), (n_nested,)),
                shelf.take(f"{self.name}.nested_quant_map", ("F32",), (256,)),
            )

    def codes(self, first: int, last: int) -> Codes:
        n_bytes = self.line_cols // 2
        packed = self._shelf.array(self._stored).view(np.uint8).reshape(-1)
        wanted = packed[first * n_bytes : last * n_bytes]
        # The last block may be short.
        missing = (last - first) * n_bytes - len(wanted)
        if missing:
            wanted = np.pad(wanted, (0, missing))
        return unpack(wanted.reshape(-1, n_bytes), HIGH_FIRST, self.line_cols)

    def scales(self, first: int, last: int) -> Floats:
        absmax = self._shelf.array(self._absmax)[first:last]
        if self._nested is None:
            return self._shelf.floats(self._absmax, absmax)[:, None]
        nested_absmax, nested_map = map(self._shelf.floats, self._nested)
        blocks = np.arange(first, last) // self._state.nested_blocksize
        scales: Floats = nested_map[absmax] * nested_absmax[blocks]
        return (scales + np.float32(self._state.nested_offset))[:, None]


class Int8Weight(PackedWeight):
    """Q8_0 with one d for a row, rounded to a half: off by 2^-11 of a weight at most."""

    table = INT8

    def __init__(self, shelf: Shelf, stored: StoredTensor) -> None:
        fits = stored.shape[1] % GgmlType.Q8_0.block_size == 0
        super().__init__(stored.name, stored.shape, Lattice(GgmlType.Q8_0) if fits else None)
        self._shelf, self._stored = shelf, stored
        name = stored.name.removesuffix("weight") + "SCB"
        self._scales = shelf.take(name, ("F32",), (stored.shape[0],))

    def codes(self, first: int, last: int) -> Codes:
        return self._shelf.array(self._stored).view(np.uint8)[first:last]

    def scales(self, first: int, last: int) -> Floats:
        stored = self._shelf.array(self._scales)[first:last]
        return self._shelf.floats(self._scales, stored)[:, None]

    def heads(self, first: int, last: int) -> NDArray[np.uint8]:
        halves = self._halves(self.scales(first, last) * PER_127)  # [n, 1]
        n_blocks = self.line_cols // self.type.block_size
        return halves.repeat(n_blocks, axis=1).view(np.uint8)

    @IGNORING_INFINITIES
    def rows(self, start: int, stop: int) -> Floats:
        # Multiplied in the order of bitsandbytes, so that the last bit is the same too.
        values = super().rows(start, stop)
        values *= PER_127
        return values


def unpack_bitsandbytes(shelf: Shelf, quantization: Quantization) -> list[PackedWeight]:
    """Raises CorruptFile for what does not fit, UnsupportedTensor for other layouts of int8."""
    found: list[PackedWeight] = []
    for kind in ("nf4", "fp4"):
        end = f".quant_state.bitsandbytes__{kind}"
        for name in shelf.bases(end):
            state = _read_state(shelf, name + end)
            n_bytes = -(-prod(state.shape) // 2)
            stored = shelf.take(name, ("U8", "I8", "F16", "BF16", "F32"))
            if stored.end - stored.begin != n_bytes:
                raise misfit(stored, f"does not hold the {prod(state.shape)} weights of its state")
            found.append(FourBitWeight(shelf, stored, state))
    for base in shelf.bases(".SCB"):
        stored = shelf.take(f"{base}.weight", ("I8",), (None, None))
        if shelf.has(f"{base}.weight_format"):
            layout = shelf.take(f"{base}.weight_format", ("U8",), ())
            if shelf.array(layout)[()] != 0:
                raise refusal(quantization.name, "bitsandbytes int8 in the layout of one GPU")
        found.append(Int8Weight(shelf, stored))
    return found


def _read_state(shelf: Shelf, name: str) -> State:
    stored = shelf.take(name, ("U8",), (None,))
    content: Any = None
    try:
        if stored.shape[0] <= MAX_STATE_BYTES:
            content = msgspec.json.decode(shelf.array(stored).tobytes())
        state = msgspec.convert(content, State)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as e:
        raise CorruptFile(
            f"The tensor {name[:160]} does not say how its weight is packed.",
            hint=COMPLETE_HINT,
            details=str(e),
        ) from e
    is_block = 2 <= state.blocksize <= 1 << 20 and state.blocksize % 2 == 0
    is_shape = len(state.shape) >= 2 and all(0 < n < 1 << 31 for n in state.shape)
    if not (is_block and is_shape and np.isfinite(state.nested_offset)):
        raise misfit(stored, "tells sizes that cannot be")
    return state


def _padded(quant_map: Floats) -> Table:
    table = np.zeros(256, np.float32)
    table[: len(quant_map)] = quant_map
    return table
