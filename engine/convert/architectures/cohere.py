"""Cohere Command-R (1 and 2) and Aya. Source: llama.cpp conversion/command_r.py."""

from __future__ import annotations

from collections.abc import Iterator

from engine.convert.architecture import Architecture, Declared, Shapes, TensorRule
from engine.convert.config import Config, unsupported
from engine.convert.options import VocabularyOptions
from engine.convert.rope import n_rotated, require_full_rotation
from engine.convert.rules import (
    BUFFERS,
    Layer,
    attention,
    embedding,
    gated_ffn,
    tensor,
    tied_copies,
)
from engine.convert.transformer import (
    Transformer,
    common_keys,
    read_transformer,
    require_usual_layers,
)
from engine.gguf_values import Value

WINDOW_PERIOD = 4
LAYERS_WITH_QK_NORMS = 64  # llama.cpp expects norms of queries and keys in models as deep


def declare_command_r(config: Config, shapes: Shapes) -> Declared:
    require_full_rotation(config)
    h = read_transformer(config, shapes, tied=True)
    keys = _keys(config, h)
    if config.has("model_max_length"):
        # What the model was trained on; max_position_embeddings is less there.
        keys["context_length"] = Value.u32(config.count("model_max_length"))
    has_qk_norms = config.flag("use_qk_norm", False)
    if has_qk_norms != (h.n_layers >= LAYERS_WITH_QK_NORMS):
        raise unsupported("norms of queries and keys where the others of its family have none")
    rules = _rules(h, has_qk_norms=has_qk_norms)
    return Declared(keys, rules, ignored=(*BUFFERS, *tied_copies(h)))


def declare_cohere2(config: Config, shapes: Shapes) -> Declared:
    h = read_transformer(config, shapes, tied=True)
    require_usual_layers(config, h.n_layers, WINDOW_PERIOD)
    n_rot = n_rotated(config, config.number("rotary_pct", 1.0), h.n_embd // h.n_heads)
    keys = _keys(config, h) | {
        "attention.sliding_window": Value.u32(config.count("sliding_window")),
        "vocab_size": Value.u32(h.n_vocab),
        "rope.dimension_count": Value.u32(n_rot),
    }
    rules = _rules(h, has_qk_norms=False)
    return Declared(keys, rules, ignored=(*BUFFERS, *tied_copies(h)))


def _keys(config: Config, h: Transformer) -> dict[str, Value]:
    return common_keys(config, h, ropes=("default",), rope_theta=500_000.0) | {
        "logit_scale": Value.f32(config.number("logit_scale", 0.0625)),
        "rope.scaling.type": Value.string("none"),
    }


def _rules(h: Transformer, *, has_qk_norms: bool) -> Iterator[TensorRule]:
    """Attention and network side by side have one norm in common."""
    yield from embedding(h)
    yield tensor("output_norm.weight", "model.norm.weight", h.n_embd)
    for layer in map(Layer, range(h.n_layers)):
        yield from layer.norm("attn_norm", "input_layernorm", h.n_embd)
        yield from attention(layer, h)
        if has_qk_norms:
            q, k = "self_attn.q_norm.weight", "self_attn.k_norm.weight"
            yield layer.tensor("attn_q_norm.weight", q, h.n_heads, h.head_dim)
            yield layer.tensor("attn_k_norm.weight", k, h.n_kv_heads, h.head_dim)
        yield from gated_ffn(layer, h.n_embd, h.n_ff)


VOCABULARY = VocabularyOptions(pre_names={"smollm": "command-r"})
COMMAND_R = Architecture(
    "command-r", ("CohereForCausalLM",), ("cohere",), declare_command_r, VOCABULARY
)
COHERE2 = Architecture(
    "cohere2", ("Cohere2ForCausalLM",), ("cohere2",), declare_cohere2, VOCABULARY
)
