"""The copy of a model that reads texts while its tensors are studied."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import OutOfMemory
from engine.ggml_types import GgmlType
from engine.hardware import detect
from engine.quantize.reading import plan_of, require_memory
from engine.source import open_source


def test_matrices_are_in_eight_bits_and_all_else_as_it_is(tiny_gguf: Path) -> None:
    source = open_source(tiny_gguf)
    whole, compact = (plan_of(source, is_compact=is_compact) for is_compact in (False, True))
    assert whole.tensors == whole.sources == compact.sources == tuple(source.tensors)
    assert compact.size_bytes < 0.6 * whole.size_bytes
    for before, after in zip(source.tensors, compact.tensors, strict=True):
        is_matrix = len(before.shape) > 1
        assert after.name == before.name and after.shape == before.shape
        assert after.type is (GgmlType.Q8_0 if is_matrix else before.type)
    source.close()


def test_a_model_that_memory_cannot_hold_is_told_before_anything_is_done() -> None:
    free = detect().memory_available_bytes
    require_memory(free // 8)
    with pytest.raises(OutOfMemory, match="of memory") as caught:
        require_memory(2 * free)
    assert "--effort stock" in caught.value.hint
