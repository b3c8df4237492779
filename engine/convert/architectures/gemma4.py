"""Gemma 4, the text part: wide heads in layers that attend to all, embeddings for every layer.

Source: llama.cpp conversion/gemma.py, src/models/gemma4.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from engine.convert.architecture import Architecture, Declared, MadeTensor, Shapes, TensorRule
from engine.convert.config import Config, unsupported
from engine.convert.options import VocabularyOptions
from engine.convert.rope import n_rotated, rope_kind, rope_of
from engine.convert.rules import BUFFERS, Layer, embedding, gated_ffn, tensor, tied_copies
from engine.convert.transformer import (
    Transformer,
    common_keys,
    count_experts,
    read_transformer,
    sliding_window_keys,
)
from engine.gguf_values import Value, ValueType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NORMS = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
MOE_NORMS = {
    "post_ffw_norm_1": "post_feedforward_layernorm_1",
    "pre_ffw_norm_2": "pre_feedforward_layernorm_2",
    "post_ffw_norm_2": "post_feedforward_layernorm_2",
}
NOT_ROTATED = 1e30  # divides a frequency until nothing turns


class Heads(msgspec.Struct, frozen=True):
    """The key and value heads of one layer, and the size of every head."""

    n_kv: int
    dim: int


class Gemma4(msgspec.Struct, frozen=True):
    """What Gemma 4 has beside the usual, by layer.

    Layers from `first_shared` on use the keys and values of an earlier one; where `v_is_k` values
    are made of keys in the layers that attend to all.
    """

    is_sliding: list[bool]
    heads: list[Heads]
    n_ff: list[int]
    first_shared: int
    v_is_k: bool
    n_per_layer: int
    n_experts: int
    n_ff_experts: int


def declare(config: Config, shapes: Shapes) -> Declared:
    if config.text("use_bidirectional_attention") == "all":
        raise unsupported("attention to later tokens")
    h = read_transformer(config, shapes, tied=True, activations=("gelu_pytorch_tanh",))
    g = _read(config, h)
    return Declared(
        keys=common_keys(config, h, ropes=("proportional",)) | _keys(config, h, g),
        rules=_rules(h, g),
        made=(_rotated_share(config, max(heads.dim for heads in g.heads)),),
        ignored=(*BUFFERS, *tied_copies(h)),
    )


def _read(config: Config, h: Transformer) -> Gemma4:
    kinds = config.texts("layer_types", h.n_layers)
    if not kinds or not {*kinds} <= {"full_attention", "sliding_attention"}:
        raise config.bad("layer_types is missing or says something else")
    n_shared = config.count("num_kv_shared_layers", 0, smallest=0, largest=h.n_layers)
    first_shared = h.n_layers - n_shared
    is_double = config.flag("use_double_wide_mlp", False)
    has_experts = config.flag("enable_moe_block", False)
    return Gemma4(
        is_sliding=[kind == "sliding_attention" for kind in kinds],
        heads=[_heads(config, h, i, kind) for i, kind in enumerate(kinds)],
        n_ff=[h.n_ff * (2 if is_double and i >= first_shared else 1) for i in range(h.n_layers)],
        first_shared=first_shared,
        v_is_k=config.flag("attention_k_eq_v", False),
        n_per_layer=config.count("hidden_size_per_layer_input", 0, smallest=0),
        n_experts=count_experts(config, "num_experts") if has_experts else 0,
        n_ff_experts=config.count("moe_intermediate_size") if has_experts else 0,
    )


def _heads(config: Config, h: Transformer, index: int, kind: str) -> Heads:
    """Of old configs the layers that attend to all have fields of their own, later each layer."""
    if kind == "sliding_attention":
        return Heads(h.n_kv_heads, h.head_dim)
    layers = config.section("per_layer_config")
    layer = layers.section(layers.find(str(index), f"{index:02}") or str(index))
    dim = layer.count("head_dim", config.count("global_head_dim", h.head_dim))
    n_kv = config.count("num_global_key_value_heads", h.n_kv_heads)
    return Heads(layer.count("num_key_value_heads", n_kv), dim)


def _keys(config: Config, h: Transformer, g: Gemma4) -> dict[str, Value]:
    widest = max(heads.dim for heads in g.heads)
    n_kv = [heads.n_kv for heads in g.heads]
    sliding = rope_of(config, "sliding_attention")
    share = sliding.number("partial_rotary_factor", 1.0)
    n_rot_sliding = n_rotated(config, share, h.head_dim)
    keys = sliding_window_keys(config, h.n_layers) | {
        "attention.shared_kv_layers": Value.u32(h.n_layers - g.first_shared),
        "embedding_length_per_layer_input": Value.u32(g.n_per_layer),
        "attention.key_length": Value.u32(widest),
        "attention.value_length": Value.u32(widest),
        "attention.key_length_swa": Value.u32(h.head_dim),
        "attention.value_length_swa": Value.u32(h.head_dim),
        "rope.freq_base_swa": Value.f32(sliding.number("rope_theta")),
        "rope.dimension_count": Value.u32(widest),
        "rope.dimension_count_swa": Value.u32(n_rot_sliding),
    }
    if config.has("final_logit_softcapping"):
        keys["final_logit_softcapping"] = Value.f32(config.number("final_logit_softcapping"))
    if config.flag("use_double_wide_mlp", False):
        keys["feed_forward_length"] = Value.array(ValueType.INT32, g.n_ff)
    if len({*n_kv}) > 1 or config.has("num_global_key_value_heads"):
        keys["attention.head_count_kv"] = Value.array(ValueType.INT32, n_kv)
    if g.n_experts:
        keys["expert_feed_forward_length"] = Value.u32(g.n_ff_experts)
    return keys


def _rotated_share(config: Config, dim: int) -> MadeTensor:
    """Where all is attended to only the first part of a head turns; [dim / 2]."""
    rope = rope_of(config)
    if rope_kind(rope) != "proportional":
        raise unsupported(f"the rope scaling {rope_kind(rope)[:40]!a}")
    n_turning = n_rotated(config, rope.number("partial_rotary_factor", 1.0), dim) // 2

    def values() -> NDArray[np.float32]:
        import numpy as np

        factors = np.ones(dim // 2, np.float32)
        factors[n_turning:] = NOT_ROTATED
        return factors

    return MadeTensor("rope_freqs.weight", dim // 2, values)


def _rules(h: Transformer, g: Gemma4) -> Iterator[TensorRule]:
    yield from embedding(h)
    yield tensor("output_norm.weight", "model.norm.weight", h.n_embd)
    if n := g.n_per_layer:
        every = n * h.n_layers
        table, projection = "model.embed_tokens_per_layer", "model.per_layer_model_projection"
        yield tensor("per_layer_token_embd.weight", f"{table}.weight", h.n_vocab, every)
        yield tensor("per_layer_model_proj.weight", f"{projection}.weight", every, h.n_embd)
        yield tensor("per_layer_proj_norm.weight", "model.per_layer_projection_norm.weight", n)
    for layer in map(Layer, range(h.n_layers)):
        for ours, theirs in NORMS.items():
            yield from layer.norm(ours, theirs, h.n_embd)
        yield from _attention(layer, h, g)
        yield from gated_ffn(layer, h.n_embd, g.n_ff[layer.index])
        yield layer.tensor("layer_output_scale.weight", "layer_scalar", 1)
        if g.n_experts:
            yield from _moe(layer, h, g)
        if g.n_per_layer:
            yield from layer.linear("inp_gate", "per_layer_input_gate", g.n_per_layer, h.n_embd)
            yield from layer.linear("proj", "per_layer_projection", h.n_embd, g.n_per_layer)
            yield from layer.norm("post_norm", "post_per_layer_input_norm", h.n_embd)


def _attention(layer: Layer, h: Transformer, g: Gemma4) -> Iterator[TensorRule]:
    heads = g.heads[layer.index]
    n_q, n_kv = h.n_heads * heads.dim, heads.n_kv * heads.dim
    yield from layer.linear("attn_q", "self_attn.q_proj", n_q, h.n_embd)
    yield from layer.linear("attn_output", "self_attn.o_proj", h.n_embd, n_q)
    yield layer.tensor("attn_q_norm.weight", "self_attn.q_norm.weight", heads.dim)
    if layer.index >= g.first_shared:
        return
    yield from layer.linear("attn_k", "self_attn.k_proj", n_kv, h.n_embd)
    yield layer.tensor("attn_k_norm.weight", "self_attn.k_norm.weight", heads.dim)
    if g.is_sliding[layer.index] or not g.v_is_k:
        yield from layer.linear("attn_v", "self_attn.v_proj", n_kv, h.n_embd)


def _moe(layer: Layer, h: Transformer, g: Gemma4) -> Iterator[TensorRule]:
    n, n_ff = g.n_experts, g.n_ff_experts
    for ours, theirs in MOE_NORMS.items():
        yield from layer.norm(ours, theirs, h.n_embd)
    yield layer.tensor("ffn_gate_inp.weight", "router.proj.weight", n, h.n_embd)
    yield layer.tensor("ffn_gate_inp.scale", "router.scale", h.n_embd)
    yield layer.tensor("ffn_gate_up_exps.weight", "experts.gate_up_proj", n, 2 * n_ff, h.n_embd)
    yield layer.tensor("ffn_down_exps.weight", "experts.down_proj", n, h.n_embd, n_ff)
    yield layer.tensor("ffn_down_exps.scale", "router.per_expert_scale", n)


# An answer shows these, so that calls of tools and thoughts can be told from it.
VISIBLE = frozenset(
    ("<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>",
     "<tool_response|>", '<|"|>')
)  # fmt: skip
GEMMA4 = Architecture(
    "gemma4",
    ("Gemma4ForCausalLM", "Gemma4ForConditionalGeneration"),
    ("gemma4", "gemma4_text"),
    declare,
    VocabularyOptions(metaspace_model="gemma4", visible=VISIBLE, add_bos=True),
)
