"""The kernels that round: blocks against ggml's decoder, codes against the paper's algorithm."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine import _native
from engine.ggml_types import GgmlType
from engine.llama.ggml import dequantize_rows, quantize_rows
from tests.helpers.scalar_codes import (
    PLANES,
    Bytes,
    Rows,
    choices,
    random_blocks,
    with_code,
    without_codes,
)

TYPES = pytest.mark.parametrize("ggml_type", PLANES, ids=lambda t: t.name)
N_COLS = 512


def second_moment(n: int = N_COLS, n_samples: int = 4 * N_COLS, seed: int = 1) -> Rows:
    """E[x x^T] of columns that go together and differ in size."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(n, n)) * np.exp(rng.normal(size=n))
    x = rng.normal(size=(n_samples, n)) @ np.linalg.cholesky(mixing.T @ mixing / n + np.eye(n)).T
    return (x.T @ x / n_samples).astype(np.float32)


class Factored:
    """A second moment and its factor, columns in falling order of their mean square."""

    def __init__(self, moment: Rows) -> None:
        n = len(moment)
        self.moment = moment
        self.order = np.argsort(-np.diagonal(moment), kind="stable").astype(np.int32)
        self.feedback = np.empty((n, n), np.float32)
        self.pivots = np.empty(n, np.float32)
        assert _native.factor_moment(moment, self.order, self.feedback, self.pivots, 1)

    def round(
        self,
        ggml_type: GgmlType,
        rows: Rows,
        blocks: Bytes,
        *,
        feedback: bool = True,
        sweeps: int = 0,
        refits: int = 0,
        n_threads: int = 1,
        is_checked: bool = True,
    ) -> tuple[Bytes, NDArray[np.float64]]:
        rounded, errors = blocks.copy(), np.full(len(rows), np.nan)
        curvature = (self.moment, self.order, self.feedback, self.pivots)
        steps = (feedback, sweeps, refits, n_threads)
        _native.round_rows(
            ggml_type.name, rows, *curvature, rounded, errors, *steps, is_checked=is_checked
        )
        return rounded, errors


CURVATURE = Factored(second_moment())
ROWS = np.random.default_rng(2).normal(size=(37, N_COLS)).astype(np.float32)


def errors_of(ggml_type: GgmlType, rows: Rows, stored: Bytes, moment: Rows) -> NDArray[np.float64]:
    changes = rows.astype(float) - dequantize_rows(ggml_type, stored)
    found: NDArray[np.float64] = np.einsum("ri,ij,rj->r", changes, moment.astype(float), changes)
    return found


def test_the_factor_is_one() -> None:
    curvature = CURVATURE
    order = curvature.order
    factor = np.triu(curvature.feedback)
    back = (factor * curvature.pivots) @ factor.T
    wanted = curvature.moment[np.ix_(order, order)]
    assert np.allclose(back, wanted, atol=1e-4 * wanted.max())
    assert np.array_equal(np.diagonal(curvature.feedback), np.ones(N_COLS))
    assert np.array_equal(curvature.feedback, curvature.feedback.T)


def test_a_row_is_taken_unchecked_only_if_asked_for() -> None:
    ggml_type = GgmlType.Q4_0
    stock = quantize_rows(ggml_type, ROWS)
    best, errors = CURVATURE.round(ggml_type, ROWS, stock, sweeps=3, refits=3)
    _, checked = CURVATURE.round(ggml_type, ROWS, best)
    assert (checked <= errors * (1 + 1e-6)).all()
    unchecked, told = CURVATURE.round(ggml_type, ROWS, best, is_checked=False)
    assert (told > errors).mean() > 0.5
    found = errors_of(ggml_type, ROWS, unchecked, CURVATURE.moment)
    np.testing.assert_allclose(told, found, rtol=1e-3)


@pytest.mark.parametrize("n", [1, 2, 63, 65, 200])
def test_factors_of_any_size(n: int) -> None:
    curvature = Factored(second_moment(n, 4 * n + 8))
    factor = np.triu(curvature.feedback)
    back = (factor * curvature.pivots) @ factor.T
    wanted = curvature.moment[np.ix_(curvature.order, curvature.order)]
    assert np.allclose(back, wanted, atol=1e-4 * wanted.max())


def test_what_has_no_factor_is_told() -> None:
    order, out, pivots = np.arange(3, dtype=np.int32), np.empty((3, 3), np.float32), ROWS[0, :3]
    for moment in (np.zeros((3, 3)), np.ones((3, 3)), np.full((3, 3), np.nan), -np.eye(3)):
        matrix = moment.astype(np.float32)
        assert not _native.factor_moment(matrix, order, out, pivots.copy(), 1)


@TYPES
@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), code=st.integers(0, 255))
def test_blocks_are_read_and_written_as_ggml_does(
    ggml_type: GgmlType, seed: int, code: int
) -> None:
    """Rows that the scales can hold are found again, to the last bit of every scale and weight."""
    wanted = random_blocks(ggml_type, 3, N_COLS, seed)
    rows = dequantize_rows(ggml_type, wanted)
    plain = Factored(np.eye(N_COLS, dtype=np.float32))
    found, errors = plain.round(ggml_type, rows, with_code(ggml_type, wanted, code))
    assert np.array_equal(dequantize_rows(ggml_type, found), rows)
    assert np.array_equal(without_codes(ggml_type, found), without_codes(ggml_type, wanted))
    assert not errors.any()


