"""The rounding of many rows at a time next to ggml's own of one after the other: the same bytes."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from engine import _native
from engine.ggml_types import GgmlType
from engine.llama.ggml import quantize_chunk
from engine.quantize.rounding import SCALAR_TYPES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.float32]

N_ROWS, N_COLS = 37, 512  # two whole sets of rows and a part of one
SEARCHED = sorted(SCALAR_TYPES - {GgmlType.Q8_0})
NESTED = [GgmlType[name] for name in ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K")]
pytestmark = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"),
    reason="ggml multiplies and adds in one step on this kind of processor",
)

WEIGHTS: dict[str, Callable[[np.random.Generator, Numbers], Numbers]] = {
    "normal": lambda _, x: x,
    "with outliers": lambda rng, x: x * np.exp(2 * rng.standard_normal(x.shape)),
    "groups of many sizes": lambda rng, x: x * np.exp(6 * _once(rng, x, 16)),
    "rows of many sizes": lambda rng, x: x * 10.0 ** rng.integers(-30, 5, (len(x), 1)),
    "few that are not zero": lambda rng, x: x * (rng.random(x.shape) < 0.05),
    "positive": lambda _, x: np.abs(x) + 1,
    "negative": lambda _, x: -np.abs(x) - 1,
    "nearly the same": lambda _, x: 1 + 1e-6 * x,
    "the same": lambda _, x: np.full_like(x, 0.3),
    "whole numbers": lambda _, x: np.rint(3 * x),
    "zero": lambda _, x: np.zeros_like(x),
}
IMPORTANCES: dict[str, Callable[[np.random.Generator], NDArray[np.float64]]] = {
    "usual": lambda rng: rng.chisquare(1, N_COLS),
    "wild": lambda rng: np.exp(10 * rng.standard_normal(N_COLS)),
    "mostly zero": lambda rng: rng.chisquare(1, N_COLS) * (rng.random(N_COLS) < 0.3),
    "zero": lambda _: np.zeros(N_COLS),
}


def _once(rng: np.random.Generator, x: Numbers, n: int) -> NDArray[np.float64]:
    """A normal number for each `n` columns."""
    return rng.standard_normal((len(x), x.shape[1] // n)).repeat(n, axis=1)


def ggmls(ggml_type: GgmlType, rows: Numbers, importance: Numbers | None) -> NDArray[np.uint8]:
    stored = np.empty((len(rows), ggml_type.row_bytes(rows.shape[1])), np.uint8)
    quantize_chunk(ggml_type, rows, importance, stored)
    return stored


@pytest.mark.parametrize("ggml_type", SEARCHED, ids=lambda t: t.name)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_bytes_are_ggmls(ggml_type: GgmlType, weights: str) -> None:
    rng = np.random.default_rng(len(weights))
    for importance_of in IMPORTANCES.values():
        normal = rng.standard_normal((N_ROWS, N_COLS), np.float32)
        rows = np.ascontiguousarray(WEIGHTS[weights](rng, normal), np.float32)
        importance = importance_of(rng).astype(np.float32)
        stored = np.zeros((N_ROWS, ggml_type.row_bytes(N_COLS)), np.uint8)
        assert _native.round_as_ggml(ggml_type.name, rows, importance, stored)
        assert np.array_equal(stored, ggmls(ggml_type, rows, importance))


@pytest.mark.parametrize("ggml_type", NESTED, ids=lambda t: t.name)
@pytest.mark.parametrize("weights", WEIGHTS)
def test_so_they_are_without_an_importance_matrix(ggml_type: GgmlType, weights: str) -> None:
    rng = np.random.default_rng(len(weights))
    normal = rng.standard_normal((10 * N_ROWS, N_COLS), np.float32)
    rows = np.ascontiguousarray(WEIGHTS[weights](rng, normal), np.float32)
    stored = np.zeros((len(rows), ggml_type.row_bytes(N_COLS)), np.uint8)
    assert _native.round_as_ggml(ggml_type.name, rows, None, stored)
    assert np.array_equal(stored, ggmls(ggml_type, rows, None))


def test_a_type_that_is_not_searched_is_left_to_ggml() -> None:
    rows, importance = np.ones((1, 256), np.float32), np.ones(256, np.float32)
    for name, known in (
        ("Q8_0", importance),
        ("IQ2_XS", importance),
        ("F16", None),
        ("Q4_0", None),
    ):
        row_bytes = GgmlType[name].row_bytes(256)
        stored = np.zeros((1, row_bytes), np.uint8)
        assert not _native.round_as_ggml(name, rows, known, stored)
        assert not stored.any()


def test_what_does_not_fit_is_refused() -> None:
    rows, stored = np.ones((2, 256), np.float32), np.zeros((2, 144), np.uint8)
    for importance, blocks in (
        (np.ones(255, np.float32), stored),
        (np.ones(256, np.float32), stored[:1]),
        (np.ones(256, np.float32), np.zeros((2, 145), np.uint8)),
    ):
        with pytest.raises(ValueError, match="must be those of the rows"):
            _native.round_as_ggml("Q4_K", rows, importance, blocks)
