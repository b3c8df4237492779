"""What a rounding does to the output of a matrix, by the moments of its input."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.ggml_types import GgmlType
from engine.llama.ggml import dequantize_rows
from engine.quantize.rounding import Curvature


def relative_error(
    ggml_type: GgmlType,
    rows: NDArray[np.float32],
    stored: NDArray[np.uint8],
    curvature: Curvature,
) -> float:
    """Return the part of the output's energy that rounding changes, tr(D H D^T) / tr(W H W^T)."""
    changed = _energy(rows - dequantize_rows(ggml_type, stored), curvature)
    whole = _energy(rows, curvature)
    return changed / whole if whole > 0 else 0.0


def _energy(rows: NDArray[np.float32], curvature: Curvature) -> float:
    n = curvature.order.shape[1]
    parts = (rows[:, i * n : (i + 1) * n].astype(float) for i in range(len(curvature.moment)))
    return sum(
        float(np.multiply(part @ moment, part).sum())
        for part, moment in zip(parts, curvature.moment, strict=True)
    )
