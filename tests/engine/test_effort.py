"""How much a shrink to a size does, by the size of the model."""

from __future__ import annotations

from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from engine.ggml_types import GgmlType
from engine.gguf import write_gguf
from engine.gguf_values import TensorInfo, Value
from engine.quantize.effort import EFFORTS, Effort, EffortName, effort_for, effort_of
from engine.source import open_source

SIZES = [int(10 ** (7 + i / 8)) for i in range(33)]  # ten million to a hundred billion


def n_read(effort: Effort) -> int:
    runs = effort.run_chunks * (effort.most_runs + 1)
    return effort.chunks + effort.own_chunks + runs + 2 * effort.judge_chunks


@pytest.mark.parametrize("name", EFFORTS)
def test_small_models_get_the_whole_effort(name: EffortName) -> None:
    assert effort_for(name, 50_000_000) == EFFORTS[name]
    assert effort_for(name, 0) == EFFORTS[name]


@pytest.mark.parametrize("name", EFFORTS)
def test_large_models_get_enough_to_tell_something(name: EffortName) -> None:
    for size in SIZES:
        effort, usual = effort_for(name, size), EFFORTS[name]
        assert effort.chunks == usual.chunks or effort.chunks >= 8
        assert effort.most_runs >= 9
        assert effort.run_chunks >= 1
        assert effort.judge_chunks >= 4
        assert effort.sample_rows >= 64


def test_what_balanced_reads_grows_no_further_than_8_billion_can_have() -> None:
    most = n_read(effort_for("balanced", 8_000_000_000)) * 8_000_000_000
    for size in (size for size in SIZES if size < 8_000_000_000):
        assert n_read(effort_for("balanced", size)) * size <= 1.2 * most


def test_a_larger_model_never_gets_more() -> None:
    efforts = [effort_for("balanced", size) for size in SIZES]
    for smaller, larger in pairwise(efforts):
        assert n_read(larger) <= n_read(smaller)
        assert larger.sweeps <= smaller.sweeps
        assert larger.refits <= smaller.refits


def test_a_model_of_experts_reads_as_one_of_what_each_token_takes() -> None:
    dense, of_experts = (
        effort_for("balanced", 30_000_000_000, n_active=n) for n in (0, 3_300_000_000)
    )
    assert of_experts.chunks == effort_for("balanced", 3_300_000_000).chunks > dense.chunks
    assert of_experts.sweeps == dense.sweeps


def test_the_experts_that_a_token_does_not_go_to_are_not_counted(tmp_path: Path) -> None:
    experts = TensorInfo("blk.0.ffn_up_exps.weight", (256, 4096, 512), GgmlType.IQ1_S)
    others = TensorInfo("output.weight", (256, 4096), GgmlType.F32)
    metadata = {
        "general.architecture": Value.string("qwen3moe"),
        "qwen3moe.expert_count": Value.u32(512),
        "qwen3moe.expert_used_count": Value.u32(32),
    }
    path = tmp_path / "model.gguf"
    with write_gguf(path, metadata, [experts, others]) as writer:
        for tensor in (experts, others):
            writer.write(bytes(tensor.n_bytes))
    with closing(open_source(path)) as source:
        found = effort_of("balanced", source)
    n_all = experts.n_elements + others.n_elements
    assert found == effort_for("balanced", n_all, 0, experts.n_elements // 16 + others.n_elements)
    assert found.chunks > effort_for("balanced", n_all).chunks


def test_a_model_trained_on_short_texts_reads_as_many_tokens_in_shorter_chunks() -> None:
    usual, short = EFFORTS["balanced"], effort_for("balanced", 1_000_000, 128)
    assert short.n_ctx == 128
    assert n_read(short) * 128 == pytest.approx(n_read(usual) * 512, rel=0.02)
    assert effort_for("balanced", 1_000_000, 4096) == usual
    assert effort_for("balanced", 1_000_000, 2).n_ctx == 32
    assert effort_for("best", 1_000_000, 128).chunks == 0  # all there are
