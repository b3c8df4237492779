"""Plain float types in bulk: F32, F16 and BF16 to float32 and back, rounded as ggml rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.ggml_types import GgmlType


def to_float32(data: bytes | memoryview, stored: GgmlType) -> NDArray[np.float32]:
    """Decode little-endian `data` of a float type, float32 [n]; F32 is a view of `data`."""
    if stored is GgmlType.F32:
        return np.frombuffer(data, dtype="<f4")
    if stored is GgmlType.F16:
        return np.frombuffer(data, dtype="<f2").astype(np.float32)
    if stored is GgmlType.BF16:
        bits = np.frombuffer(data, dtype="<u2").astype(np.uint32)  # [n]
        bits <<= 16
        return bits.view(np.float32)
    raise ValueError(f"{stored.name} is no plain float type")


def from_float32(values: NDArray[np.float32], stored: GgmlType) -> NDArray[Any]:
    """Encode `values` in a float type: round to nearest, ties to even; NaN stays NaN.

    A value beyond F16's 65504 becomes infinite, as in ggml. Same shape; BF16 as uint16 bits.
    """
    if stored is GgmlType.F32:
        return values.astype("<f4", copy=False)
    if stored is GgmlType.F16:
        with np.errstate(over="ignore", invalid="ignore"):
            return values.astype("<f2")
    if stored is GgmlType.BF16:
        return _bf16_bits(values)
    raise ValueError(f"{stored.name} is no plain float type")


def _bf16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """BF16 bits of `values`, uint16 of the same shape (ggml_compute_fp32_to_bf16)."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits >> 16) & 1
    rounded += 0x7FFF
    rounded += bits
    rounded >>= 16
    is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
    if is_nan.any():
        rounded[is_nan] = (bits[is_nan] >> 16) | 64  # a quiet NaN: rounding could make it infinite
    return rounded.astype("<u2")
