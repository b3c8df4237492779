"""Sums of outer products against numpy; the same for any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine._native import add_outer_products, sum_squares


def add(rows: Any, sums: Any, n_threads: int = 0) -> None:
    add_outer_products(rows, np.ones(len(rows), np.float32), sums, None, n_threads)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 300), st.integers(1, 150), st.data(), st.integers(0, 2**32 - 1))
def test_blocks_are_those_of_numpy(n_rows: int, n_cols: int, data: Any, seed: int) -> None:
    n_block = data.draw(st.integers(1, n_cols))
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n_rows, n_cols)).astype(np.float32)
    sums = rng.normal(size=(n_cols, n_block)).astype(np.float32)
    before = sums.astype(np.float64)
    counts = rng.choice([0.0, 0.25, 1.0], n_rows).astype(np.float32)
    totals = rng.normal(size=n_cols)
    expected_totals = totals + rows[counts > 0].astype(np.float64).sum(axis=0)
    add_outer_products(rows, counts, sums, totals)
    np.testing.assert_allclose(totals, expected_totals, rtol=1e-9, atol=1e-9)
    exact = (rows * counts[:, np.newaxis]).astype(np.float64)
    for first in range(0, n_cols, n_block):
        columns = slice(first, min(first + n_block, n_cols))
        n = columns.stop - first
        expected = np.triu(before[columns, :n] + exact[:, columns].T @ exact[:, columns])
        np.testing.assert_allclose(np.triu(sums[columns, :n]), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("n_block", [1000, 256])
def test_any_number_of_threads_gives_the_same_sums(n_block: int) -> None:
    rows = np.random.default_rng(0).normal(size=(500, 1000)).astype(np.float32)
    found = []
    for n_threads in (1, 2, 3, 7):
        sums = np.zeros((1000, n_block), np.float32)
        add(rows, sums, n_threads)
        found.append(sums)
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_squares_are_those_of_numpy_for_any_number_of_threads() -> None:
    rows = np.random.default_rng(1).normal(size=(5000, 133)).astype(np.float32)
    found = np.zeros((4, len(rows)))
    for sums, n_threads in zip(found, (1, 2, 3, 7), strict=True):
        sum_squares(rows, sums, n_threads)
    np.testing.assert_allclose(found[0], np.square(rows, dtype=np.float64).sum(axis=1))
    assert all(np.array_equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 132])
def test_squares_are_finite_where_the_numbers_are(number: float, column: int) -> None:
    rows = np.full((3, 133), 3e38, np.float32)
    rows[1, column] = number
    sums = np.zeros(3)
    sum_squares(rows, sums)
    assert np.isfinite(sums).tolist() == [True, False, True]


def test_what_is_not_a_number_reaches_only_its_own_column() -> None:
    rows = np.ones((4, 40), np.float32)
    rows[2, 7] = np.nan
    sums = np.zeros((40, 40), np.float32)
    add(rows, sums)
    upper = np.triu(sums)
    assert np.isnan(upper[7, 7:]).all() and np.isnan(upper[:8, 7]).all()
    others = np.delete(np.delete(upper, 7, 0), 7, 1)
    assert np.array_equal(others, np.triu(np.full((39, 39), 4)))


@pytest.mark.parametrize("shape", [(7, 7), (8, 9), (8, 0), (9, 8)])
def test_sums_that_do_not_fit_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="sums must be"):
        add(np.zeros((3, 8), np.float32), np.zeros(shape, np.float32))


@pytest.mark.parametrize(("n_counts", "n_totals"), [(2, 8), (3, 7)])
def test_counts_and_totals_that_do_not_fit_are_refused(n_counts: int, n_totals: int) -> None:
    rows, sums = np.zeros((3, 8), np.float32), np.zeros((8, 8), np.float32)
    with pytest.raises(ValueError, match="counts must be"):
        add_outer_products(rows, np.zeros(n_counts, np.float32), sums, np.zeros(n_totals))
    with pytest.raises(ValueError, match="sums must be"):
        sum_squares(rows, np.zeros(2))


def test_arrays_are_never_copied() -> None:
    rows, sums = np.zeros((3, 8), np.float32), np.zeros((8, 8), np.float32)
    with pytest.raises(TypeError):
        add(rows, sums.astype(np.float64))
    with pytest.raises(TypeError):
        add(rows.T, sums[:3, :3])
