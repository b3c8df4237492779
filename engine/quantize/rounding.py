"""Rounding a tensor's rows so that its output changes least, not its weights.

For inputs x the output of a row w changes by (w - v) x when the file holds v, by
(w - v) H (w - v)^T in the mean of its square, H = E[x x^T]. The scales of ggml's own quantization
are where it starts (docs/quantization.md, Rounding).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from engine.errors import EngineError
from engine.ggml_types import GgmlType
from engine.llama.ggml import dequantize_rows, quantize_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# weight = scale * level - minimum, one code a weight: what native/scalar_blocks.cpp knows.
SCALAR_TYPES = frozenset(
    {
        GgmlType.Q2_K,
        GgmlType.Q3_K,
        GgmlType.Q4_K,
        GgmlType.Q5_K,
        GgmlType.Q6_K,
        GgmlType.Q8_0,
        GgmlType.Q4_0,
        GgmlType.Q4_1,
        GgmlType.Q5_0,
        GgmlType.Q5_1,
        GgmlType.IQ4_NL,
        GgmlType.IQ4_XS,
    }
)

# More than the 0.01 of GPTQ: what a model is used for is never quite what it was calibrated with.
DAMPING = 0.1
"""Of the mean of the diagonal."""
ENOUGH_TOKENS = 4
"""For each column: fewer than its second moment shows how columns go together only by chance."""
MOST_DAMPING = 1e3
"""With more there is next to nothing left of how columns go together."""
PANEL = 64
"""Columns that are solved for at once."""


class Curvature(msgspec.Struct, frozen=True):
    """How much each pair of columns counts: E[x x^T], damped, and its factor.

    Wide rows may have their columns in blocks of equal width that do not know of each other:
    `moment` [n_blocks, n, n] over a mean diagonal of 1, `order` [n_blocks, n] in which columns are
    rounded (those that count most first), `feedback` [n_blocks, n, n] and `pivots` [n_blocks, n]
    what `factor_moment` tells of each block.
    """

    moment: NDArray[np.float32]
    order: NDArray[np.int32]
    feedback: NDArray[np.float32]
    pivots: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        second_moment: NDArray[np.float32],
        n_tokens: float,
        n_threads: int = 1,
        evenly: float = 0.0,
    ) -> Curvature:
        """Prepare E[x x^T] over `n_tokens`, [n, n] or its diagonal blocks [n_blocks, n, n].

        It is symmetric, but for rounding. `evenly` is added to the diagonal.

        `DAMPING` is added to the diagonal (GPTQ, arXiv 2210.17323, section 3.3); of fewer than
        `ENOUGH_TOKENS` for each column as many times more as they are fewer, and ten times as much
        as long as the factor does not exist. Columns that no token used count as little as that.
        Raises EngineError for what is no second moment: NaN, infinity, a negative diagonal.
        """
        import numpy as np

        blocks = second_moment[np.newaxis] if second_moment.ndim == 2 else second_moment
        n = blocks.shape[-1]
        diagonal = np.diagonal(blocks, axis1=1, axis2=2).astype(np.float64)
        mean = float(diagonal.mean()) + evenly
        extremes = blocks.min(initial=0), blocks.max(initial=0)  # NaN if there is one
        if not np.isfinite(extremes).all() or diagonal.min(initial=0) < 0:
            raise EngineError(
                "The calibration statistics are damaged.", hint="Calibrate the model again."
            )
        unit = mean if mean > 1e-30 else 1.0
        damping = DAMPING * max(1.0, ENOUGH_TOKENS * n / max(1.0, n_tokens))
        curvature = cls(
            _aligned(blocks.shape),
            np.empty(blocks.shape[:2], np.int32),
            _aligned(blocks.shape),
            np.empty(blocks.shape[:2], np.float32),
        )
        for i, block in enumerate(blocks):
            np.divide(block, np.float32(unit), out=curvature.moment[i])
            curvature.moment[i][np.diag_indices(n)] += np.float32(evenly / unit)
            curvature._factor(i, damping, n_threads)
        return curvature

    @classmethod
    def flat(cls, n_cols: int) -> Curvature:
        """Return that of inputs of which nothing is known: each column counts the same, alone.

        Rounding with it makes the error of the weights small. `n_cols` is a multiple of 32.
        """
        import numpy as np

        width = 256 if n_cols % 256 == 0 else 32
        shape = (n_cols // width, width)
        one = np.broadcast_to(np.eye(width, dtype=np.float32), (shape[0], width, width))
        order = np.broadcast_to(np.arange(width, dtype=np.int32), shape)
        ones = np.ones(shape, np.float32)
        return cls(np.ascontiguousarray(one), np.ascontiguousarray(order), one.copy(), ones)

    def solve(self, right: NDArray[np.float32], n_threads: int = 1) -> NDArray[np.float32]:
        """Return `right` times the inverse of the damped moment, [m, n], if that is one block.

        The moment over the mean of its diagonal, that is. With its columns in `order` it is
        F P F^T, F the upper triangle of `feedback` with a diagonal of ones, P that of `pivots`.
        """
        import numpy as np

        order, factor, n = self.order[0], self.feedback[0], self.order.shape[1]
        x = np.ascontiguousarray(right.T[order])  # [n, m]
        panels = [(first, min(n, first + PANEL)) for first in range(0, n, PANEL)]
        for first, last in reversed(panels):
            x[first:last] -= product(factor[first:last, last:], x[last:], n_threads)
            for k in range(last - 2, first - 1, -1):
                x[k] -= product(factor[k : k + 1, k + 1 : last], x[k + 1 : last])[0]
        x /= self.pivots[0][:, np.newaxis]
        for first, last in panels:
            x[first:last] -= product(factor[:first, first:last].T, x[:first], n_threads)
            for k in range(first + 1, last):
                x[k] -= product(factor[first:k, k : k + 1].T, x[first:k])[0]
        solved = np.empty_like(x)
        solved[order] = x
        return np.ascontiguousarray(solved.T)

    def _factor(self, i: int, damping: float, n_threads: int) -> None:
        import numpy as np

        from engine import _native

        damped, order, feedback, pivots = (
            part[i] for part in (self.moment, self.order, self.feedback, self.pivots)
        )
        diagonal = np.diagonal(damped).copy()
        order[:] = np.argsort(-diagonal, kind="stable")
        while damping < MOST_DAMPING:
            np.fill_diagonal(damped, diagonal + np.float32(damping))
            if _native.factor_moment(damped, order, feedback, pivots, n_threads):
                return
            damping *= 10
        # How columns go together cannot be computed with: each by itself.
        damped[:] = np.diag(diagonal + np.float32(1))
        feedback[:] = np.eye(len(damped))
        pivots[:] = np.diagonal(damped)[order]


def _aligned(shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return room for numbers in which no vector lies in two cache lines, which is slow to read."""
    import numpy as np

    size = math.prod(shape)
    room = np.empty(size + 16, np.float32)
    start = -room.ctypes.data % 64 // 4
    return room[start : start + size].reshape(shape)


