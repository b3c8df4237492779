"""What rounding does to the output of each tensor, for every type that it could have.

Measured on a sample of its rows with the inputs that were held out, these rounded to 8 bits as
llama.cpp does before it multiplies. Where an importance matrix is all there is, each column counts
by that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

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

SAMPLE_MATRICES = 6
STRETCHES = 8


class _Sample(NamedTuple):
    """Rows of a matrix that begins at row `start` of the tensor, and inputs that were held out.

    `inputs` are [n_samples, n_cols], beside each of which the weights themselves count `evenly`.
    Without them `sizes` are those of what meets the columns, [n_cols], with that in them; without
    these it is a table whose rows are looked up.
    """

    start: int
    rows: NDArray[np.float32]
    inputs: NDArray[np.float32] | None
    sizes: NDArray[np.float32] | None
    evenly: float

    def output(
        self, rows: NDArray[np.float32], inputs: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """What `rows` of these columns give for each of `inputs`."""
        if inputs is not None:
            return product(rows, inputs.T)
        return rows if self.sizes is None else rows * self.sizes

    def energy(self, output: NDArray[np.float32], rows: NDArray[np.float32]) -> float:
        """The sum of squares of `output`, and of what `rows` count by themselves."""
        energy = _energy(output)
        if self.inputs is not None and self.evenly:
            energy += self.evenly * len(self.inputs) * _energy(rows)
        return energy


def coarse_error(
    source: ModelSource,
    tensor: TensorInfo,
    coarse: GgmlType,
    encoder: Encoder,
    statistics: InputStatistics | None,
    n_rows: int,
) -> float:
    """The error of ggml's own rounding to `coarse`, with the inputs as they are.

    About `n_rows` rows of the tensor are rounded.
    """
    changed = whole = 0.0
    for sample in _samples(source, tensor, statistics, n_rows):
        stored = encoder.stock(tensor, coarse, sample.rows, sample.start)
        delta = sample.rows - dequantize_rows(coarse, stored)
        changed += sample.energy(sample.output(delta, sample.inputs), delta)
        whole += sample.energy(sample.output(sample.rows, sample.inputs), sample.rows)
    return changed / whole if whole > 0 else 0.0


def rounding_error(
    source: ModelSource,
    tensor: TensorInfo,
    target: GgmlType,
    encoder: Encoder,
    statistics: InputStatistics | None,
    n_rows: int,
) -> float:
    """The error of rounding about `n_rows` rows of `tensor` to `target`."""
    if target.is_float:
        return 0.0
    changed = whole = 0.0
    for sample in _samples(source, tensor, statistics, n_rows):
        stored = encoder.encode(tensor, target, sample.rows, sample.start)
        rounded, inputs = dequantize_rows(target, stored), sample.inputs
        exact = sample.output(sample.rows, inputs)
        inputs = None if inputs is None else rounded_input(inputs, target)
        change = exact - sample.output(rounded, inputs)
        changed += sample.energy(change, sample.rows - rounded)
        whole += sample.energy(exact, sample.rows)
    return changed / whole if whole > 0 else 0.0


def _samples(
    source: ModelSource, tensor: TensorInfo, statistics: InputStatistics | None, n_wanted: int
) -> Iterator[_Sample]:
    """Rows of some matrices, in stretches that are spread over each: whole tiles of the kernels."""
    import numpy as np

    n_rows, n_all = rows_of_matrix(tensor), n_matrices(tensor)
    matrices = sorted({i * n_all // SAMPLE_MATRICES for i in range(SAMPLE_MATRICES)})
    n_stretch = max(1, n_wanted // len(matrices) // STRETCHES)
    for i_matrix in matrices:
        inputs = statistics.held_out(tensor.name, i_matrix) if statistics else None
        inputs = inputs if inputs is not None and len(inputs) else None
        importance = statistics.importance(tensor.name) if statistics and inputs is None else None
        evenly = statistics.evenly(tensor.name) if statistics else 0.0
        sizes = None if importance is None else np.sqrt(importance[i_matrix] + np.float32(evenly))
        begun = i_matrix * n_rows
        stretches = []
        for i in range(STRETCHES):
            first, last = (k * n_rows // STRETCHES for k in (i, i + 1))
            last = min(last, first + n_stretch)
            if last > first:
                stretches.append(source.rows(tensor, begun + first, begun + last))
        yield _Sample(begun, np.concatenate(stretches), inputs, sizes, evenly)


def _energy(values: NDArray[np.float32]) -> float:
    import numpy as np

    return float(np.square(values, dtype=np.float64).sum())
