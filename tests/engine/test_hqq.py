"""HQQ: smaller errors of the weights than rounding to the nearest, in its own norm too."""

from __future__ import annotations

import numpy as np
import pytest

from engine.errors import UnsupportedTensor
from engine.ggml_types import GgmlType
from engine.llama.ggml import dequantize_rows, is_valid, quantize_rows
from engine.quantize.hqq import HQQ_TYPES, quantize_rows_hqq

TYPES = pytest.mark.parametrize("ggml_type", HQQ_TYPES, ids=lambda t: t.name)
ROWS = np.random.default_rng(0).normal(size=(64, 256)).astype(np.float32)


@TYPES
@pytest.mark.parametrize("norm", [0.7, 2])
def test_the_weights_change_less_than_with_the_nearest_codes(
    ggml_type: GgmlType, norm: float
) -> None:
    ours = quantize_rows_hqq(ggml_type, ROWS)
    stock = quantize_rows(ggml_type, ROWS)
    assert ours.shape == stock.shape
    assert is_valid(ggml_type, ours)
    change, of_stock = (np.abs(ROWS - dequantize_rows(ggml_type, b)) for b in (ours, stock))
    assert (change**norm).mean() < 0.985 * (of_stock**norm).mean()


@TYPES
def test_rows_of_any_numbers(ggml_type: GgmlType) -> None:
    for rows in (np.zeros((2, 64)), np.full((2, 64), -0.75), np.eye(64) * 100, -np.eye(64) * 1e-8):
        numbers = rows.astype(np.float32)
        stored = quantize_rows_hqq(ggml_type, numbers)
        assert is_valid(ggml_type, stored)
        change = np.abs(numbers - dequantize_rows(ggml_type, stored)).max()
        assert change <= 0.07 * np.abs(numbers).max() + 1e-8
    assert quantize_rows_hqq(ggml_type, ROWS[:0]).shape == (0, ggml_type.row_bytes(256))
    with pytest.raises(UnsupportedTensor, match="not a number"):
        quantize_rows_hqq(ggml_type, np.full((1, 32), np.inf, np.float32))


def test_bytes_depend_on_nothing_else() -> None:
    once = quantize_rows_hqq(GgmlType.Q4_1, ROWS)
    parts = [quantize_rows_hqq(GgmlType.Q4_1, part, n_threads=2) for part in (ROWS[:7], ROWS[7:])]
    assert np.array_equal(once, np.concatenate(parts))
