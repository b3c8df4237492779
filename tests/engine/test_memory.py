"""What llama.cpp says that a model would take, against what it then allocates."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.fit.estimate import Estimate
from engine.fit.run import Run
from engine.ggml_types import GgmlType
from engine.jobs import finish
from engine.llama.context import Context
from engine.llama.memory import BufferMemory, Probe, probes_of
from engine.llama.model import load_model
from engine.skeleton import skeleton
from tests.helpers.headers import SIZES, header

MIB = 2**20


def sums(buffers: tuple[BufferMemory, ...] | None) -> tuple[int, int, int]:
    assert buffers is not None
    return (
        sum(b.weights_bytes for b in buffers),
        sum(b.kv_bytes for b in buffers),
        sum(b.compute_bytes for b in buffers),
    )


def is_rearranged(probe: Probe) -> bool:
    """Whether a model is loaded as a copy: a mapped file counts beside what its weights become."""
    return any(buffer.is_rearranged and buffer.weights_bytes for buffer in probe.memory(512) or ())


@pytest.mark.parametrize("architecture", SIZES)
def test_predicted_is_what_is_allocated(architecture: str, tmp_path: Path) -> None:
    """Three contexts with two or three batch sizes each, of seven architectures."""
    whole = header(architecture, GgmlType.Q8_0)
    path = whole.write_sparse(tmp_path / "m.gguf")
    with skeleton(whole.metadata, whole.tensors) as bones:
        probe = Probe(bones)
    model = finish(load_model(path, is_copied=is_rearranged(probe)))
    try:
        for n_ctx in (512, 2048, 4096):
            for n_ubatch in (128, 512):
                for kv_type in ("f16", "q8_0"):
                    context = Context(model, n_ctx, n_ubatch=n_ubatch, kv_type=kv_type)
                    actual = sums(context.memory())
                    context.close()
                    predicted = sums(probe.memory(n_ctx, kv_type, n_ubatch))
                    assert all(actual), "there is nothing to compare with"
                    for ours, theirs in zip(predicted, actual, strict=True):
                        assert abs(ours - theirs) <= max(20 * MIB, theirs // 100)
        probe.close()
    finally:
        model.close()


@pytest.mark.parametrize("n_cpu_experts", [0, 3, 12])
def test_experts_stay_in_main_memory(
    n_cpu_experts: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """llama.cpp says of each tensor that it obeyed; the sums stay as predicted."""
    whole = header("qwen3moe", GgmlType.Q8_0)
    path = whole.write_sparse(tmp_path / "m.gguf")
    with skeleton(whole.metadata, whole.tensors) as bones:
        probe = Probe(bones, n_cpu_experts=n_cpu_experts)
    with caplog.at_level("DEBUG", "engine.llama.library"):
        is_copied = is_rearranged(probe)
        model = finish(load_model(path, n_cpu_experts=n_cpu_experts, is_copied=is_copied))
    said = [line for line in caplog.messages if "overridden to CPU" in line]
    kept = {t.name for t in whole.tensors if any(f" {t.name} " in f" {line} " for line in said)}
    layers = range(n_cpu_experts)
    assert kept == {
        f"blk.{i}.ffn_{which}_exps.weight" for i in layers for which in ("up", "down", "gate")
    }
    context = Context(model, 512)
    assert sums(probe.memory(512)) == sums(context.memory())
    context.close()
    model.close()
    probe.close()


def test_an_absurd_context_is_estimated_without_llama_cpp() -> None:
    """Asking for it alone would take 50 GB."""
    whole = header("llama", GgmlType.Q8_0)
    estimate = Estimate.of(whole.metadata, whole.tensors)
    run = Run(n_ctx=1 << 30)
    with probes_of(whole, estimate) as probes:
        assert probes.needs(run, ()) == estimate.needs(run)