def round_rows(
    ggml_type: GgmlType,
    rows: NDArray[np.float32],
    curvature: Curvature,
    importance: NDArray[np.float32],
    n_threads: int = 1,
    sweeps: int = 1,
    refits: int = 2,
) -> NDArray[np.uint8]:
    """Round rows to `ggml_type`: float32 [n_rows, n_cols] -> bytes [n_rows, row_bytes].

    `importance` [n_cols] is the mean square of each input, for ggml's own choice of scales. No row
    has a greater (w - v) H (w - v)^T than ggml's. The bytes do not depend on `n_threads`, nor on
    which rows come together. `sweeps` over the codes follow each choice of scales, of which there
    are `refits` more than ggml's. Other types than SCALAR_TYPES get ggml's bytes. Raises
    UnsupportedTensor as quantize_rows.
    """
    import numpy as np

    rows = np.ascontiguousarray(rows, dtype=np.float32)
    if not importance.any():  # ggml would store nothing but zeros
        importance = np.ones_like(importance)
    stored = quantize_rows(ggml_type, rows, importance)
    return round_rows_from(ggml_type, rows, stored, curvature, n_threads, sweeps, refits)


def round_rows_from(
    ggml_type: GgmlType,
    rows: NDArray[np.float32],
    stored: NDArray[np.uint8],
    curvature: Curvature,
    n_threads: int = 1,
    sweeps: int = 0,
    refits: int = 0,
    *,
    is_checked: bool = True,
) -> NDArray[np.uint8]:
    """The same from the scales and codes in `stored`, which no row of the result is worse than.

    Unless that is not to be checked: summing up their error takes as long as the feedback.
    """
    import numpy as np

    from engine import _native

    if ggml_type not in SCALAR_TYPES or not rows.size:
        return stored
    n_blocks, n_cols = curvature.order.shape
    row_bytes = ggml_type.row_bytes(n_cols)
    rounded = np.empty_like(stored)
    errors = np.empty(len(rows))
    for i in range(n_blocks):
        columns = slice(i * n_cols, (i + 1) * n_cols)
        places = slice(i * row_bytes, (i + 1) * row_bytes)
        blocks = stored[:, places].copy()
        _native.round_rows(
            ggml_type.name,
            np.ascontiguousarray(rows[:, columns]),
            curvature.moment[i],
            curvature.order[i],
            curvature.feedback[i],
            curvature.pivots[i],
            blocks,
            errors,
            True,
            sweeps,
            refits,
            n_threads,
            is_checked,
        )
        rounded[:, places] = blocks
    return rounded


