"""IBM Granite, dense and with experts: a Llama whose parts are scaled.

Source: llama.cpp conversion/granite.py; src/models/granite.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.convert.architecture import Architecture, Declared, Shapes, TensorRule
from engine.convert.config import Config
from engine.convert.options import VocabularyOptions
from engine.convert.rope import KINDS, require_full_rotation, rope_tensors
from engine.convert.rules import (
    BUFFERS,
    Layer,
    attention,
    embedding,
    gated_ffn,
    tensor,
    tied_copies,
)
from engine.convert.transformer import Transformer, common_keys, count_experts, read_transformer
from engine.gguf_values import Value

SCALES = {
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}


def declare(config: Config, shapes: Shapes) -> Declared:
    require_full_rotation(config)
    h = read_transformer(config, shapes)
    n_experts = count_experts(config, "num_local_experts", 0)
    n_shared = config.count("shared_intermediate_size", 0, smallest=0)
    keys = common_keys(config, h, ropes=(*KINDS, "llama3")) | {
        "vocab_size": Value.u32(h.n_vocab),
        "rope.dimension_count": Value.u32(h.head_dim),
    }
    for ours, theirs in SCALES.items():
        if config.has(theirs):
            keys[ours] = Value.f32(config.number(theirs))
    if n_shared:
        keys["expert_shared_feed_forward_length"] = Value.u32(n_shared)
    return Declared(
        keys,
        rules=_rules(h, n_experts, n_shared),
        made=rope_tensors(config, h.head_dim),
        ignored=(*BUFFERS, *tied_copies(h)),
    )


def _rules(h: Transformer, n_experts: int, n_shared: int) -> Iterator[TensorRule]:
    yield from embedding(h)
    yield tensor("output_norm.weight", "model.norm.weight", h.n_embd)
    for layer in map(Layer, range(h.n_layers)):
        yield from layer.norm("attn_norm", "input_layernorm", h.n_embd)
        yield from attention(layer, h, is_interleaved=True)
        yield from layer.norm("ffn_norm", "post_attention_layernorm", h.n_embd)
        if n_experts:
            yield from _moe(layer, h, n_experts)
        else:
            yield from gated_ffn(layer, h.n_embd, h.n_ff)
        if n_shared:
            yield from _shared(layer, h, n_shared)


def _moe(layer: Layer, h: Transformer, n_experts: int) -> Iterator[TensorRule]:
    """Every expert holds its gate and its up projection in one matrix, gate first."""
    router = "block_sparse_moe.router.layer.weight"
    both = "block_sparse_moe.input_linear.weight"
    down = "block_sparse_moe.output_linear.weight"
    stored = (n_experts, 2 * h.n_ff, h.n_embd)
    yield layer.tensor("ffn_gate_inp.weight", router, n_experts, h.n_embd)
    yield layer.slice("ffn_gate_exps.weight", both, stored, range(h.n_ff))
    yield layer.slice("ffn_up_exps.weight", both, stored, range(h.n_ff, 2 * h.n_ff))
    yield layer.tensor("ffn_down_exps.weight", down, n_experts, h.n_embd, h.n_ff)


def _shared(layer: Layer, h: Transformer, n_ff: int) -> Iterator[TensorRule]:
    both = "shared_mlp.input_linear.weight"
    stored = (2 * n_ff, h.n_embd)
    yield layer.slice("ffn_gate_shexp.weight", both, stored, range(n_ff))
    yield layer.slice("ffn_up_shexp.weight", both, stored, range(n_ff, 2 * n_ff))
    yield layer.tensor("ffn_down_shexp.weight", "shared_mlp.output_linear.weight", h.n_embd, n_ff)


VOCABULARY = VocabularyOptions(pre_names={"smollm": "refact"})
GRANITE = Architecture("granite", ("GraniteForCausalLM",), ("granite",), declare, VOCABULARY)
GRANITE_MOE = Architecture(
    "granitemoe",
    ("GraniteMoeForCausalLM", "GraniteMoeSharedForCausalLM"),
    ("granitemoe", "granitemoeshared"),
    declare,
    VOCABULARY,
)
