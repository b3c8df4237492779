"""Scales that move from the columns of matrices into what makes their input: the model stays equal.

A matrix that is folded has its columns multiplied by s and its input divided by s, where the input
comes from: a norm's weights, or the rows of the matrix before. Rounding then costs less, and the
file holds not a byte more. AWQ (arXiv 2306.00978) and SmoothQuant (arXiv 2211.10438) do this.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from engine.ggml_types import GgmlType
from engine.gguf_values import TensorInfo, Value
from engine.quantize.matrices import n_matrices

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.source import ModelSource


class InputStatistics(Protocol):
    """What is known of the inputs x of the matrices; None for one that was never seen."""

    def importance(self, tensor: str) -> NDArray[np.float32] | None:
        """E[x^2], [n_matrices, n_cols]"""
        ...

    def n_tokens(self, tensor: str) -> NDArray[np.int64]:
        """[n_matrices]"""
        ...

    def shared_input(self, tensor: str) -> str:
        """The first tensor that has the same input."""
        ...

    def second_moment(self, tensor: str, i_matrix: int = 0) -> NDArray[np.float32] | None:
        """E[x x^T], [n_cols, n_cols]"""
        ...

    def second_moment_blocks(
        self, tensor: str, i_matrix: int = 0
    ) -> list[NDArray[np.float32]] | None:
        """The blocks on its diagonal outside of which it is zero."""
        ...

    def moment_tokens(self, tensor: str, i_matrix: int = 0) -> float:
        """How many tokens it is as good as."""
        ...

    def held_out(self, tensor: str, i_matrix: int = 0) -> NDArray[np.float32] | None:
        """Inputs that are in none of the others, [n_samples, n_cols]"""
        ...

    def evenly(self, tensor: str) -> float:
        """What the change of a weight counts, squared, beside that of the output."""
        ...


class Span(msgspec.Struct, frozen=True):
    """Rows of a matrix, or numbers of a vector, `start` to `stop`; the first one is `channel`."""

    tensor: str
    start: int
    stop: int
    channel: int = 0


class Columns(msgspec.Struct, frozen=True):
    """All columns of a tensor, or of one of its matrices (an expert)."""

    tensor: str
    matrix: int | None = None


class Fold(msgspec.Struct, frozen=True):
    """One set of scales, [n_channels], and where it goes.

    `columns` are multiplied by them, `divided` is divided by them, and of `multiplied` (what meets
    the same channels on another way) the rows are multiplied. Channels come in runs of `run`; each
    run is that of `n_sharing` successive runs of columns.
    """

    name: str
    n_channels: int
    columns: tuple[Columns, ...]
    divided: tuple[Span, ...]
    multiplied: tuple[Span, ...] = ()
    n_sharing: int = 1
    run: int = 1

    @property
    def kind(self) -> str:
        """Its name without the numbers of layer and expert."""
        return re.sub(r"^blk\.\d+\.|\.\d+$", "", self.name)

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of all that it changes."""
        columns = (part.tensor for part in self.columns)
        spans = (span.tensor for span in (*self.divided, *self.multiplied))
        return tuple(dict.fromkeys((*columns, *spans)))

    def to_columns(self, scales: NDArray[np.float32]) -> NDArray[np.float32]:
        """One for each column: [n_channels] -> [n_channels * n_sharing]."""
        import numpy as np

        runs = scales.reshape(-1, 1, self.run)
        return np.repeat(runs, self.n_sharing, axis=1).reshape(-1)

    def to_channels(self, columns: NDArray[np.float32]) -> NDArray[np.float32]:
        """All that share a channel: [n_channels * n_sharing] -> [n_channels, n_sharing]."""
        return (
            columns.reshape(-1, self.n_sharing, self.run).swapaxes(1, 2).reshape(-1, self.n_sharing)
        )


class Folded(NamedTuple):
    """A fold with its scales, [n_channels], positive, and how the search came by them.

    `gain` is the share of the error that they take away.
    """

    fold: Fold
    scales: NDArray[np.float32]
    form: str = ""
    exponent: float = 0.0
    gain: float = 0.0


class _Factors(NamedTuple):
    """What a tensor is multiplied by; None for one.

    `columns` is [n_matrices, n_cols], or [1, n_cols] for all; `rows` [n_rows, 1], of a vector
    [n_rows, n_cols].
    """

    columns: NDArray[np.float32] | None
    rows: NDArray[np.float32] | None


