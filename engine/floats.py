"""Plain float types in bulk: F32, F16 and BF16 to float32 and back, rounded as ggml rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine import _native
from engine.ggml_types import GgmlType


def to_float32(data: bytes | memoryview, stored: GgmlType) -> NDArray[np.float32]:
    """Decode little-endian `data` of a float type, float32 [n].

    F32 is a view of `data`, or a copy where that is not aligned, as in a file it need not be.
    """
    if stored is GgmlType.F32:
        return np.require(np.frombuffer(data, dtype="<f4"), requirements="A")
    decode = {GgmlType.F16: _native.half_to_float, GgmlType.BF16: _native.bf16_to_float}[stored]
    bits = np.require(np.frombuffer(data, dtype="<u2"), requirements="A")
    values = np.empty(bits.shape, np.float32)
    decode(bits, values)
    return values


def from_float32(values: NDArray[np.float32], stored: GgmlType) -> NDArray[Any]:
    """Encode `values` in a float type: round to nearest, ties to even; NaN stays NaN.

    A value beyond F16's 65504 becomes infinite, as in ggml. Same shape; 16-bit floats as their
    bits.
    """
    if stored is GgmlType.F32:
        return values.astype("<f4", copy=False)
    encode = {GgmlType.F16: _native.float_to_half, GgmlType.BF16: _native.float_to_bf16}[stored]
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    bits = np.empty(flat.shape, "<u2")
    encode(flat, bits)
    return bits.reshape(values.shape)


def has_infinity(bits: NDArray[np.uint16]) -> bool:
    """Whether one of the F16 numbers is infinite."""
    return bool(((bits & 0x7FFF) == 0x7C00).any())
