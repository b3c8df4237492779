"""The copy of a model that reads texts while its tensors are studied."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from engine.errors import OutOfMemory
from engine.ggml_types import GgmlType
from engine.hardware import detect
from engine.model_writer import Plan
from engine.quantize.budget import choosable
from engine.words import format_bytes

if TYPE_CHECKING:
    from engine.source import ModelSource

MOST_BESIDE_BYTES = 1536 << 20
"""What a large model takes beside its weights: what it computes, and the statistics at hand."""


def plan_of(source: ModelSource, *, is_compact: bool) -> Plan:
    """The file of `source` in the types that it has, or with its matrices in eight bits.

    Those take half as much memory; what flows into the matrices, and how much worse the model gets
    by an error in one of them, is the same.
    """
    tensors = {tensor.name: tensor for tensor in source.tensors}
    for tensor in choosable(source) if is_compact else ():
        if tensor.type.is_float and tensor.n_cols % GgmlType.Q8_0.block_size == 0:
            tensors[tensor.name] = msgspec.structs.replace(tensor, type=GgmlType.Q8_0)
    stored = tuple(tensors.values())
    return Plan(dict(source.metadata), stored, tuple(source.tensors), only_finite=True)


def require_memory(weights_bytes: int) -> None:
    """Raise OutOfMemory if weights of so many bytes cannot be in memory and compute."""
    need = weights_bytes + min(weights_bytes, MOST_BESIDE_BYTES)
    free = detect().memory_available_bytes
    if need > free:
        raise OutOfMemory(
            f"To find out what matters in this model takes about {format_bytes(need)} of memory,"
            f" and {format_bytes(free)} are free.",
            hint='Close other programs, or have it rounded "as llama-quantize does", which takes'
            " next to none (--effort stock).",
        )
