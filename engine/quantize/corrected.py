"""Weights that make up for what earlier tensors lost, to be rounded in place of the original ones.

Rounding takes the inputs of a matrix for those of the original. In the rounded model they are not,
and the differences add up from layer to layer. With x the input in the original and y that in the
model as it is rounded up to here, W + W E[(x - y) y^T] E[y y^T]^-1 gives from y what W gives from
x, as nearly as a matrix can (least squares). GPTAQ (arXiv 2504.02692) does so while it rounds a
column; here it is done before, and the rounding stays what it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from engine.calibrate.massive import energies, shares
from engine.gguf_values import TensorInfo, Value
from engine.quantize.rounding import Curvature, product

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.source import ModelSource


TOKENS_AS_ONE = 30
"""Of how many tokens as much is believed as of one in the rounding: what is fitted is a small
difference, and what it has by chance is fitted too (docs/quantization.md, The second round)."""


class Moments:
    """What is summed up of one input, `n_cols` wide, in the original and in the rounded model."""

    def __init__(self, n_cols: int, n_threads: int) -> None:
        import numpy as np

        self._n_threads = n_threads
        self._n = 0
        self._rounded = np.zeros((n_cols, n_cols), np.float32)  # y y^T, from the diagonal on
        self._lost = np.zeros((n_cols, n_cols), np.float32)  # (x - y) y^T

    def add(self, original: NDArray[np.float32], rounded: NDArray[np.float32]) -> None:
        """Add the same tokens' rows in both, [n_tokens, n_cols], less of massive ones."""
        import numpy as np

        from engine._native import add_outer_products

        counts = shares(energies(rounded, self._n_threads))
        add_outer_products(rounded, counts, self._rounded, None, self._n_threads)
        original, rounded = (rows * counts[:, np.newaxis] for rows in (original, rounded))
        self._lost += product((original - rounded).T, rounded, self._n_threads)
        self._n += len(rounded)

    def correction(self) -> NDArray[np.float32]:
        """Return E[(x - y) y^T] E[y y^T]^-1, damped as for few tokens, [n_cols, n_cols]."""
        import numpy as np

        upper = np.triu(self._rounded)
        moment = (upper + np.triu(upper, 1).T) / np.float32(self._n)
        curvature = Curvature.of(moment, self._n / TOKENS_AS_ONE, self._n_threads)
        unit = np.float32(max(1e-30, np.diagonal(moment).mean()))
        return curvature.solve(self._lost / (np.float32(self._n) * unit), self._n_threads)


class CorrectedSource:
    """A model with some of its matrices corrected, as a ModelSource.

    `files` hold what `Moments.correction` told, as numpy's files, by the name of the tensor.
    """

    def __init__(self, source: ModelSource, files: Mapping[str, Path]) -> None:
        self._source = source
        self._files = files
        self.metadata: Mapping[str, Value] = source.metadata
        self.can_decode = source.can_decode
        self.tensors: Sequence[TensorInfo] = source.tensors

    def rows(self, tensor: TensorInfo, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop`, float32 [stop - start, n_cols]; may be a read-only view."""
        import numpy as np

        rows = self._source.rows(tensor, start, stop)
        if tensor.name not in self._files:
            return rows
        return rows + product(rows, np.load(self._files[tensor.name], mmap_mode="r"))

    def raw(self, tensor: TensorInfo, start: int, stop: int) -> memoryview:
        """The same rows as stored in `tensor.type`, as they were."""
        return self._source.raw(tensor, start, stop)

    def forget(self) -> None:
        self._source.forget()

    def close(self) -> None:
        self._source.close()
