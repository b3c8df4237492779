"""Plain checkpoints whose weights already lie on the lattice of a GGUF type.

Models that were trained for 4 bits, and de-quantized uploads of packed ones, are as large as any
other in 16 bits, and rounding them again would lose what they were trained for. Here a tensor is
found only if every one of its weights is given back to the last bit (but for the sign of a zero).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from engine.convert.weights import Weight
from engine.errors import CorruptFile
from engine.ggml_types import GgmlType
from engine.workers import in_order, n_cores, threads, wait

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The smallest first. Q5_0 is for asymmetric 4-bit codes: around any zero point they are -15 to 15.
LATTICES = (GgmlType.MXFP4, GgmlType.Q4_0, GgmlType.Q4_1, GgmlType.Q5_0, GgmlType.Q8_0)
N_SAMPLED_ROWS = 8
CHUNK_WEIGHTS = 1 << 19
FORGET_BYTES = 128 << 20


class Span(NamedTuple):
    """Rows `start` to `stop`."""

    start: int
    stop: int


class LatticeWeight:
    """A `Weight` in the blocks of `type`, found again whenever its rows are asked for."""

    factors = ()

    def __init__(self, weight: Weight, lattice: GgmlType) -> None:
        self.name, self.shape, self.type = weight.name, weight.shape, lattice
        self._weight = weight

    def raw(self, start: int, stop: int) -> NDArray[np.uint8]:
        blocks, n_found = fit_rows(self._weight.rows(start, stop), self._weight.type, self.type)
        if n_found < stop - start:
            raise CorruptFile(
                f"{self.name} changed while it was read.",
                hint="Wait until the checkpoint is complete, then try again.",
            )
        return blocks

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        return self._weight.rows(start, stop)


def find_lattices(
    weights: Mapping[str, Weight], forget: Callable[[], None], n_threads: int = 0
) -> Generator[int, None, dict[str, Weight]]:
    """`weights`, where those on a lattice are in its type; yields the number of bytes read so far.

    `forget` lets go of the memory that what was read takes; `n_threads` 0 is all cores.

    The first row tells that an ordinary tensor is on none. Only one of which a few rows are on some
    is read, up to the first rows that are on none: for the smallest lattice, which it nearly always
    is on, and if it is not then once more, for all others.
    """
    found = dict(weights)
    n_threads = n_threads or n_cores()
    with threads(n_threads, "lattice") as pool:
        search = _Search(pool, 2 * n_threads, forget)
        for name, weight in weights.items():
            left = candidates(weight)
            fitting, misfit = yield from search.run(weight, left[:1])
            if misfit:
                others = _fitting(weight, left[1:], misfit)
                fitting, _ = yield from search.run(weight, others)
            if fitting:
                found[name] = LatticeWeight(weight, fitting[0])
            yield search.n_bytes
    return found


class _Search:
    """Reads whole weights in `pool`, up to `n_ahead` spans ahead, and counts the bytes."""

    def __init__(self, pool: ThreadPoolExecutor, n_ahead: int, forget: Callable[[], None]) -> None:
        self.n_bytes = 0
        self._n_forgotten = 0
        self._pool, self._n_ahead, self._forget = pool, n_ahead, forget

    def run(
        self, weight: Weight, lattices: list[GgmlType]
    ) -> Generator[int, None, tuple[list[GgmlType], Span | None]]:
        """Those of `lattices` that hold all of `weight`, or none and the first rows that are so."""
        if not lattices:
            return [], None
        left = lattices
        fitting = partial(_fitting, weight, lattices)
        for span, found in in_order(self._pool, fitting, _spans(weight), self._n_ahead):
            fits = yield from wait(found, self.n_bytes)
            left = [lattice for lattice in left if lattice in fits]
            self.n_bytes += (span.stop - span.start) * weight.type.row_bytes(weight.shape[-1])
            if self.n_bytes - self._n_forgotten > FORGET_BYTES:
                self._forget()
                self._n_forgotten = self.n_bytes
            yield self.n_bytes
            if not left:
                return [], span
        return left, None


def candidates(weight: Weight) -> list[GgmlType]:
    """The lattices that hold a few rows of `weight`."""
    if len(weight.shape) < 2 or not weight.type.is_float or weight.shape[-1] % 32:
        return []
    n_rows = prod(weight.shape[:-1])
    n_sampled = min(n_rows, N_SAMPLED_ROWS)
    left = list(LATTICES)
    for i in range(n_sampled):
        row = i * (n_rows - 1) // max(1, n_sampled - 1)
        left = _fitting(weight, left, Span(row, row + 1))
        if not left:
            break
    return left


def _spans(weight: Weight) -> list[Span]:
    n_rows, n = prod(weight.shape[:-1]), max(1, CHUNK_WEIGHTS // weight.shape[-1])
    return [Span(start, min(start + n, n_rows)) for start in range(0, n_rows, n)]


def _fitting(weight: Weight, lattices: list[GgmlType], span: Span) -> list[GgmlType]:
    """Those of `lattices` that hold all rows of `span`."""
    rows = weight.rows(*span)
    return [t for t in lattices if fit_rows(rows, weight.type, t)[1] == span.stop - span.start]


def fit_rows(
    rows: NDArray[np.float32], stored: GgmlType, lattice: GgmlType
) -> tuple[NDArray[np.uint8], int]:
    """Rows in blocks, uint8 [n, row_bytes], and how many of them fit; `stored` rounded them."""
    import numpy as np

    from engine import _native

    rows = np.ascontiguousarray(rows)
    blocks = np.empty((len(rows), lattice.row_bytes(rows.shape[1])), np.uint8)
    return blocks, _native.fit_lattice(rows, stored.name, lattice.name, blocks)