def keep_better(
    ggml_type: GgmlType,
    rows: NDArray[np.float32],
    ours: NDArray[np.uint8],
    stock: NDArray[np.uint8],
    held_out: NDArray[np.float32],
    evenly: float = 0.0,
    n_threads: int = 1,
) -> NDArray[np.uint8]:
    """Return `ours` where it changes the output on inputs not fitted to less than `stock` does.

    `held_out` is [n_samples, n_cols]; judged row by row by `held_out_errors`.
    """
    import numpy as np

    error = held_out_errors(ggml_type, rows, ours, held_out, evenly, n_threads)
    of_stock = held_out_errors(ggml_type, rows, stock, held_out, evenly, n_threads)
    return np.where((error <= of_stock)[:, np.newaxis], ours, stock)


def held_out_errors(
    ggml_type: GgmlType,
    rows: NDArray[np.float32],
    stored: NDArray[np.uint8],
    held_out: NDArray[np.float32],
    evenly: float = 0.0,
    n_threads: int = 1,
) -> NDArray[np.float64]:
    """Return the mean of ((w - v) x)^2 over the samples [n_samples, n_cols] for each row.

    And `evenly` times |w - v|^2.
    """
    import numpy as np

    delta = rows - dequantize_rows(ggml_type, stored)
    changes = product(delta, held_out.T, n_threads)
    errors: NDArray[np.float64] = np.square(changes, dtype=np.float64).mean(axis=1)
    if evenly:
        errors += evenly * np.square(delta, dtype=np.float64).sum(axis=1)
    return errors


def product(
    left: NDArray[np.float32], right: NDArray[np.float32], n_threads: int = 1
) -> NDArray[np.float32]:
    """Return left @ right; unlike numpy's, its bits do not depend on threads or on other rows."""
    import numpy as np

    from engine import _native

    out = np.empty((left.shape[0], right.shape[1]), np.float32)
    _native.multiply(np.ascontiguousarray(left), np.ascontiguousarray(right), out, n_threads)
    return out
