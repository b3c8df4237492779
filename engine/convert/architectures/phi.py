"""Microsoft Phi: Phi-2, and Phi-3, 3.5 and 4.

Source: llama.cpp conversion/phi.py; src/models/phi2.cpp, phi3.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from engine.convert.architecture import Architecture, Declared, Shapes, TensorRule
from engine.convert.config import Config, unsupported
from engine.convert.options import VocabularyOptions
from engine.convert.rope import longrope_tensors, n_rotated, rope_kind, rope_of
from engine.convert.rules import BUFFERS, Layer, embedding, tensor, tied_copies
from engine.convert.transformer import Transformer, common_keys, read_transformer
from engine.gguf_values import Value


def declare_phi2(config: Config, shapes: Shapes) -> Declared:
    if config.flag("qk_layernorm", False):
        raise unsupported("norms of queries and keys")
    h = read_transformer(config, shapes, activations=("gelu_new",))
    keys = common_keys(config, h, says_usual_rope=False)
    share = rope_of(config).number("partial_rotary_factor", 0.5)
    keys["rope.dimension_count"] = Value.u32(n_rotated(config, share, h.n_embd, h.n_heads))
    return Declared(keys, _phi2_rules(h), ignored=(*BUFFERS, *tied_copies(h)))


def declare_phi3(config: Config, shapes: Shapes) -> Declared:
    h = read_transformer(config, shapes)
    rope = rope_of(config)
    share = rope.number("partial_rotary_factor", 1.0)
    n_rot = n_rotated(config, share, h.n_embd, h.n_heads)
    n_ctx = config.count("max_position_embeddings", 2048, smallest=2)
    original = rope.count("original_max_position_embeddings", n_ctx, smallest=2)
    keys = common_keys(config, h, ropes=("default", "longrope"))
    keys = {key: value for key, value in keys.items() if not key.startswith("rope.scaling.")}
    keys |= {
        "rope.scaling.original_context_length": Value.u32(original),
        "rope.dimension_count": Value.u32(n_rot),
        # Zero tells llama.cpp a Phi-4 from the others.
        "attention.sliding_window": Value.u32(config.count("sliding_window", 0)),
    }
    made = longrope_tensors(config, n_rot)
    if rope_kind(rope) == "longrope":
        if not made:
            raise config.bad("long_factor is missing")
        keys["rope.scaling.attn_factor"] = Value.f32(_attention_factor(n_ctx, original))
    return Declared(keys, _phi3_rules(h), made, ignored=(*BUFFERS, *tied_copies(h)))


def _attention_factor(n_ctx: int, original: int) -> float:
    """By how much attention is sharpened where the context is stretched."""
    scale = n_ctx / original
    if scale <= 1:
        return 1.0
    return math.sqrt(1 + math.log(scale) / math.log(original))


def _phi2_rules(h: Transformer) -> Iterator[TensorRule]:
    yield from embedding(h)
    yield tensor("output.bias", "lm_head.bias", h.n_vocab)
    yield tensor("output_norm.weight", "model.final_layernorm.weight", h.n_embd)
    yield tensor("output_norm.bias", "model.final_layernorm.bias", h.n_embd)
    for layer in map(Layer, range(h.n_layers)):
        yield from layer.norm("attn_norm", "input_layernorm", h.n_embd)
        for ours, n_rows in (("q", h.n_q), ("k", h.n_kv), ("v", h.n_kv)):
            yield from layer.linear(f"attn_{ours}", f"self_attn.{ours}_proj", n_rows, h.n_embd)
        yield from layer.linear("attn_output", "self_attn.dense", h.n_embd, h.n_q)
        yield from layer.linear("ffn_up", "mlp.fc1", h.n_ff, h.n_embd)
        yield from layer.linear("ffn_down", "mlp.fc2", h.n_embd, h.n_ff)


def _phi3_rules(h: Transformer) -> Iterator[TensorRule]:
    yield from embedding(h)
    yield tensor("output_norm.weight", "model.norm.weight", h.n_embd)
    n_qkv = h.n_q + 2 * h.n_kv
    for layer in map(Layer, range(h.n_layers)):
        yield from layer.norm("attn_norm", "input_layernorm", h.n_embd)
        yield from layer.linear("attn_qkv", "self_attn.qkv_proj", n_qkv, h.n_embd)
        yield from layer.linear("attn_output", "self_attn.o_proj", h.n_embd, h.n_q)
        yield from layer.norm("ffn_norm", "post_attention_layernorm", h.n_embd)
        yield from layer.linear("ffn_up", "mlp.gate_up_proj", 2 * h.n_ff, h.n_embd)
        yield from layer.linear("ffn_down", "mlp.down_proj", h.n_embd, h.n_ff)


VOCABULARY = VocabularyOptions(pre_names={"gpt-2": "phi-2"})
PHI2 = Architecture("phi2", ("PhiForCausalLM",), ("phi",), declare_phi2, VOCABULARY)
PHI3 = Architecture("phi3", ("Phi3ForCausalLM",), ("phi3",), declare_phi3)
