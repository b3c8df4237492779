"""What an encoder counts: the rows that it did not leave to ggml."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from random import Random
from typing import Any

import numpy as np
import pytest

from engine.ggml_types import GgmlType
from engine.gguf_values import TensorInfo
from engine.llama import ggml
from engine.quantize.encode import Care, Encoder
from engine.quantize.making import share_words
from engine.quantize.rounding import held_out_errors
from engine.workers import in_order
from tests.helpers.input_statistics import Inputs

TENSOR = TensorInfo("experts", (96, 20, 2), GgmlType.F32)  # two matrices
CHUNKS = ((0, 15), (15, 30), (30, 40))


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(40, 96)).astype(np.float32)


@pytest.fixture
def inputs() -> Inputs:
    random = np.random.default_rng(2)
    mixed = random.normal(size=(2, 60, 12)) @ random.normal(size=(2, 12, 96))
    return Inputs({"experts": (mixed + 0.5 * random.normal(size=mixed.shape)).astype(np.float32)})


def test_rows_that_are_not_as_ggml_has_them_are_counted_once(
    rows: np.ndarray, inputs: Inputs
) -> None:
    encoder = Encoder(inputs, Care())
    stored = []
    for first, last in CHUNKS:
        assert encoder.share_of_ours(TENSOR) is None  # not all have come
        stored.append(encoder.encode(TENSOR, GgmlType.Q4_0, rows[first:last], first))
    encoder.encode(TENSOR, GgmlType.Q4_0, rows[:15], 0)  # as a writer does that looks again
    stock = encoder.stock(TENSOR, GgmlType.Q4_0, rows, 0)
    differs = (np.concatenate(stored) != stock).any(axis=1)
    assert 0 < differs.mean() < 1
    assert encoder.share_of_ours(TENSOR) == differs.mean()


def test_without_feedback_none_is_ours(rows: np.ndarray, inputs: Inputs) -> None:
    for statistics, care in ((inputs, Care(feedback=False)), (None, Care())):
        encoder = Encoder(statistics, care)
        encoder.encode(TENSOR, GgmlType.Q4_0, rows, 0)
        assert encoder.share_of_ours(TENSOR) == 0


class Watched(Inputs):
    """Notes of which tensors the second moments are asked for."""

    def __init__(self, inputs: dict[str, np.ndarray]) -> None:
        super().__init__(inputs)
        self._asked: SimpleQueue[str] = SimpleQueue()

    def second_moment_blocks(self, tensor: str, i_matrix: int = 0) -> list[np.ndarray] | None:
        self._asked.put(tensor)
        return super().second_moment_blocks(tensor, i_matrix)

    def next_asked(self, n: int) -> list[str]:
        """Those of the next `n` times, which may be still to come."""
        return [self._asked.get(timeout=60) for _ in range(n)]

    def is_asked_for_more(self) -> bool:
        return not self._asked.empty()


def test_what_the_next_tensors_need_is_prepared_meanwhile() -> None:
    names = ["a", "b", "c", "d"]
    tensors = [TensorInfo(name, (96, 20), GgmlType.F32) for name in names]
    random = np.random.default_rng(3)
    seen = {name: random.normal(size=(1, 60, 96)).astype(np.float32) for name in names}
    rows = random.normal(size=(20, 96)).astype(np.float32)

    watched = Watched(seen)
    encoder = Encoder(watched, Care(), coming=tensors)
    first = encoder.encode(tensors[0], GgmlType.Q4_0, rows, 0)
    assert watched.next_asked(3) == ["a", "b", "c"]
    encoder.close()
    assert not watched.is_asked_for_more()

    encoder = Encoder(watched, Care(), coming=tensors)
    stored = [encoder.encode(tensor, GgmlType.Q4_0, rows, 0) for tensor in tensors]
    encoder.close()
    assert watched.next_asked(4) == names  # each once
    assert not watched.is_asked_for_more()
    alone = [Encoder(Inputs(seen), Care()).encode(t, GgmlType.Q4_0, rows, 0) for t in tensors]
    assert np.array_equal(stored, alone)
    assert np.array_equal(first, alone[0])


def test_each_expert_is_prepared_once() -> None:
    n_experts, n_rows = 6, 8
    tensors = [TensorInfo(name, (96, n_rows, n_experts), GgmlType.F32) for name in ("a", "b")]
    random = np.random.default_rng(4)
    seen = {t.name: random.normal(size=(n_experts, 60, 96)).astype(np.float32) for t in tensors}
    watched = Watched(seen)
    encoder = Encoder(watched, Care(), coming=tensors)
    rows = random.normal(size=(n_rows, 96)).astype(np.float32)
    for tensor in tensors:
        for expert in range(n_experts):
            encoder.encode(tensor, GgmlType.Q4_0, rows, expert * n_rows)
    encoder.close()
    assert watched.next_asked(2 * n_experts) == ["a"] * n_experts + ["b"] * n_experts
    assert not watched.is_asked_for_more()


def test_each_input_is_prepared_once_for_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"blk.{i}" for i in range(20)]
    tensors = [TensorInfo(name, (96, 24), GgmlType.F32) for name in names]
    random = np.random.default_rng(5)
    inputs = random.normal(size=(1, 60, 96)).astype(np.float32)
    watched = Watched(dict.fromkeys(names, inputs))
    encoder = Encoder(watched, Care(sweeps=0, refits=0), coming=tensors)
    rows = random.normal(size=(8, 96)).astype(np.float32)
    quantize = ggml.quantize_rows
    delays = Random(5)

    def late(*args: Any) -> np.ndarray:
        time.sleep(delays.uniform(0, 0.02))
        return quantize(*args)

    monkeypatch.setattr(ggml, "quantize_rows", late)
    pieces = [(tensor, start) for tensor in tensors for start in (0, 8, 16)]

    def encode(piece: tuple[TensorInfo, int]) -> np.ndarray:
        return encoder.encode(piece[0], GgmlType.Q4_0, rows, piece[1])

    with ThreadPoolExecutor(16) as pool:
        for _, encoded in in_order(pool, encode, pieces, 34):
            encoded.result()
    encoder.close()
    assert sorted(watched.next_asked(len(names))) == sorted(names)
    assert not watched.is_asked_for_more()


def test_no_row_is_worse_than_ggmls_on_what_was_held_out(rows: np.ndarray, inputs: Inputs) -> None:
    encoder = Encoder(inputs, Care(sweeps=0, refits=0))
    stored = encoder.encode(TENSOR, GgmlType.Q4_0, rows, 0)
    stock = encoder.stock(TENSOR, GgmlType.Q4_0, rows, 0)
    for i_matrix, part in ((0, slice(20)), (1, slice(20, 40))):
        held_out = inputs.held_out("experts", i_matrix)
        assert held_out is not None
        ours, theirs = (
            held_out_errors(GgmlType.Q4_0, rows[part], found[part], held_out)
            for found in (stored, stock)
        )
        assert (ours <= theirs).all() and ours.sum() < 0.9 * theirs.sum()


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (None, "feedback where it was better"),
        (0.0, "as llama-quantize"),
        (0.001, "feedback in 1 % of rows"),
        (0.87, "feedback in 87 % of rows"),
        (0.999, "feedback in 99 % of rows"),
        (1.0, "feedback"),
    ],
)
def test_the_share_in_words(share: float | None, words: str) -> None:
    assert share_words(share) == words
