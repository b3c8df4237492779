"""Half-quadratic quantization (HQQ): scales from the weights alone, when nothing was calibrated.

Badri and Shaji, "Half-Quadratic Quantization of Large Machine Learning Models" (2023). The error is
measured in the p-norm, p < 1, which lets a few large weights be far off for the many small ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.ggml_types import GgmlType
from engine.gguf_values import TensorInfo
from engine.llama.ggml import quantize_rows
from engine.quantize.rounding import Curvature, round_rows_from

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# type -> (codes, whether a minimum is stored)
HQQ_TYPES = {
    GgmlType.Q4_0: (16, False),
    GgmlType.Q4_1: (16, True),
    GgmlType.Q5_0: (32, False),
    GgmlType.Q5_1: (32, True),
}

_NORM = 0.7
_N_ITERATIONS = 20
_BETA = 10.0  # of errors as parts of a step
_BETA_GROWTH = 1.01


def quantize_rows_hqq(
    ggml_type: GgmlType, rows: NDArray[np.float32], n_threads: int = 1
) -> NDArray[np.uint8]:
    """Quantize rows to a type of HQQ_TYPES: float32 [n_rows, n_cols] -> bytes.

    Raises UnsupportedTensor as quantize_rows.
    """
    import numpy as np

    stock = quantize_rows(ggml_type, rows)
    n_codes, has_minimum = HQQ_TYPES[ggml_type]
    size = ggml_type.block_size
    weights = np.ascontiguousarray(rows, dtype=np.float32).reshape(-1, size)
    scale, zero = _fit(weights, n_codes, has_minimum)
    blocks = np.zeros((len(weights), ggml_type.block_bytes), np.uint8)
    blocks[:, :2] = scale.astype(np.float16).view(np.uint8)
    if has_minimum:
        blocks[:, 2:4] = (-zero * scale).astype(np.float16).view(np.uint8)
    flat = Curvature.flat(size)
    rounded = round_rows_from(ggml_type, weights, blocks, flat, n_threads)
    return rounded.reshape(stock.shape)


def encode_hqq(
    _tensor: TensorInfo, target: GgmlType, rows: NDArray[np.float32], _start: int
) -> NDArray[np.uint8]:
    """Quantize rows as `write_model` asks: by HQQ where the type is one of it, else as ggml."""
    if target in HQQ_TYPES:
        return quantize_rows_hqq(target, rows)
    return quantize_rows(target, rows)


def _fit(
    weights: NDArray[np.float32], n_codes: int, has_minimum: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return scale and zero point of each block [n, size] -> [n, 1]: w = (code - zero) * scale."""
    import numpy as np

    low, high = weights.min(axis=1, keepdims=True), weights.max(axis=1, keepdims=True)
    if has_minimum:
        scale = (high - low) / np.float32(n_codes - 1)
    else:
        scale = np.where(high > -low, high, low) / np.float32(-n_codes // 2)
    scale = np.where(scale == 0, np.float32(1), scale)
    zero = -low / scale if has_minimum else np.full_like(scale, n_codes // 2)
    beta = np.float32(_BETA)
    for _ in range(_N_ITERATIONS):
        steps = weights / scale
        codes = np.clip(np.rint(steps + zero), 0, n_codes - 1)
        off = steps - (codes - zero)
        size = np.abs(off)
        with np.errstate(divide="ignore"):
            shrunk = np.maximum(size - size ** np.float32(_NORM - 1) / beta, 0)
        wanted = steps - np.copysign(shrunk, off)
        if has_minimum:
            zero = (codes - wanted).mean(axis=1, keepdims=True)
        else:
            centred = codes - zero
            energy = (centred * centred).sum(axis=1, keepdims=True)
            part = (centred * wanted).sum(axis=1, keepdims=True) / np.maximum(energy, 1)
            scale = np.where(part > 0, scale * part, scale)
        beta *= np.float32(_BETA_GROWTH)
    return scale.astype(np.float32), zero.astype(np.float32)
