"""Weights that lie on a lattice are found and moved exactly; others are not, however near."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine import _native
from engine.checkpoint import Checkpoint
from engine.convert.lattice import CHUNK_WEIGHTS, LATTICES, candidates, find_lattices, fit_rows
from engine.convert.packed import weights_of
from engine.convert.weights import Weight
from engine.errors import CorruptFile
from engine.floats import from_float32, to_float32
from engine.ggml_types import GgmlType
from engine.llama.ggml import dequantize_rows, is_valid, quantize_rows

Floats = NDArray[np.float32]
FLOATS = (GgmlType.F32, GgmlType.F16, GgmlType.BF16)


class Plain:
    """A weight that is stored in a float type; a `Weight`."""

    name = "w"
    factors = ()

    def __init__(self, values: Floats, stored: GgmlType) -> None:
        self.read: list[range] = []
        self.shape, self.type = values.shape, stored
        self.stored = from_float32(np.ascontiguousarray(values, np.float32).reshape(-1), stored)

    def rows(self, start: int, stop: int) -> Floats:
        self.read.append(range(start, stop))
        n_cols = self.shape[-1]
        part = self.stored[start * n_cols : stop * n_cols]
        return to_float32(part.tobytes(), self.type).reshape(stop - start, n_cols)

    def raw(self, start: int, stop: int) -> NDArray[np.uint8]:
        n_cols = self.shape[-1]
        part = self.stored[start * n_cols : stop * n_cols]
        return part.view(np.uint8).reshape(stop - start, -1)


def found(weight: Weight, n_threads: int = 0) -> Weight:
    steps = find_lattices({"w": weight}, lambda: None, n_threads)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            weights: dict[str, Weight] = stop.value
            return weights["w"]


def assert_moved(weight: Weight, wanted: GgmlType) -> None:
    """Found on the lattice `wanted`, whose values are those that are stored."""
    moved = found(weight)
    n_rows = int(np.prod(weight.shape[:-1]))
    assert moved.type is wanted
    raw = moved.raw(0, n_rows)
    assert is_valid(wanted, raw)
    # Rounded as they were stored they are the same numbers, to the last bit.
    values = from_float32(dequantize_rows(wanted, raw), weight.type)
    values = to_float32(values.tobytes(), weight.type).reshape(n_rows, -1)
    assert np.array_equal(values, weight.rows(0, n_rows))
    assert np.array_equal(moved.rows(0, n_rows), weight.rows(0, n_rows))
    if n_rows > 1:
        halves = [moved.raw(0, n_rows // 2), moved.raw(n_rows // 2, n_rows)]
        assert np.array_equal(np.concatenate(halves), raw)


def normal(n_rows: int, n_cols: int, seed: int = 0) -> Floats:
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((n_rows, n_cols)) * 0.02).astype(np.float32)


@pytest.mark.parametrize("stored", FLOATS)
@pytest.mark.parametrize("lattice", LATTICES)
def test_what_ggml_dequantized_is_found(lattice: GgmlType, stored: GgmlType) -> None:
    rows = normal(24, 256)
    rows[3, 32:64] = 0
    values = dequantize_rows(lattice, quantize_rows(lattice, rows))
    assert_moved(Plain(values, stored), lattice)


def gptq_values(n_bits: int, *, is_symmetric: bool, group: int = 128, seed: int = 0) -> Floats:
    """s * (q - z) as GPTQ and AWQ have it, in float32."""
    rng = np.random.default_rng(seed)
    n_rows, n_cols, top = 16, 256, 2**n_bits - 1
    scales = rng.uniform(0.001, 0.01, (n_rows, n_cols // group)).astype(np.float16)
    zeros = np.full(scales.shape, (top + 1) // 2)
    if not is_symmetric:
        zeros = rng.integers(1, top, scales.shape)
    codes = rng.binomial(top, 0.5, (n_rows, n_cols))
    steps = codes - zeros.repeat(group, 1)
    values: Floats = (steps * scales.repeat(group, 1)).astype(np.float32)
    return values


@pytest.mark.parametrize("stored", FLOATS)
def test_what_gptq_and_awq_dequantized_is_found(stored: GgmlType) -> None:
    assert_moved(Plain(gptq_values(4, is_symmetric=True), stored), GgmlType.Q4_0)
    assert_moved(Plain(gptq_values(3, is_symmetric=True), stored), GgmlType.Q4_0)
    assert_moved(Plain(gptq_values(8, is_symmetric=True), stored), GgmlType.Q8_0)
    # The minimum of Q4_1 is rounded to a half, so that it is seldom exact; Q5_0 always is.
    assert_moved(Plain(gptq_values(4, is_symmetric=False), stored), GgmlType.Q5_0)


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(FLOATS),
    st.sampled_from([(GgmlType.Q4_0, -8, 7), (GgmlType.Q5_0, -16, 15), (GgmlType.Q8_0, -128, 127)]),
    st.integers(1, 128),
    st.floats(2.0**-14, 300),
    st.integers(0, 2**32 - 1),
)
def test_any_block_of_a_lattice_is_held(
    stored: GgmlType, kind: tuple[GgmlType, int, int], n_codes: int, scale: float, seed: int
) -> None:
    """Also where only a few codes are used, and the scale is not the one that they suggest."""
    lattice, lowest, highest = kind
    rng = np.random.default_rng(seed)
    highest = min(highest, n_codes)
    lowest = max(lowest, -n_codes)
    codes = rng.integers(lowest, highest + 1, (2, 64)).astype(np.float32)
    sign = np.float32(rng.choice([-1, 1]))
    values = codes * sign * np.float32(np.float16(scale))
    if np.abs(values).max() > 60000:
        return
    if sign < 0 and (codes == lowest).any() and lowest == -highest - 1:
        values = -values
    weight = Plain(values, stored)
    blocks, n_found = fit_rows(weight.rows(0, 2), stored, lattice)
    assert n_found == 2
    moved = from_float32(dequantize_rows(lattice, blocks), stored)
    assert np.array_equal(to_float32(moved.tobytes(), stored).reshape(2, -1), weight.rows(0, 2))


@settings(deadline=None)
@given(st.sampled_from(FLOATS), st.integers(0, 2**32 - 1))
def test_a_block_of_few_numbers_is_held_as_an_asymmetric_one(stored: GgmlType, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scale, minimum = (np.float32(np.float16(x)) for x in rng.uniform([0.01, -1], [0.1, 1]))
    n_codes = int(rng.integers(1, 17))
    codes = rng.integers(0, n_codes, (1, 64)).astype(np.float32)
    codes[:, ::32] = 0  # the lowest code is taken for the minimum
    weight = Plain(codes * scale + minimum, stored)
    blocks, n_found = fit_rows(weight.rows(0, 1), stored, GgmlType.Q4_1)
    assert n_found == 1
    moved = from_float32(dequantize_rows(GgmlType.Q4_1, blocks), stored)
    assert np.array_equal(to_float32(moved.tobytes(), stored).reshape(1, -1), weight.rows(0, 1))


@pytest.mark.parametrize("stored", FLOATS)
def test_one_weight_off_is_enough(stored: GgmlType) -> None:
    values = gptq_values(4, is_symmetric=True)
    assert found(Plain(values, stored)).type is GgmlType.Q4_0
    bits = from_float32(values.reshape(-1), stored).copy()
    middle = 11 * 256 + 77  # in a row that is not among the samples
    bits.view(np.uint32 if stored is GgmlType.F32 else np.uint16)[middle] ^= 1
    nudged = to_float32(bits.tobytes(), stored).reshape(values.shape)
    weight = Plain(nudged, stored)
    assert GgmlType.Q4_0 in candidates(weight)
    # Of 16 bits half a step may be a code of Q8_0; a nudge of the last bit is none of Q4_0's.
    assert found(weight).type is not GgmlType.Q4_0
    n_found = fit_rows(weight.rows(0, 16), stored, GgmlType.Q4_0)[1]
    assert n_found == 11


@pytest.mark.parametrize("stored", FLOATS)
def test_ordinary_weights_are_on_none(stored: GgmlType) -> None:
    weight = Plain(normal(64, 512), stored)
    assert candidates(weight) == []
    assert found(weight).type is stored


@pytest.mark.parametrize("model", ["measure-7m", "TinyStories-656K", "stories260K-hf"])
def test_trained_weights_are_on_none(shared: Path, model: str) -> None:
    checkpoint = Checkpoint.open(shared / "models" / model)
    weights = weights_of(checkpoint)
    assert set(find_lattices(weights, lambda: None)) == {0}  # nothing is read but the samples
    assert all(candidates(weight) == [] for weight in weights.values())


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_on_none(number: float) -> None:
    values = gptq_values(4, is_symmetric=True)
    for place in (0, 31, 200):
        broken = values.copy()
        broken[0, place] = number
        assert candidates(Plain(broken, GgmlType.F32)) == []
    all_broken = np.full((2, 64), number, np.float32)
    assert candidates(Plain(all_broken, GgmlType.F32)) == []


def test_tiny_and_huge_numbers() -> None:
    """Powers of two that no half can hold, but an exponent of MXFP4 can."""
    for power in (-120, -30, 100):
        values = np.ldexp(np.tile([0, 0.5, -1, 1.5, 2, -3, 4, 6], 8), power)[None]
        assert candidates(Plain(values, GgmlType.F32)) == [GgmlType.MXFP4]
    # A number beside which the other ones are as good as nothing.
    values = np.tile(np.array([2.0**100, 2.0**-140], np.float32), 16)[None]
    assert candidates(Plain(values, GgmlType.F32)) == []


def test_vectors_quantized_ones_and_odd_rows_are_left_alone() -> None:
    assert candidates(Plain(np.zeros(64, np.float32), GgmlType.F32)) == []
    assert candidates(Plain(np.zeros((4, 48), np.float32), GgmlType.F32)) == []


def test_progress_is_told_in_bytes() -> None:
    weight = Plain(gptq_values(4, is_symmetric=True), GgmlType.BF16)
    whole = 16 * 512
    told = list(find_lattices({"a": weight, "b": weight}, lambda: None))
    assert told == [whole, whole, 2 * whole, 2 * whole]


def many_rows(odd_row: int, codes: tuple[int, int] = (0, 0)) -> Plain:
    """Six chunks on Q4_0, but for the first two weights of one row that is no sample."""
    values = gptq_values(4, is_symmetric=True)
    values = np.tile(values, (6 * CHUNK_WEIGHTS // values.size, 1))
    step = values[odd_row, :128][values[odd_row, :128] > 0].min()  # a scale, or a few of them
    values[odd_row, :32] = 0
    values[odd_row, :2] = step * np.array(codes, np.float32)
    return Plain(values, GgmlType.F32)


@pytest.mark.parametrize(
    ("codes", "wanted", "n_reads"),
    [((0, 0), GgmlType.Q4_0, 1), ((15, 1), GgmlType.Q5_0, 2), ((127, 1), GgmlType.Q8_0, 2)],
)
@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_a_matrix_is_read_once_or_twice_whichever_lattices_it_may_be_on(
    n_threads: int, codes: tuple[int, int], wanted: GgmlType, n_reads: int
) -> None:
    weight = many_rows(-5, codes)
    assert {GgmlType.Q4_0, GgmlType.Q8_0} <= set(candidates(weight))
    weight.read.clear()
    moved = found(weight, n_threads)
    assert moved.type is wanted
    read = Counter(row for span in weight.read if len(span) > 1 for row in span)
    n_rows, last = weight.shape[0], CHUNK_WEIGHTS // weight.shape[1]
    assert sorted(read) == list(range(n_rows))
    assert {read[row] for row in range(n_rows - last)} == {n_reads}
    assert np.array_equal(moved.rows(0, 99), weight.rows(0, 99))


@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_first_rows_that_are_on_none_end_the_search(n_threads: int) -> None:
    weight = many_rows(5, (1000, 1))
    assert candidates(weight)
    weight.read.clear()
    assert found(weight, n_threads).type is GgmlType.F32
    assert sum(len(span) > 1 for span in weight.read) <= 2 * n_threads + 1


def test_the_first_row_of_an_ordinary_matrix_is_all_that_is_read() -> None:
    weight = Plain(normal(64, 512), GgmlType.BF16)
    assert candidates(weight) == []
    assert weight.read == [range(1)]


def test_a_tensor_that_changes_meanwhile_is_told() -> None:
    weight = Plain(gptq_values(4, is_symmetric=True), GgmlType.BF16)
    moved = found(weight)
    weight.stored[300] ^= 1
    with pytest.raises(CorruptFile, match="changed while it was read"):
        moved.raw(0, 16)


def test_the_kernel_checks_its_arguments() -> None:
    rows, blocks = np.zeros((2, 64), np.float32), np.zeros((2, 36), np.uint8)
    assert _native.fit_lattice(rows, "F32", "Q4_0", blocks) == 2
    for wrong in (
        (rows, "F64", "Q4_0", blocks),
        (rows, "F32", "Q6_K", blocks),
        (rows, "F32", "Q8_0", blocks),
        (rows[:1], "F32", "Q4_0", blocks),
        (np.zeros((2, 48), np.float32), "F32", "Q4_0", blocks),
    ):
        with pytest.raises(ValueError, match=r"."):
            _native.fit_lattice(*wrong)
    with pytest.raises(TypeError):
        _native.fit_lattice(rows.astype(np.float64), "F32", "Q4_0", blocks)
    assert _native.fit_lattice(rows[:0], "F32", "Q4_0", blocks[:0]) == 0
