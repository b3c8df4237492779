"""Turns rows of a model's tensors into the bytes of a type, with what is known of their inputs.

With second moments the codes are chosen by error feedback (`rounding`), with an importance matrix
ggml chooses them by it, and without either as it does by itself.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from engine.ggml_types import GgmlType
from engine.gguf_values import TensorInfo
from engine.model_writer import corrupt
from engine.quantize.matrices import n_matrices, parts
from engine.quantize.rounding import (
    SCALAR_TYPES,
    Curvature,
    keep_better,
    round_rows,
    round_rows_from,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.quantize.fold import InputStatistics

MOST_CURVATURES = 4  # that are kept, beside those in use: of experts each has its own
N_AHEAD = 2  # a wide input takes longer to prepare than it takes to round with the one before


# An input, which of the matrices that it is for, and what their weights count evenly.
_Key = tuple[str, int, float]


class Care(msgspec.Struct, frozen=True):
    """How much work each rounding is worth: see `round_rows`. Without `feedback` it is ggml's."""

    feedback: bool = True
    sweeps: int = 1
    refits: int = 2


class _Kept(NamedTuple):
    """Of rows that were encoded together, how many are not as ggml has them."""

    n_rows: int
    n_ours: int


class Encoder:
    """Encodes rows for `statistics`, None for none. From any thread, the same bytes each time.

    `n_threads` prepare what all the rows of a matrix need, while whoever has such rows waits. What
    the next matrices of the tensors `coming` need is prepared, by as many threads more, while the
    rows of one are encoded, or part of the cores would have nothing to do at each. `close` it at
    the end: it encodes no more then.
    """

    def __init__(
        self,
        statistics: InputStatistics | None,
        care: Care,
        n_threads: int = 1,
        coming: Sequence[TensorInfo] = (),
    ) -> None:
        self._statistics = statistics
        self._care = care
        self._n_threads = n_threads
        self._coming = _Coming(statistics, coming if statistics else ())
        self._lock = threading.Lock()
        # One thread: the statistics are read by one at a time.
        self._preparing = ThreadPoolExecutor(1, thread_name_prefix="prepare")
        self._is_closed = threading.Event()
        self._curvatures: OrderedDict[_Key, Future[list[_Columns]]] = OrderedDict()
        self._n_using: Counter[_Key] = Counter()
        self._kept: dict[str, dict[int, _Kept]] = {}  # by tensor and first row: some come twice

    def encode(
        self, tensor: TensorInfo, target: GgmlType, rows: NDArray[np.float32], start: int
    ) -> NDArray[np.uint8]:
        """Encode rows of `tensor` from its row `start` on: [n_rows, n_cols] -> [n_rows, row_bytes].

        Raises UnsupportedTensor as `quantize_rows`, CorruptFile for damaged statistics and for rows
        that hold NaN or infinity.
        """
        import numpy as np

        _require_numbers(tensor, rows)
        stored = np.empty((len(rows), target.row_bytes(tensor.n_cols)), dtype=np.uint8)
        importances = self._importances(tensor)
        n_ours = 0
        for i_matrix, part in parts(tensor, start, start + len(rows)):
            importance = None if importances is None else importances[i_matrix]
            kept, stock = self._encode(tensor, i_matrix, target, rows[part], importance)
            stored[part] = kept
            n_ours += 0 if kept is stock else int((kept != stock).any(axis=1).sum())
        with self._lock:
            self._kept.setdefault(tensor.name, {})[start] = _Kept(len(rows), n_ours)
        return stored

    def close(self) -> None:
        """Let go of what was prepared; what is being prepared ends soon."""
        self._is_closed.set()
        self._preparing.shutdown(cancel_futures=True)
        self._curvatures.clear()

    def share_of_ours(self, tensor: TensorInfo) -> float | None:
        """The share of the rows of `tensor` that are not as ggml has them; None if not all came."""
        with self._lock:
            kept = list(self._kept.get(tensor.name, {}).values())
        if sum(part.n_rows for part in kept) != tensor.n_rows:
            return None
        return sum(part.n_ours for part in kept) / tensor.n_rows

    def stock(
        self, tensor: TensorInfo, target: GgmlType, rows: NDArray[np.float32], start: int
    ) -> NDArray[np.uint8]:
        """The same as ggml does it: with the importance of the columns, if it is known."""
        import numpy as np

        from engine.llama.ggml import quantize_rows

        _require_numbers(tensor, rows)
        importances = self._importances(tensor)
        if importances is None:
            return quantize_rows(target, rows)
        return np.concatenate(
            [
                quantize_rows(target, rows[part], importances[i_matrix])
                for i_matrix, part in parts(tensor, start, start + len(rows))
            ]
        )

    def _importances(self, tensor: TensorInfo) -> NDArray[np.float32] | None:
        """Float32 [n_matrices, n_cols]; None if not known, or not of this tensor."""
        if self._statistics is None:
            return None
        found = self._statistics.importance(tensor.name)
        if found is None or found.shape != (n_matrices(tensor), tensor.n_cols):
            return None
        return found

    def _encode(
        self,
        tensor: TensorInfo,
        i_matrix: int,
        target: GgmlType,
        rows: NDArray[np.float32],
        importance: NDArray[np.float32] | None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """What to store, and what ggml would: the same array where nothing else was tried."""
        from engine.llama.ggml import quantize_rows

        if importance is None or not self._care.feedback or target not in SCALAR_TYPES:
            stock = quantize_rows(target, rows, importance)
            return stock, stock
        with self._using(tensor, i_matrix):
            return self._encode_with_feedback(tensor, i_matrix, target, rows, importance)

    def _encode_with_feedback(
        self,
        tensor: TensorInfo,
        i_matrix: int,
        target: GgmlType,
        rows: NDArray[np.float32],
        importance: NDArray[np.float32],
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        import numpy as np

        from engine.llama.ggml import quantize_rows

        assert self._statistics  # it has told the importance
        stock = quantize_rows(target, rows, importance)
        columns = self._columns(tensor, i_matrix)
        if not columns:
            return stock, stock
        held_out = self._statistics.held_out(tensor.name, i_matrix)
        if held_out is not None and not len(held_out):
            held_out = None
        # Of the largest models each row is compared once only, with the inputs that were held out.
        is_checked = self._care.sweeps > 0 or held_out is None
        ours = np.concatenate(
            [self._round(target, rows, stock, importance, one, is_checked) for one in columns],
            axis=1,
        )
        if held_out is None:
            return ours, stock
        evenly = self._statistics.evenly(tensor.name)
        return keep_better(target, rows, ours, stock, held_out, evenly), stock

    def _round(
        self,
        target: GgmlType,
        rows: NDArray[np.float32],
        stock: NDArray[np.uint8],
        importance: NDArray[np.float32],
        one: _Columns,
        is_checked: bool,
    ) -> NDArray[np.uint8]:
        import numpy as np

        rows = np.ascontiguousarray(rows[:, one.first : one.last])
        importance = importance[one.first : one.last]
        sweeps, refits = self._care.sweeps, self._care.refits
        if not importance.any():  # ggml has stored nothing but zeros
            return round_rows(target, rows, one.curvature, importance, sweeps=sweeps, refits=refits)
        places = slice(target.row_bytes(one.first), target.row_bytes(one.last))
        return round_rows_from(
            target,
            rows,
            stock[:, places],
            one.curvature,
            sweeps=sweeps,
            refits=refits,
            is_checked=is_checked,
        )

    @contextmanager
    def _using(self, tensor: TensorInfo, i_matrix: int) -> Iterator[None]:
        """While this lasts, the curvatures of a matrix are kept, and those that come after it."""
        key = self._key(tensor.name, i_matrix)
        with self._lock:
            self._n_using[key] += 1
        try:
            yield
        finally:
            with self._lock:
                self._n_using[key] -= 1

    def _columns(self, tensor: TensorInfo, i_matrix: int) -> list[_Columns]:
        """The curvatures of a matrix; computed once, while other threads that want it wait."""
        with self._lock:
            future = self._begin(tensor.name, i_matrix)
            for following in self._coming.after(tensor.name, i_matrix):
                self._begin(*following)
        return future.result()

    def _begin(self, name: str, i_matrix: int) -> Future[list[_Columns]]:
        assert self._statistics
        key = self._key(name, i_matrix)
        future = self._curvatures.get(key)
        if future is None:
            future = self._preparing.submit(
                _curvatures, self._statistics, name, i_matrix, self._n_threads, self._is_closed
            )
            self._curvatures[key] = future
            while len(self._curvatures) > MOST_CURVATURES:
                if self._n_using[oldest := next(iter(self._curvatures))]:
                    break  # and those after it will be wanted
                del self._curvatures[oldest]
        return future

    def _key(self, name: str, i_matrix: int) -> _Key:
        assert self._statistics
        shared, evenly = self._statistics.shared_input(name), self._statistics.evenly(name)
        return shared, i_matrix, evenly


class _Coming:
    """The inputs of the matrices of `tensors`, in their order."""

    def __init__(self, statistics: InputStatistics | None, tensors: Sequence[TensorInfo]) -> None:
        self._inputs: list[tuple[str, int]] = []  # each by the first tensor in a row that has it
        self._places: dict[tuple[str, int], int] = {}
        last = None
        for tensor in tensors:
            assert statistics
            name = statistics.shared_input(tensor.name)
            for i_matrix in range(n_matrices(tensor)):
                if (name, i_matrix) != last:
                    last = name, i_matrix
                    self._inputs.append((tensor.name, i_matrix))
                self._places[tensor.name, i_matrix] = len(self._inputs) - 1

    def after(self, name: str, i_matrix: int) -> list[tuple[str, int]]:
        """The next few after that of a matrix."""
        place = self._places.get((name, i_matrix))
        return [] if place is None else self._inputs[place + 1 : place + 1 + N_AHEAD]


def _require_numbers(tensor: TensorInfo, rows: NDArray[np.float32]) -> None:
    import numpy as np

    if rows.size and not (np.isfinite(rows.min()) and np.isfinite(rows.max())):
        raise corrupt(tensor)


class _Columns(msgspec.Struct, frozen=True):
    """Columns `first` to `last` of a matrix, which are rounded by themselves."""

    first: int
    last: int
    curvature: Curvature


def _curvatures(
    statistics: InputStatistics,
    name: str,
    i_matrix: int,
    n_threads: int,
    is_closed: threading.Event,
) -> list[_Columns]:
    blocks = statistics.second_moment_blocks(name, i_matrix)
    n_tokens, evenly = statistics.moment_tokens(name, i_matrix), statistics.evenly(name)
    found: list[_Columns] = []
    for block in blocks or []:
        if is_closed.is_set():  # nobody waits for it any more
            break
        first = found[-1].last if found else 0
        curvature = Curvature.of(block, n_tokens, n_threads, evenly)
        found.append(_Columns(first, first + len(block), curvature))
    return found
