"""Every 16-bit float becomes a float32 and comes back, and numbers round as they should."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine._native import bf16_to_float, float_to_bf16, float_to_half, half_to_float

ALL = np.arange(1 << 16, dtype=np.uint16)


def halves(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    bits = np.empty(values.shape, np.uint16)
    float_to_half(values, bits)
    return bits


@pytest.mark.parametrize("n", [7, 1 << 16])
def test_every_half_is_that_of_numpy(n: int) -> None:
    """Also a few at a time, which are too few for the wide instructions."""
    for start in range(0, 1 << 16, n):
        bits = ALL[start : start + n]
        values = np.empty(bits.shape, np.float32)
        half_to_float(bits, values)
        expected = bits.view(np.float16).astype(np.float32)
        is_nan = np.isnan(expected)
        assert np.array_equal(values.view(np.uint32)[~is_nan], expected.view(np.uint32)[~is_nan])
        assert np.isnan(values[is_nan]).all()


@pytest.mark.parametrize("n", [4, 1 << 18])
def test_numbers_round_as_numpy_rounds_them(n: int) -> None:
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 1 << 32, (64 if n == 4 else 1, n), np.uint32)
    ties = (ALL.astype(np.uint32) << 13) + 0x38000000 + 0x1000  # between two F16 numbers
    for row in [*bits, ties, ties + 1, ties - 1]:
        values = row.view(np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            expected = values.astype(np.float16).view(np.uint16)
        is_number = ~np.isnan(values)
        assert np.array_equal(halves(values)[is_number], expected[is_number])
        assert np.isnan(halves(values).view(np.float16)[~is_number]).all()


def test_every_bf16_comes_back() -> None:
    values = np.empty(ALL.shape, np.float32)
    bf16_to_float(ALL, values)
    assert np.array_equal(values.view(np.uint32), ALL.astype(np.uint32) << 16)
    again = np.empty_like(ALL)
    float_to_bf16(values, again)
    is_nan = np.isnan(values)
    assert np.array_equal(again[~is_nan], ALL[~is_nan])
    assert np.array_equal(again[is_nan], ALL[is_nan] | 64)


def test_numbers_at_an_odd_address_are_refused() -> None:
    bits = np.zeros(9, np.uint8)[1:].view(np.uint16)
    with pytest.raises(ValueError, match="must be aligned"):
        half_to_float(bits, np.empty(4, np.float32))
    with pytest.raises(ValueError, match="must be aligned"):
        float_to_half(np.zeros(18, np.uint8)[2:].view(np.float32), np.empty(4, np.uint16))


def test_what_does_not_fit_is_refused() -> None:
    two, three = np.zeros(2, np.float32), np.zeros(3, np.uint16)
    with pytest.raises(ValueError, match="same length"):
        float_to_half(two, three)
    with pytest.raises(TypeError):
        float_to_half(two, np.zeros(2, np.float32))
    with pytest.raises(TypeError):
        float_to_half(two, np.zeros(4, np.uint16)[::2])
