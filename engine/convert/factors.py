"""What the rows of a whole tensor are multiplied with: NVFP4 has such a number beside its blocks.

GGUF keeps it in a tensor of its own, `blk.0.attn_q.scale`. llama.cpp reads these for every
architecture, but computes with them only in some: elsewhere the values are decoded instead.
Source: llama.cpp src/llama-model.cpp ("generic pass"), src/llama-graph.cpp (build_lora_mm,
build_lora_mm_id, build_qkv), src/models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.convert.weights import Weight

# Those whose graph hands the scale of every tensor below to the multiplication.
ARCHITECTURES = frozenset(
    {"llama", "cohere2", "gemma4", "qwen3", "qwen3moe", "qwen35", "qwen35moe"}
)
TENSORS = re.compile(
    r"(output|blk\.\d+\.(attn_(q|k|v|qkv|gate|output)|ffn_(gate|up|down)(_exps|_shexp)?"
    r"|ssm_(out|alpha|beta)))\.weight"
)


def are_used(architecture: str, name: str) -> bool:
    """Whether llama.cpp computes with the scale of the tensor `name`."""
    if architecture == "gemma4" and "ffn_down_exps" in name:
        return False  # it has scales of its own there
    return architecture in ARCHITECTURES and TENSORS.fullmatch(name) is not None


def common_factors(shape: tuple[int, ...], weights: Sequence[Weight]) -> tuple[float, ...] | None:
    """The factors of a tensor of `shape` that is put together from `weights`.

    One for a matrix, one for each matrix of a stack; () where there is nothing to multiply, None
    where that cannot be told.
    """
    if not any(weight.factors for weight in weights):
        return ()
    factors = [factor for weight in weights for factor in weight.factors or (1.0,)]
    n_wanted = shape[0] if len(shape) > 2 else 1
    if len(set(factors)) == 1:
        return (factors[0],) * n_wanted
    return tuple(factors) if len(factors) == len(weights) == n_wanted else None
