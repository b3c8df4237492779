"""Plain checkpoints whose weights already lie on the lattice of a GGUF type.

Models that were trained for 4 bits, and de-quantized uploads of packed ones, are as large as any
other in 16 bits, and rounding them again would lose what they were trained for. Here a tensor is
found only if every one of its weights is given back to the last bit (but for the sign of a zero).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from math import prod
from typing import TYPE_CHECKING

from engine.convert.weights import Weight
from engine.errors import CorruptFile
from engine.ggml_types import GgmlType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The smallest first. Q5_0 is for asymmetric 4-bit codes: around any zero point they are -15 to 15.
LATTICES = (GgmlType.MXFP4, GgmlType.Q4_0, GgmlType.Q4_1, GgmlType.Q5_0, GgmlType.Q8_0)
N_SAMPLED_ROWS = 8
CHUNK_WEIGHTS = 1 << 20
FORGET_BYTES = 128 << 20


class LatticeWeight:
    """A `Weight` in the blocks of `type`, found again whenever its rows are asked for."""

    factors = ()

    def __init__(self, weight: Weight, lattice: GgmlType) -> None:
        self.name, self.shape, self.type = weight.name, weight.shape, lattice
        self._weight = weight

    def raw(self, start: int, stop: int) -> NDArray[np.uint8]:
        blocks, n_found = fit_rows(self._weight, self.type, start, stop)
        if n_found < stop - start:
            raise CorruptFile(
                f"{self.name} changed while it was read.",
                hint="Wait until the checkpoint is complete, then try again.",
            )
        return blocks

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        return self._weight.rows(start, stop)


def find_lattices(
    weights: Mapping[str, Weight], forget: Callable[[], None]
) -> Generator[int, None, dict[str, Weight]]:
    """`weights`, where those on a lattice are in its type; yields the number of bytes read so far.

    `forget` lets go of the memory that what was read takes.

    A few rows tell that an ordinary tensor is on none; only if they are on one is all of it read.
    """
    found = dict(weights)
    n_bytes = n_forgotten = 0
    for name, weight in weights.items():
        for lattice in candidates(weight):
            n_rows = prod(weight.shape[:-1])
            row_bytes = weight.type.row_bytes(weight.shape[-1])
            n_chunk = max(1, CHUNK_WEIGHTS // weight.shape[-1])
            is_held = True
            for start in range(0, n_rows, n_chunk):
                stop = min(start + n_chunk, n_rows)
                is_held = fit_rows(weight, lattice, start, stop)[1] == stop - start
                n_bytes += (stop - start) * row_bytes
                if n_bytes - n_forgotten > FORGET_BYTES:
                    forget()
                    n_forgotten = n_bytes
                yield n_bytes
                if not is_held:
                    break
            if is_held:
                found[name] = LatticeWeight(weight, lattice)
                break
        yield n_bytes
    return found


def candidates(weight: Weight) -> list[GgmlType]:
    """The lattices that hold a few rows of `weight`."""
    if len(weight.shape) < 2 or not weight.type.is_float or weight.shape[-1] % 32:
        return []
    n_rows = prod(weight.shape[:-1])
    n_sampled = min(n_rows, N_SAMPLED_ROWS)
    sampled = [i * (n_rows - 1) // max(1, n_sampled - 1) for i in range(n_sampled)]
    return [
        lattice
        for lattice in LATTICES
        if all(fit_rows(weight, lattice, row, row + 1)[1] for row in sampled)
    ]


def fit_rows(
    weight: Weight, lattice: GgmlType, start: int, stop: int
) -> tuple[NDArray[np.uint8], int]:
    """Rows `start` to `stop` in blocks, uint8 [n, row_bytes], and how many of them fit."""
    import numpy as np

    from engine import _native

    rows = np.ascontiguousarray(weight.rows(start, stop))
    blocks = np.empty((stop - start, lattice.row_bytes(weight.shape[-1])), np.uint8)
    return blocks, _native.fit_lattice(rows, weight.type.name, lattice.name, blocks)
