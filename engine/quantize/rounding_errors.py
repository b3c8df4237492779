"""What rounding does to the output of each tensor, for every type that it could have.

Measured on a sample of its rows with the inputs that were held out, these rounded to 8 bits as
llama.cpp does before it multiplies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from engine.ggml_types import GgmlType
from engine.gguf_values import TensorInfo
from engine.llama.ggml import dequantize_rows
from engine.quantize.encode import Encoder
from engine.quantize.fold_search import rounded_input
from engine.quantize.matrices import n_matrices, rows_of_matrix
from engine.quantize.rounding import product

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.quantize.fold import InputStatistics
    from engine.source import ModelSource

SAMPLE_ROWS = 192
SAMPLE_MATRICES = 6
STRETCH = 24


class RoundingErrors(msgspec.Struct, frozen=True):
    """The part of a tensor's output energy that each type changes; `coarse`, one by ggml alone."""

    tensor: str
    coarse: float
    by_type: dict[str, float]


class _Sample(NamedTuple):
    """Rows of a matrix from row `start` of the tensor on, and inputs that were held out.

    Without `inputs`, [n_samples, n_cols], it is a table whose rows are looked up.
    """

    start: int
    rows: NDArray[np.float32]
    inputs: NDArray[np.float32] | None


def coarse_error(
    source: ModelSource,
    tensor: TensorInfo,
    coarse: GgmlType,
    encoder: Encoder,
    statistics: InputStatistics | None,
) -> float:
    """The error of ggml's own rounding to `coarse`, with the inputs as they are."""
    samples = list(_samples(source, tensor, statistics))
    changed = 0.0
    for sample in samples:
        stored = encoder.stock(tensor, coarse, sample.rows, sample.start)
        delta = sample.rows - dequantize_rows(coarse, stored)
        changed += _energy(_output(delta, sample.inputs))
    return _share(changed, samples)


def rounding_errors(
    source: ModelSource,
    tensor: TensorInfo,
    types: Sequence[GgmlType],
    encoder: Encoder,
    statistics: InputStatistics | None,
) -> dict[str, float]:
    """The error of rounding `tensor` to each of `types`, by name."""
    samples = list(_samples(source, tensor, statistics))
    return {
        target.name: _share(
            sum(_changed(tensor, sample, target, encoder) for sample in samples), samples
        )
        for target in types
    }


def _changed(tensor: TensorInfo, sample: _Sample, target: GgmlType, encoder: Encoder) -> float:
    if target.is_float:
        return 0.0
    stored = encoder.encode(tensor, target, sample.rows, sample.start)
    rounded = dequantize_rows(target, stored)
    if sample.inputs is None:
        return _energy(sample.rows - rounded)
    exact = _output(sample.rows, sample.inputs)
    return _energy(exact - _output(rounded, rounded_input(sample.inputs, target)))


def _share(changed: float, samples: Sequence[_Sample]) -> float:
    whole = sum(_energy(_output(sample.rows, sample.inputs)) for sample in samples)
    return changed / whole if whole > 0 else 0.0


def _samples(
    source: ModelSource, tensor: TensorInfo, statistics: InputStatistics | None
) -> Iterator[_Sample]:
    """Stretches of rows, spread over the tensor."""
    n_rows, n_all = rows_of_matrix(tensor), n_matrices(tensor)
    matrices = sorted({i * n_all // SAMPLE_MATRICES for i in range(SAMPLE_MATRICES)})
    n_stretches = max(1, SAMPLE_ROWS // len(matrices) // STRETCH)
    for i_matrix in matrices:
        inputs = statistics.held_out(tensor.name, i_matrix) if statistics else None
        inputs = inputs if inputs is not None and len(inputs) else None
        begun = i_matrix * n_rows
        for i in range(n_stretches):
            first, last = (k * n_rows // n_stretches for k in (i, i + 1))
            last = min(last, first + STRETCH)
            if last > first:
                rows = source.rows(tensor, begun + first, begun + last)
                yield _Sample(begun + first, rows, inputs)


def _output(rows: NDArray[np.float32], inputs: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """What `rows` give for each input; themselves where there are none."""
    return rows if inputs is None else product(rows, inputs.T)


def _energy(values: NDArray[np.float32]) -> float:
    import numpy as np

    return float(np.square(values, dtype=np.float64).sum())