@TYPES
def test_codes_are_those_of_the_paper(ggml_type: GgmlType) -> None:
    """GPTQ (arXiv 2210.17323, algorithm 1) by inverting H, at every column of the order."""
    curvature = CURVATURE
    stock = quantize_rows(ggml_type, ROWS, np.diagonal(curvature.moment).copy())
    found, _ = curvature.round(ggml_type, ROWS, stock)
    values = dequantize_rows(ggml_type, found)[:, curvature.order].astype(float)
    targets = ROWS[:, curvature.order].astype(float)
    table = choices(ggml_type, stock)[:, :, curvature.order].astype(float)
    inverse = np.linalg.inv(
        curvature.moment[np.ix_(curvature.order, curvature.order)].astype(float)
    )
    upper = np.linalg.cholesky(inverse).T
    for j in range(N_COLS):
        distance = np.abs(targets[:, j] - values[:, j])
        nearest = np.abs(targets[:, j] - table[:, :, j]).min(axis=0)
        assert (distance <= nearest + 1e-4).all()
        error = (targets[:, j] - values[:, j]) / upper[j, j]
        targets[:, j:] -= np.outer(error, upper[j, j:])


@TYPES
def test_errors_are_told_and_fall(ggml_type: GgmlType) -> None:
    moment = CURVATURE.moment
    stock = quantize_rows(ggml_type, ROWS, np.diagonal(moment).copy())
    before = errors_of(ggml_type, ROWS, stock, moment)
    kept, told = CURVATURE.round(ggml_type, ROWS, stock, feedback=False)
    assert np.array_equal(kept, stock)
    assert np.allclose(told, before, rtol=1e-3)
    total = [before.sum()]
    for sweeps, refits in ((0, 0), (2, 0), (2, 1)):
        found, told = CURVATURE.round(ggml_type, ROWS, stock, sweeps=sweeps, refits=refits)
        errors = errors_of(ggml_type, ROWS, found, moment)
        assert np.allclose(told, errors, rtol=1e-3)
        assert (errors <= before * (1 + 1e-6)).all()
        total.append(errors.sum())
    assert total[0] > total[1] > total[2] > total[3]


@TYPES
def test_sweeps_end_where_no_code_can_be_better(ggml_type: GgmlType) -> None:
    moment = CURVATURE.moment.astype(float)
    stock = quantize_rows(ggml_type, ROWS[:4], np.diagonal(CURVATURE.moment).copy())
    found, _ = CURVATURE.round(ggml_type, ROWS[:4], stock, sweeps=50)
    values = dequantize_rows(ggml_type, found).astype(float)
    gradient = (values - ROWS[:4]) @ moment
    moves = choices(ggml_type, stock) - values
    change = 2 * moves * gradient + moves**2 * np.diagonal(moment)
    assert change.min() >= -1e-4 * errors_of(ggml_type, ROWS[:4], found, CURVATURE.moment).max()


@TYPES
def test_threads_and_neighbours_change_nothing(ggml_type: GgmlType) -> None:
    stock = quantize_rows(ggml_type, ROWS, np.diagonal(CURVATURE.moment).copy())
    whole, errors = CURVATURE.round(ggml_type, ROWS, stock, sweeps=1, refits=1)
    threads, _ = CURVATURE.round(ggml_type, ROWS, stock, sweeps=1, refits=1, n_threads=3)
    assert np.array_equal(whole, threads)
    for first, last in ((0, 5), (5, 36), (36, 37)):
        part, part_errors = CURVATURE.round(
            ggml_type, ROWS[first:last], stock[first:last], sweeps=1, refits=1
        )
        assert np.array_equal(part, whole[first:last])
        assert np.array_equal(part_errors, errors[first:last])


def test_threads_change_no_factor() -> None:
    curvature = CURVATURE
    feedback, pivots = np.empty_like(curvature.feedback), np.empty_like(curvature.pivots)
    assert _native.factor_moment(curvature.moment, curvature.order, feedback, pivots, 3)
    assert np.array_equal(feedback, curvature.feedback)
    assert np.array_equal(pivots, curvature.pivots)


@pytest.mark.parametrize(("n", "n_more"), [(1, 0), (63, 5), (64, 0), (129, 1), (200, 56)])
def test_what_is_right_of_the_diagonal_is_mirrored(n: int, n_more: int) -> None:
    upper = np.random.default_rng(n).normal(size=(n, n + n_more)).astype(np.float32)
    whole = np.empty((n, n), np.float32)
    _native.mirror(upper, whole)
    right = np.triu(upper[:, :n])
    assert np.array_equal(whole, right + np.triu(right, 1).T)


def test_multiply() -> None:
    rng = np.random.default_rng(3)
    left = rng.normal(size=(70, 45)).astype(np.float32)
    right = rng.normal(size=(45, 601)).astype(np.float32)
    out, again = np.empty((70, 601), np.float32), np.empty((70, 601), np.float32)
    _native.multiply(left, right, out, 1)
    _native.multiply(left, right, again, 3)
    assert np.allclose(out, left @ right, atol=1e-4)
    assert np.array_equal(out, again)
    with pytest.raises(ValueError, match="fit each other"):
        _native.multiply(left, right.T.copy(), out, 1)


def test_what_does_not_fit_is_refused() -> None:
    stock = quantize_rows(GgmlType.Q4_K, ROWS, None)
    with pytest.raises(ValueError, match="no scalar type"):
        CURVATURE.round(GgmlType.IQ2_XXS, ROWS, stock)
    with pytest.raises(ValueError, match="those of the rows"):
        CURVATURE.round(GgmlType.Q5_K, ROWS, stock)
    with pytest.raises(ValueError, match="that of the rows"):
        CURVATURE.round(GgmlType.Q4_K, ROWS[:, :256].copy(), stock[:, :144].copy())
    order = np.zeros(N_COLS, np.int32)
    with pytest.raises(ValueError, match="each column once"):
        _native.factor_moment(
            CURVATURE.moment, order, CURVATURE.feedback.copy(), CURVATURE.pivots.copy(), 1
        )
