"""One token whose inputs are huge, as many models have it at the start, drowns no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.calibrate.inputs import Input, describe
from engine.calibrate.massive import MOST_ENERGY, energies, shares
from engine.calibrate.statistics import Statistics
from engine.calibrate.sums import new_statistics
from engine.ggml_types import GgmlType
from engine.llama.ggml import quantize_rows
from engine.quantize.rounding import Curvature, held_out_errors, round_rows

Rows = NDArray[np.float32]
N_COLS, N_TOKENS, SPIKE_COLUMN = 256, 4096, 7
INPUT = Input(("blk.0.ffn_down.weight",), N_COLS, 1, 1)
RNG = np.random.default_rng(3)
MIXING = RNG.normal(size=(N_COLS, N_COLS)) * np.arange(1, N_COLS + 1)[:, np.newaxis] ** -0.5


def inputs(n_tokens: int, spike: float = 0.0) -> Rows:
    """Inputs that go together; of every 512 tokens the first has a `spike`."""
    x = np.random.default_rng(n_tokens).normal(size=(n_tokens, N_COLS)) @ MIXING
    if spike:
        x[::512, SPIKE_COLUMN] = spike * np.sqrt(np.square(x).mean())
    return x.astype(np.float32)


def statistics(path: Path, x: Rows, is_held_out: NDArray[np.bool_]) -> Statistics:
    metadata = describe([INPUT], key="k", datasets=["t"], n_chunks=len(x) // 512, n_ctx=512)
    n_held_out = int(is_held_out.sum())
    with new_statistics(path, metadata, [INPUT], n_held_out, 1, overwrite=False) as sums:
        sums.add(INPUT, x[np.newaxis], is_held_out)
    return Statistics.open(path)


def share(x: Rows) -> Rows:
    return shares(energies(x))[..., np.newaxis]


def test_ordinary_tokens_count_whole() -> None:
    assert (share(inputs(N_TOKENS)[np.newaxis]) == 1).all()
    assert (share(np.zeros((1, 4, N_COLS), np.float32)) == 1).all()


def test_a_massive_one_counts_as_much_as_a_hundred() -> None:
    x = inputs(N_TOKENS, 1e4)
    counted = np.square(x * share(x), dtype=np.float64).sum(axis=1)
    usual = np.median(counted)
    assert counted[::512] == pytest.approx(MOST_ENERGY * usual, rel=1e-4)
    assert counted.max() <= MOST_ENERGY * usual * 1.0001


def test_what_is_written_for_others_has_all_of_it(tmp_path: Path) -> None:
    x = inputs(N_TOKENS, 1e4)
    none = np.zeros(N_TOKENS, np.bool_)
    with statistics(tmp_path / "s.gguf", x, none) as found:
        importance = found.importance(INPUT.name)
        moment = found.second_moment(INPUT.name)
    assert importance is not None
    assert moment is not None
    wanted = np.square(x, dtype=np.float64).mean(axis=0)
    assert importance[0] == pytest.approx(wanted, rel=1e-5)
    assert moment[SPIKE_COLUMN, SPIKE_COLUMN] < wanted[SPIKE_COLUMN] / 1000


@pytest.mark.parametrize("ggml_type", [GgmlType.Q3_K, GgmlType.Q4_K])
def test_other_tokens_are_rounded_for_as_without_it(tmp_path: Path, ggml_type: GgmlType) -> None:
    rows = RNG.normal(size=(32, N_COLS)).astype(np.float32)
    fresh = inputs(512)
    errors = {}
    for spike in (0.0, 1e3, 1e4):
        is_held_out = np.arange(N_TOKENS) % 16 == 1  # and none of the massive ones
        with statistics(tmp_path / f"{spike}.gguf", inputs(N_TOKENS, spike), is_held_out) as found:
            moment, importance = found.second_moment(INPUT.name), found.importance(INPUT.name)
        assert moment is not None
        assert importance is not None
        curvature = Curvature.of(moment, N_TOKENS)
        ours = round_rows(ggml_type, rows, curvature, importance[0])
        stock = quantize_rows(ggml_type, rows, importance[0])
        error = held_out_errors(ggml_type, rows, ours, fresh).mean()
        assert error < 0.6 * held_out_errors(ggml_type, rows, stock, fresh).mean()
        errors[spike] = error
    assert max(errors.values()) < 1.25 * errors[0.0], errors
