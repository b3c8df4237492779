"""Rounding for the output: never worse than ggml, whatever is known of the inputs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import EngineError, UnsupportedTensor
from engine.ggml_types import GgmlType
from engine.llama.ggml import dequantize_rows, is_valid, quantize_rows
from engine.quantize.rounding import (
    SCALAR_TYPES,
    Curvature,
    held_out_errors,
    keep_better,
    round_rows,
    round_rows_from,
)
from tests.helpers.rounding_error import relative_error

Rows = NDArray[np.float32]

N_COLS = 256
TYPES = pytest.mark.parametrize("ggml_type", sorted(SCALAR_TYPES), ids=lambda t: t.name)
ROWS = np.random.default_rng(0).normal(size=(40, N_COLS)).astype(np.float32)


def inputs(n_samples: int, n_cols: int = N_COLS, seed: int = 1) -> Rows:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(5).normal(size=(n_cols, n_cols)) / np.arange(1, n_cols + 1)
    own = np.exp(np.random.default_rng(6).normal(size=n_cols))
    mixed = rng.normal(size=(n_samples, n_cols)) @ mixing.T
    return ((mixed + 0.2 * rng.normal(size=mixed.shape)) * own).astype(np.float32)


def moment_of(x: Rows) -> Rows:
    return x.T @ x / np.float32(len(x))


FIT, HELD_OUT = inputs(4096), inputs(512, seed=2)
MOMENT = moment_of(FIT)
IMPORTANCE = np.diagonal(MOMENT).copy()
CURVATURE = Curvature.of(MOMENT, len(FIT))


@TYPES
def test_the_output_changes_less_on_inputs_that_were_not_fitted(ggml_type: GgmlType) -> None:
    stock = quantize_rows(ggml_type, ROWS, IMPORTANCE)
    ours = round_rows(ggml_type, ROWS, CURVATURE, IMPORTANCE)
    assert ours.shape == stock.shape
    assert is_valid(ggml_type, ours)
    assert relative_error(ggml_type, ROWS, ours, CURVATURE) < 0.9 * relative_error(
        ggml_type, ROWS, stock, CURVATURE
    )
    error = held_out_errors(ggml_type, ROWS, ours, HELD_OUT)
    assert error.sum() < 0.9 * held_out_errors(ggml_type, ROWS, stock, HELD_OUT).sum()


def test_other_types_are_ggmls() -> None:
    for ggml_type in (GgmlType.IQ2_XXS, GgmlType.F16, GgmlType.BF16, GgmlType.F32):
        ours = round_rows(ggml_type, ROWS, CURVATURE, IMPORTANCE)
        assert np.array_equal(ours, quantize_rows(ggml_type, ROWS, IMPORTANCE))


def test_errors_are_what_they_say() -> None:
    stored = quantize_rows(GgmlType.Q4_K, ROWS, IMPORTANCE)
    changes = ROWS - dequantize_rows(GgmlType.Q4_K, stored)
    wanted = ((changes @ HELD_OUT.T) ** 2).mean(axis=1)
    assert np.allclose(held_out_errors(GgmlType.Q4_K, ROWS, stored, HELD_OUT), wanted, rtol=1e-3)
    moment = CURVATURE.moment[0]
    part = np.trace(changes @ moment @ changes.T) / np.trace(ROWS @ moment @ ROWS.T)
    assert relative_error(GgmlType.Q4_K, ROWS, stored, CURVATURE) == pytest.approx(part, rel=1e-3)
    nothing = np.zeros_like(ROWS)
    stored = quantize_rows(GgmlType.Q4_K, nothing, IMPORTANCE)
    assert relative_error(GgmlType.Q4_K, nothing, stored, CURVATURE) == 0


def test_only_rows_that_are_better_are_kept() -> None:
    stock = quantize_rows(GgmlType.Q4_K, ROWS, IMPORTANCE)
    ours = round_rows(GgmlType.Q4_K, ROWS, CURVATURE, IMPORTANCE)
    mixed = np.where(np.arange(len(ROWS))[:, np.newaxis] < 20, ours, stock)
    other = np.where(np.arange(len(ROWS))[:, np.newaxis] < 20, stock, ours)
    kept = keep_better(GgmlType.Q4_K, ROWS, mixed, other, HELD_OUT)
    best = np.minimum(
        held_out_errors(GgmlType.Q4_K, ROWS, ours, HELD_OUT),
        held_out_errors(GgmlType.Q4_K, ROWS, stock, HELD_OUT),
    )
    assert np.array_equal(held_out_errors(GgmlType.Q4_K, ROWS, kept, HELD_OUT), best)


@pytest.mark.parametrize("damage", ["zeros", "one", "dead", "few", "twins"])
def test_inputs_that_tell_little(damage: str) -> None:
    x = inputs(1000)
    if damage == "zeros":
        x[:] = 0
    elif damage == "one":
        x = np.outer(x[:, 0], np.ones(N_COLS, np.float32))
    elif damage == "dead":
        x[:, 10:200] = 0
    elif damage == "few":
        x = x[:3]
    else:
        x[:, 1::2] = x[:, ::2]
    moment = moment_of(x)
    curvature = Curvature.of(moment, len(x))
    importance = np.diagonal(moment).copy()
    for ggml_type in (GgmlType.Q4_K, GgmlType.IQ4_XS, GgmlType.Q4_0):
        stock = quantize_rows(ggml_type, ROWS, importance)
        ours = round_rows(ggml_type, ROWS, curvature, importance)
        assert is_valid(ggml_type, ours)
        error = relative_error(ggml_type, ROWS, ours, curvature)
        assert error <= relative_error(ggml_type, ROWS, stock, curvature)
        assert error < 0.1


def test_rows_of_nothing_and_of_one_number() -> None:
    for value in (0.0, -0.75, 1e-9, 3e4):
        rows = np.full((2, N_COLS), value, np.float32)
        for ggml_type in SCALAR_TYPES:
            ours = round_rows(ggml_type, rows, CURVATURE, IMPORTANCE)
            assert is_valid(ggml_type, ours)
            stock = quantize_rows(ggml_type, rows, IMPORTANCE)
            assert relative_error(ggml_type, rows, ours, CURVATURE) <= relative_error(
                ggml_type, rows, stock, CURVATURE
            )


def test_columns_in_blocks() -> None:
    """A wide row's blocks are rounded as rows of their own."""
    rows = np.random.default_rng(7).normal(size=(9, 2 * N_COLS)).astype(np.float32)
    importance = np.tile(IMPORTANCE, 2)
    ours = round_rows(
        GgmlType.Q4_K, rows, Curvature.of(np.stack([MOMENT, MOMENT]), len(FIT)), importance
    )
    for half in range(2):
        part = rows[:, half * N_COLS : (half + 1) * N_COLS]
        alone = round_rows(GgmlType.Q4_K, part, CURVATURE, IMPORTANCE)
        n_bytes = alone.shape[1]
        assert np.array_equal(ours[:, half * n_bytes : (half + 1) * n_bytes], alone)