class FoldedSource:
    """A model with folds applied, as a ModelSource; what they change is F32."""

    def __init__(self, source: ModelSource, folded: Iterable[Folded]) -> None:
        self._source = source
        self._stored = {tensor.name: tensor for tensor in source.tensors}
        self._factors = _factors(self._stored, tuple(folded))
        self.metadata: Mapping[str, Value] = source.metadata
        self.can_decode = source.can_decode
        self.tensors: Sequence[TensorInfo] = tuple(
            TensorInfo(t.name, t.shape, GgmlType.F32) if t.name in self._factors else t
            for t in source.tensors
        )

    def rows(self, tensor: TensorInfo, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop`, float32 [stop - start, n_cols]; may be a read-only view."""
        import numpy as np

        rows = self._source.rows(self._stored[tensor.name], start, stop)
        columns_factor, rows_factor = self._factors.get(tensor.name, (None, None))
        if columns_factor is not None:
            n_rows = tensor.n_rows // len(columns_factor)
            rows = rows * columns_factor[np.arange(start, stop) // n_rows]
        if rows_factor is not None:
            rows = rows * rows_factor[start:stop]
        return rows

    def raw(self, tensor: TensorInfo, start: int, stop: int) -> memoryview:
        """Rows `start` to `stop` in `tensor.type`."""
        import numpy as np

        if tensor.name not in self._factors:
            return self._source.raw(self._stored[tensor.name], start, stop)
        return self.rows(tensor, start, stop).reshape(-1).view(np.uint8).data

    def forget(self) -> None:
        self._source.forget()

    def close(self) -> None:
        self._source.close()


class FoldedStatistics:
    """The inputs as the matrices of a FoldedSource see them, of the same `tensors`."""

    def __init__(
        self,
        statistics: InputStatistics,
        tensors: Iterable[TensorInfo],
        folded: Iterable[Folded],
    ) -> None:
        self._statistics = statistics
        factors = _factors({tensor.name: tensor for tensor in tensors}, tuple(folded))
        self._columns = {n: f.columns for n, f in factors.items() if f.columns is not None}

    def importance(self, tensor: str) -> NDArray[np.float32] | None:
        found = self._statistics.importance(tensor)
        if found is None or tensor not in self._columns:
            return found
        return found / self._columns[tensor] ** 2

    def n_tokens(self, tensor: str) -> NDArray[np.int64]:
        return self._statistics.n_tokens(tensor)

    def moment_tokens(self, tensor: str, i_matrix: int = 0) -> float:
        return self._statistics.moment_tokens(tensor, i_matrix)

    def shared_input(self, tensor: str) -> str:
        return self._statistics.shared_input(tensor)

    def second_moment(self, tensor: str, i_matrix: int = 0) -> NDArray[np.float32] | None:
        found = self._statistics.second_moment(tensor, i_matrix)
        if found is None or tensor not in self._columns:
            return found
        factors = self._of_matrix(tensor, i_matrix)
        return found / factors[:, None] / factors

    def second_moment_blocks(
        self, tensor: str, i_matrix: int = 0
    ) -> list[NDArray[np.float32]] | None:
        found = self._statistics.second_moment_blocks(tensor, i_matrix)
        if found is None or tensor not in self._columns:
            return found
        factors, first, blocks = self._of_matrix(tensor, i_matrix), 0, []
        for block in found:
            its = factors[first : first + len(block)]
            blocks.append(block / its[:, None] / its)
            first += len(block)
        return blocks

    def held_out(self, tensor: str, i_matrix: int = 0) -> NDArray[np.float32] | None:
        found = self._statistics.held_out(tensor, i_matrix)
        if found is None or tensor not in self._columns:
            return found
        return found / self._of_matrix(tensor, i_matrix)

    def evenly(self, tensor: str) -> float:
        return self._statistics.evenly(tensor)

    def _of_matrix(self, tensor: str, i_matrix: int) -> NDArray[np.float32]:
        columns = self._columns[tensor]
        found: NDArray[np.float32] = columns[i_matrix if len(columns) > 1 else 0]
        return found


def is_vector(tensor: TensorInfo) -> bool:
    """Whether its numbers are added or multiplied one by one: a norm, a bias (of each expert)."""
    return len(tensor.shape) == 1 or tensor.name.endswith(".bias")


def _factors(tensors: Mapping[str, TensorInfo], folded: Sequence[Folded]) -> dict[str, _Factors]:
    import numpy as np

    columns: dict[str, NDArray[np.float32]] = {}
    rows: dict[str, NDArray[np.float32]] = {}

    def scale(span: Span, factors: NDArray[np.float32]) -> None:
        tensor = tensors[span.tensor]
        n_cols = tensor.n_cols if is_vector(tensor) else 1
        if span.tensor not in rows:
            rows[span.tensor] = np.ones((tensor.n_rows, n_cols), np.float32)
        scaled = rows[span.tensor].reshape(-1)[span.start : span.stop]
        scaled *= factors[span.channel : span.channel + len(scaled)]

    for fold, scales, *_ in folded:
        for part in fold.columns:
            tensor = tensors[part.tensor]
            if part.tensor not in columns:
                n = 1 if part.matrix is None else n_matrices(tensor)
                columns[part.tensor] = np.ones((n, tensor.n_cols), np.float32)
            columns[part.tensor][part.matrix or 0] *= fold.to_columns(scales)
        for span in fold.divided:
            scale(span, np.reciprocal(scales))
        for span in fold.multiplied:
            scale(span, scales)
    return {n: _Factors(columns.get(n), rows.get(n)) for n in {**columns, **rows}}
