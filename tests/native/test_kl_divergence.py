"""The KL divergence kernel against numpy in float64, and what it does with odd input."""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from engine._native import compare_logits

Rows = NDArray[np.float32]
Targets = NDArray[np.int32]


class Figures(NamedTuple):
    kld: NDArray[np.float64]
    nll_reference: NDArray[np.float64]
    nll_test: NDArray[np.float64]
    same_top: NDArray[np.bool_]


def outputs(n_rows: int) -> Figures:
    kld, nll_reference, nll_test = np.full((3, n_rows), -7.0)
    return Figures(kld, nll_reference, nll_test, np.zeros(n_rows, np.bool_))


def native(reference: Rows, test: Rows, targets: Targets, n_threads: int = 1) -> Figures:
    figures = outputs(len(targets))
    compare_logits(reference, test, targets, *figures, n_threads)
    return figures


def log_softmax(rows: Rows) -> NDArray[np.float64]:
    shifted = rows.astype(np.float64) - rows.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def expected(reference: Rows, test: Rows, targets: Targets) -> Figures:
    """The definitions, in float64: [n, n_vocab] rows -> [n] figures."""
    log_p, log_q = log_softmax(reference), log_softmax(test)
    # What is less likely than the top token by exp(-87), the range of float, counts as impossible.
    is_possible = reference - reference.max(axis=1, keepdims=True) >= np.float32(-87.0)
    p = np.where(is_possible, np.exp(log_p), 0.0)
    terms = np.zeros_like(p)
    np.subtract(log_p, log_q, out=terms, where=p > 0)
    i = np.arange(len(targets))
    same_top = reference.argmax(axis=1) == test.argmax(axis=1)
    return Figures((p * terms).sum(axis=1), -log_p[i, targets], -log_q[i, targets], same_top)


def assert_close(actual: Figures, wanted: Figures) -> None:
    for a, w in zip(actual[:3], wanted[:3], strict=True):
        # The terms are floats; the figures of a row come out to about 1e-7 nats.
        np.testing.assert_allclose(a, w, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(actual.same_top, wanted.same_top)


def random_rows(n_rows: int, n_vocab: int, noise: float, seed: int = 0) -> tuple[Rows, Rows]:
    rng = np.random.default_rng(seed)
    reference = rng.normal(scale=4.0, size=(n_rows, n_vocab)).astype(np.float32)
    test = reference + rng.normal(scale=noise, size=reference.shape).astype(np.float32)
    return reference, test.astype(np.float32)


@pytest.mark.parametrize("n_vocab", [1, 2, 15, 16, 17, 255, 256, 257, 32_000, 151_936])
@pytest.mark.parametrize("noise", [0.0, 0.01, 1.0, 20.0])
def test_equals_the_definition(n_vocab: int, noise: float) -> None:
    reference, test = random_rows(3, n_vocab, noise)
    targets = np.array([0, n_vocab // 2, n_vocab - 1], np.int32)
    assert_close(native(reference, test, targets), expected(reference, test, targets))


logits = st.one_of(
    st.floats(-60.0, 60.0, width=32),
    st.floats(-1e5, 1e5, width=32),
    st.just(float("-inf")),
)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), n_vocab=st.integers(1, 600), n_rows=st.integers(1, 4))
def test_equals_the_definition_for_any_logits(
    data: st.DataObject, n_vocab: int, n_rows: int
) -> None:
    rows = hnp.arrays(np.float32, (n_rows, n_vocab), elements=logits)
    reference, test = data.draw(rows), data.draw(rows)
    best = data.draw(st.integers(0, n_vocab - 1))
    reference[:, best] = test[:, best] = 1.0  # a row of nothing but -inf is no distribution
    targets = data.draw(
        hnp.arrays(np.int32, n_rows, elements=st.integers(0, n_vocab - 1)), label="targets"
    )
    actual = native(reference, test, targets)
    with np.errstate(invalid="ignore"):
        wanted = expected(reference, test, targets)
    assert_close(actual, wanted)


@given(
    rows=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.integers(1, 400)),
        elements=st.floats(-1e4, 1e4, width=32),
    )
)
@settings(deadline=None)
def test_identical_rows_diverge_by_exactly_nothing(rows: Rows) -> None:
    figures = native(rows, rows.copy(), np.zeros(len(rows), np.int32))
    assert (figures.kld == 0.0).all()
    assert (figures.nll_reference == figures.nll_test).all()
    assert figures.same_top.all()


def test_a_shift_of_all_logits_changes_nothing() -> None:
    reference, test = random_rows(2, 1000, 1.0)
    targets = np.array([3, 999], np.int32)
    shifted = (test + np.float32(64.0)).astype(np.float32)
    np.testing.assert_allclose(
        native(reference, shifted, targets).kld, native(reference, test, targets).kld, rtol=1e-5
    )


def test_huge_logits_do_not_overflow() -> None:
    reference = np.array([[3e38, -3e38, 0.0]], np.float32)
    figures = native(reference, -reference, np.array([0], np.int32))
    assert figures.nll_reference[0] == 0.0
    assert figures.nll_test[0] == pytest.approx(6e38)
    assert figures.kld[0] == np.inf or figures.kld[0] == pytest.approx(6e38)
    assert not figures.same_top[0]


