"""Scales are found that lower the error of what is really rounded, and none where none do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.ggml_types import GgmlType
from engine.gguf_values import TensorInfo
from engine.jobs import finish
from engine.llama.ggml import dequantize_rows, quantize_rows
from engine.quantize.fold import FoldedSource, FoldedStatistics, InputStatistics
from engine.quantize.fold_search import LEAST_GAIN, rounded_input, search_folds
from engine.quantize.folds import folds_of
from engine.source import ModelSource, open_source
from tests.helpers.checkpoints import write_tiny_checkpoint
from tests.helpers.input_statistics import Inputs

N_TOKENS = 1000
FEW = 2**13  # weights that stand for all, where the error itself does not matter
Array = NDArray[np.float32]


@pytest.fixture
def source(tmp_path: Path) -> ModelSource:
    folder = write_tiny_checkpoint(tmp_path / "Tiny", n_layers=1, hidden=256, ffn=256, tied=False)
    return open_source(folder)


@pytest.mark.parametrize("name", ["Q4_K", "Q2_K", "Q4_0"])
def test_found_scales_lower_the_error_on_other_inputs(source: ModelSource, name: str) -> None:
    target = GgmlType[name]
    seen, others = inputs(source, seed=1), inputs(source, seed=2)
    statistics, types = Inputs(seen), dict.fromkeys(seen, target)
    folds = folds_of(source.metadata, source.tensors)
    found = finish(search_folds(folds, source, statistics, types))
    assert {folded.fold.kind for folded in found} >= {"attn_norm", "ffn_norm", "output_norm"}
    for each in found:
        fold, scales, gain = each.fold, each.scales, each.gain
        assert gain >= LEAST_GAIN
        folded_source = FoldedSource(source, [each])
        folded_statistics = FoldedStatistics(statistics, source.tensors, [each])
        plain = folded = 0.0
        for tensor in (t for t in source.tensors if t.name in {c.tensor for c in fold.columns}):
            x = others[tensor.name][0]
            y = x @ source.rows(tensor, 0, tensor.n_rows).T
            plain += share(output(source, tensor, target, statistics, x), y)
            x = x / fold.to_columns(scales)
            folded += share(output(folded_source, tensor, target, folded_statistics, x), y)
        assert folded < plain
        assert 1 - folded / plain == pytest.approx(gain, rel=0.25, abs=0.02)


def test_what_gains_little_is_not_folded(source: ModelSource) -> None:
    seen = inputs(source, seed=1)
    folds = folds_of(source.metadata, source.tensors)
    types = dict.fromkeys(seen, GgmlType.Q4_K)
    found = finish(search_folds(folds, source, Inputs(seen), types, n_weights=FEW))
    most = max(each.gain for each in found)
    few = finish(search_folds(folds, source, Inputs(seen), types, n_weights=FEW, least_gain=most))
    assert [each.gain for each in few] == [most]
    assert len(few) < len(found)
    white = {name: np.ones_like(x) * np.sign(x) for name, x in seen.items()}
    types = dict.fromkeys(seen, GgmlType.Q8_0)
    found = finish(search_folds(folds, source, Inputs(white), types, least_gain=0.02))
    assert found == ()


def test_what_is_not_rounded_or_was_not_seen_is_not_folded(source: ModelSource) -> None:
    seen = inputs(source, seed=1)
    folds = folds_of(source.metadata, source.tensors)
    floats = dict.fromkeys(seen, GgmlType.F16)
    assert finish(search_folds(folds, source, Inputs(seen), floats)) == ()
    types = dict.fromkeys(seen, GgmlType.Q4_K)
    assert finish(search_folds(folds, source, Inputs({}), types)) == ()


def test_threads_and_the_order_of_folds_change_nothing(source: ModelSource) -> None:
    seen = inputs(source, seed=1)
    folds = folds_of(source.metadata, source.tensors)
    types = dict.fromkeys(seen, GgmlType.Q4_0)
    one = finish(search_folds(folds, source, Inputs(seen), types, n_weights=FEW, n_threads=1))
    three = finish(
        search_folds(folds[::-1], source, Inputs(seen), types, n_weights=FEW, n_threads=3)
    )
    assert [each[2:] for each in one] == [each[2:] for each in three[::-1]]
    for ours, theirs in zip(one, three[::-1], strict=True):
        assert ours.fold == theirs.fold
        assert np.array_equal(ours.scales, theirs.scales)


def test_a_search_can_be_left(source: ModelSource) -> None:
    seen = inputs(source, seed=1)
    folds = folds_of(source.metadata, source.tensors)
    steps = search_folds(folds, source, Inputs(seen), dict.fromkeys(seen, GgmlType.Q2_K))
    assert next(steps).total == len(folds)
    steps.close()
    with pytest.raises(StopIteration):
        next(steps)


def test_an_imatrix_alone_is_enough(source: ModelSource) -> None:
    class Importance(Inputs):
        def second_moment_blocks(self, tensor: str, i_matrix: int = 0) -> None:
            return None

        def held_out(self, tensor: str, i_matrix: int = 0) -> None:
            return None

    seen = inputs(source, seed=1)
    folds = folds_of(source.metadata, source.tensors)
    types = dict.fromkeys(seen, GgmlType.Q2_K)
    assert finish(search_folds(folds, source, Importance(seen), types, n_weights=FEW))


def test_inputs_are_rounded_as_ggml_rounds_them() -> None:
    x = np.random.default_rng(0).standard_t(3, (20, 512)).astype(np.float32)
    x[0, :256] = 0
    ours = rounded_input(x, GgmlType.Q4_0)
    theirs = dequantize_rows(GgmlType.Q8_0, quantize_rows(GgmlType.Q8_0, x))
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)  # ggml's steps have 16 bits
    wide = rounded_input(x, GgmlType.Q4_K)
    steps = np.repeat(np.abs(x.reshape(20, 2, 256)).max(axis=2) / 127, 256, axis=1)
    assert (np.abs(wide - x) <= steps * 0.501).all()
    assert np.abs(wide - x).mean() > np.abs(ours - x).mean()


def inputs(source: ModelSource, seed: int) -> dict[str, Array]:
    """Made-up inputs of each matrix, [1, N_TOKENS, n_cols], some channels much larger than others.

    Which ones does not depend on `seed`; matrices that share an input have the same.
    """
    found: dict[str, Array] = {}
    for fold in folds_of(source.metadata, source.tensors):
        n = fold.n_channels * fold.n_sharing
        size = np.exp(np.random.default_rng(n).normal(0, 1, n))
        x = np.random.default_rng(seed).normal(size=(1, N_TOKENS, n)) * size
        found |= {part.tensor: x.astype(np.float32) for part in fold.columns}
    return found


def output(
    source: ModelSource,
    tensor: TensorInfo,
    target: GgmlType,
    statistics: InputStatistics,
    x: Array,
) -> Array:
    """What the quantized matrix gives for `x` as llama.cpp computes it."""
    importance = statistics.importance(tensor.name)
    assert importance is not None
    stored = quantize_rows(target, source.rows(tensor, 0, tensor.n_rows), importance[0])
    return rounded_input(x, target) @ dequantize_rows(target, stored).T


def share(ours: Array, exact: Array) -> float:
    return float(((ours - exact) ** 2).mean() / (exact**2).mean())
