"""What llama.cpp says that a model would take, against what it then allocates."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.ggml_types import GgmlType
from engine.jobs import finish
from engine.llama.context import Context
from engine.llama.memory import BufferMemory, Probe
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


@pytest.mark.parametrize("architecture", SIZES)
def test_predicted_is_what_is_allocated(architecture: str, tmp_path: Path) -> None:
    """Three contexts with two or three batch sizes each, of seven architectures."""
    whole = header(architecture, GgmlType.Q8_0)
    path = whole.write_sparse(tmp_path / "m.gguf")
    model = finish(load_model(path))
    try:
        with skeleton(whole.metadata, whole.tensors) as bones:
            probe = Probe(bones)
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