def test_a_token_that_only_the_reference_allows_diverges_without_bound() -> None:
    reference = np.array([[0.0, 0.0]], np.float32)
    test = np.array([[0.0, -np.inf]], np.float32)
    figures = native(reference, test, np.array([1], np.int32))
    assert figures.kld[0] == np.inf
    assert figures.nll_test[0] == np.inf
    assert figures.nll_reference[0] == pytest.approx(np.log(2.0))
    assert native(test, reference, np.array([0], np.int32)).kld[0] == pytest.approx(np.log(2.0))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("position", [0, 300, 599])
@pytest.mark.parametrize("side", ["reference", "test"])
def test_nan_and_infinity_give_nan_in_their_row_only(bad: float, position: int, side: str) -> None:
    reference, test = random_rows(3, 600, 0.5)
    (reference if side == "reference" else test)[1, position] = bad
    figures = native(reference, test, np.array([5, 5, 5], np.int32))
    assert np.isnan(figures.kld).tolist() == [False, True, False]
    assert not figures.same_top[1]
    spoilt, sound = figures.nll_reference, figures.nll_test
    if side == "test":
        spoilt, sound = sound, spoilt
    assert np.isnan(spoilt).tolist() == [False, True, False]
    assert np.isfinite(sound).all()


def test_a_row_of_nothing_but_minus_infinity_gives_nan() -> None:
    nothing = np.full((1, 10), -np.inf, np.float32)
    assert np.isnan(native(nothing, nothing, np.array([0], np.int32)).kld[0])


def test_the_first_of_equal_tops_counts() -> None:
    reference = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]], np.float32)
    test = np.array([[1.0, 0.5, 1.0], [0.0, 0.5, 1.0]], np.float32)
    assert native(reference, test, np.zeros(2, np.int32)).same_top.tolist() == [True, False]


@pytest.mark.parametrize("n_threads", [0, 2, 7, 64])
def test_every_number_of_threads_gives_the_same_figures(n_threads: int) -> None:
    reference, test = random_rows(33, 1000, 1.0)
    targets = np.arange(33, dtype=np.int32)
    one, many = native(reference, test, targets), native(reference, test, targets, n_threads)
    for a, b in zip(one, many, strict=True):
        np.testing.assert_array_equal(a, b)


def test_no_rows_is_no_work() -> None:
    native(np.empty((0, 8), np.float32), np.empty((0, 8), np.float32), np.empty(0, np.int32))


def test_runs_on_two_python_threads_at_once() -> None:
    reference, test = random_rows(16, 5000, 1.0)
    targets = np.zeros(16, np.int32)
    wanted = native(reference, test, targets)
    results: list[Figures] = []
    threads = [
        threading.Thread(target=lambda: results.append(native(reference, test, targets)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all((result.kld == wanted.kld).all() for result in results)


def arguments(**changes: Any) -> dict[str, Any]:
    reference, test = random_rows(4, 10, 1.0)
    figures = outputs(4)
    return {
        "reference": reference,
        "test": test,
        "targets": np.zeros(4, np.int32),
        **figures._asdict(),
        **changes,
    }


def read_only(array: NDArray[np.float64]) -> NDArray[np.float64]:
    array.setflags(write=False)
    return array


@pytest.mark.parametrize(
    "changes",
    [
        {"reference": np.zeros((4, 10))},
        {"test": np.zeros((4, 10), np.float16)},
        {"reference": np.zeros((4, 20), np.float32)[:, ::2]},
        {"test": np.zeros((10, 4), np.float32).T},
        {"reference": np.zeros(40, np.float32)},
        {"targets": np.zeros(4, np.int64)},
        {"kld": np.zeros(4, np.float32)},
        {"kld": np.zeros(8)[::2]},
        {"nll_reference": read_only(np.zeros(4))},
        {"nll_test": [0.0] * 4},
        {"same_top": np.zeros(4)},
        {"kld": None},
        {"n_threads": -1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_refuses_arrays_it_would_have_to_copy(changes: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        compare_logits(**arguments(**changes))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"test": np.zeros((4, 11), np.float32)}, "same shape"),
        ({"test": np.zeros((3, 10), np.float32)}, "same shape"),
        ({"kld": np.zeros(5)}, "one element for each row"),
        ({"targets": np.zeros(3, np.int32)}, "one element for each row"),
        ({"targets": np.array([0, 0, 0, 10], np.int32)}, "n_vocab"),
        ({"targets": np.array([0, -1, 0, 0], np.int32)}, "n_vocab"),
    ],
)
def test_refuses_shapes_that_do_not_match(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        compare_logits(**arguments(**changes))


def test_read_only_logits_are_welcome() -> None:
    reference, test = random_rows(4, 10, 1.0)
    reference.setflags(write=False)
    test.setflags(write=False)
    compare_logits(**arguments(reference=reference, test=test))