@TYPES
def test_without_inputs_the_weights_change_less(ggml_type: GgmlType) -> None:
    stock = quantize_rows(ggml_type, ROWS)
    flat = Curvature.flat(N_COLS)
    ours = round_rows_from(ggml_type, ROWS, stock, flat, sweeps=1, refits=2)
    assert is_valid(ggml_type, ours)
    change = np.square(ROWS - dequantize_rows(ggml_type, ours)).mean()
    assert change < 0.98 * np.square(ROWS - dequantize_rows(ggml_type, stock)).mean()


def test_bytes_depend_on_nothing_else() -> None:
    once = round_rows(GgmlType.Q3_K, ROWS, CURVATURE, IMPORTANCE)
    curvature = Curvature.of(MOMENT, len(FIT), n_threads=3)
    parts = [
        round_rows(GgmlType.Q3_K, part, curvature, IMPORTANCE, n_threads=2)
        for part in (ROWS[:7], ROWS[7:])
    ]
    assert np.array_equal(once, np.concatenate(parts))


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_what_is_no_number_is_refused(number: float) -> None:
    rows = ROWS.copy()
    rows[3, 5] = number
    with pytest.raises(UnsupportedTensor, match="not a number"):
        round_rows(GgmlType.Q4_K, rows, CURVATURE, IMPORTANCE)
    moment = MOMENT.copy()
    moment[3, 5] = number
    with pytest.raises(EngineError, match="statistics are damaged"):
        Curvature.of(moment, len(FIT))
    moment = MOMENT.copy()
    moment[5, 5] = -1
    with pytest.raises(EngineError, match="statistics are damaged"):
        Curvature.of(moment, len(FIT))


def test_few_inputs_are_believed_less_but_never_ignored() -> None:
    """The more columns there are for each token, the less the columns' company counts."""
    errors = []
    for n_tokens in (N_COLS // 8, N_COLS // 2, 4 * N_COLS):
        few = FIT[:n_tokens]
        moment = moment_of(few)
        importance = np.diagonal(moment).copy()
        curvature = Curvature.of(moment, n_tokens)
        stock = quantize_rows(GgmlType.Q4_K, ROWS, importance)
        ours = round_rows(GgmlType.Q4_K, ROWS, curvature, importance)
        ratio = held_out_errors(GgmlType.Q4_K, ROWS, ours, HELD_OUT).sum()
        errors.append(ratio / held_out_errors(GgmlType.Q4_K, ROWS, stock, HELD_OUT).sum())
    assert errors == sorted(errors, reverse=True) and errors[0] < 0.95 and errors[1] < 0.8
