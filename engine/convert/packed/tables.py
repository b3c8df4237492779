"""What a code of each number format stands for, as tables of float32 that codes index, [256]."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float32]


def _minifloat(n_exponent: int, n_mantissa: int) -> Table:
    """Sign, exponent, mantissa, with the bias of IEEE 754 and subnormals; no infinity, no NaN."""
    codes = np.arange(1 << (1 + n_exponent + n_mantissa))
    exponent = codes >> n_mantissa & ((1 << n_exponent) - 1)
    mantissa = (codes & ((1 << n_mantissa) - 1)) / (1 << n_mantissa)
    bias = (1 << (n_exponent - 1)) - 1
    is_normal = exponent > 0
    values = (mantissa + is_normal) * 2.0 ** (np.maximum(exponent, 1) - bias)
    values[codes >> (n_exponent + n_mantissa) == 1] *= -1
    return _padded(values)


def _padded(values: NDArray[np.float64]) -> Table:
    table = np.zeros(256, np.float32)
    table[: len(values)] = values
    return table


def _e4m3() -> Table:
    """No infinities; all bits set is NaN. Source: Micikevicius et al., FP8 Formats, 2022."""
    table = _minifloat(4, 3)
    table[[0x7F, 0xFF]] = np.nan
    return table


def _e5m2() -> Table:
    """Infinities and NaN as in IEEE 754."""
    table = _minifloat(5, 2)
    table[[0x7C, 0xFC]] = np.inf, -np.inf
    table[[0x7D, 0x7E, 0x7F, 0xFD, 0xFE, 0xFF]] = np.nan
    return table


def _e8m0() -> Table:
    """Powers of two, 2^(code - 127); 255 is NaN. Source: OCP Microscaling Formats 1.0."""
    with np.errstate(over="ignore"):
        table = (2.0 ** (np.arange(256) - 127.0)).astype(np.float32)
    table[255] = np.nan
    return table


UNSIGNED: Table = np.arange(256, dtype=np.float32)
INT8: Table = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float32)
E2M1: Table = _minifloat(2, 1)
E4M3: Table = _e4m3()
E5M2: Table = _e5m2()
E8M0: Table = _e8m0()
FP8: dict[str, Table] = {"F8_E4M3": E4M3, "F8_E5M2": E5M2}
