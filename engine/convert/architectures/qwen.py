"""Qwen 2, 2.5 and 3, dense and with experts.

Source: llama.cpp conversion/qwen.py; src/models/qwen2.cpp, qwen2moe.cpp, qwen3.cpp, qwen3moe.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from engine.convert.architecture import Architecture, Declared, Shapes, TensorRule
from engine.convert.config import Config, unsupported
from engine.convert.rope import require_full_rotation
from engine.convert.rules import (
    BUFFERS,
    Layer,
    attention,
    embedding,
    experts_ffn,
    gated_ffn,
    tensor,
    tied_copies,
)
from engine.convert.transformer import (
    Transformer,
    common_keys,
    count_experts,
    moe_keys,
    read_transformer,
    within_window,
)


def declare(
    config: Config, shapes: Shapes, *, has_qk_norms: bool = False, is_moe: bool = False
) -> Declared:
    """A Qwen 2; of 3 it has norms of queries and keys."""
    require_full_rotation(config)
    h = read_transformer(config, shapes)
    keys = common_keys(config, h)
    if config.flag("use_sliding_window", False):
        keys |= within_window(config)
    if is_moe:
        keys |= moe_keys(config)
    return Declared(
        keys,
        rules=_rules(h, shapes, config, has_qk_norms=has_qk_norms, is_moe=is_moe),
        ignored=(*BUFFERS, *tied_copies(h)),
    )


def declare_moe(config: Config, shapes: Shapes, *, is_qwen3: bool) -> Declared:
    """Experts in every layer, in Qwen 2 with one that they share."""
    if config.count("decoder_sparse_step", 1) != 1 or config.counts("mlp_only_layers"):
        raise unsupported("experts in some of its layers only")
    if config.flag("norm_topk_prob", False) != is_qwen3:
        raise unsupported("weights of experts that add up otherwise than usual")
    return declare(config, shapes, has_qk_norms=is_qwen3, is_moe=True)


def _rules(
    h: Transformer, shapes: Shapes, config: Config, *, has_qk_norms: bool, is_moe: bool
) -> Iterator[TensorRule]:
    yield from embedding(h)
    yield tensor("output_norm.weight", "model.norm.weight", h.n_embd)
    for layer in map(Layer, range(h.n_layers)):
        yield from layer.norm("attn_norm", "input_layernorm", h.n_embd)
        yield from attention(layer, h)
        if has_qk_norms:
            yield from layer.qk_norms(h.head_dim, h.head_dim)
        yield from layer.norm("ffn_norm", "post_attention_layernorm", h.n_embd)
        yield from moe(layer, h, shapes, config) if is_moe else gated_ffn(layer, h.n_embd, h.n_ff)


def moe(layer: Layer, h: Transformer, shapes: Shapes, config: Config) -> Iterator[TensorRule]:
    """The router and the experts, and the one that is always used, if there is one."""
    field = config.find("num_experts", "num_local_experts") or "num_experts"
    n_experts = count_experts(config, field)
    yield layer.tensor("ffn_gate_inp.weight", "mlp.gate.weight", n_experts, h.n_embd)
    n_ff = config.count("moe_intermediate_size")
    yield from experts_ffn(layer, shapes, n_experts, h.n_embd, n_ff)
    if config.has("shared_expert_intermediate_size"):
        n_ff = config.count("shared_expert_intermediate_size")
        gate = "mlp.shared_expert_gate.weight"
        yield layer.tensor("ffn_gate_inp_shexp.weight", gate, 1, h.n_embd)
        yield from gated_ffn(layer, h.n_embd, n_ff, theirs="mlp.shared_expert.", suffix="_shexp")


QWEN2 = Architecture("qwen2", ("Qwen2ForCausalLM",), ("qwen2",), declare)
QWEN2MOE = Architecture(
    "qwen2moe", ("Qwen2MoeForCausalLM",), ("qwen2_moe",), partial(declare_moe, is_qwen3=False)
)
QWEN3 = Architecture(
    "qwen3", ("Qwen3ForCausalLM",), ("qwen3",), partial(declare, has_qk_norms=True)
)
QWEN3MOE = Architecture(
    "qwen3moe", ("Qwen3MoeForCausalLM",), ("qwen3_moe",), partial(declare_moe, is_qwen3=True)
)
