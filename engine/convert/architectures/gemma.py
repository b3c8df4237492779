"""Gemma 1, 2 and 3, the text part.

Source: llama.cpp conversion/gemma.py; src/models/gemma.cpp, gemma2.cpp, gemma3.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from engine.convert.architecture import Architecture, Declared, Shapes, TensorRule
from engine.convert.config import Config, unsupported
from engine.convert.rope import rope_of
from engine.convert.rules import (
    BUFFERS,
    Change,
    Layer,
    attention,
    embedding,
    gated_ffn,
    plus_one,
    scaled,
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

GELU = ("gelu_pytorch_tanh", "gelu")  # "gelu" in old configs means the tanh one too


def declare_gemma(config: Config, shapes: Shapes) -> Declared:
    h = _read(config, shapes)
    return _declared(h, common_keys(config, h, says_usual_rope=False), has_post_norms=False)


def declare_gemma2(config: Config, shapes: Shapes) -> Declared:
    h = _read(config, shapes)
    require_usual_layers(config, h.n_layers, period=2)
    for field in ("attn_logit_softcapping", "final_logit_softcapping", "sliding_window"):
        if config.is_null(field):
            raise unsupported(f"no {field}")
    keys = common_keys(config, h, says_usual_rope=False) | {
        "attn_logit_softcapping": Value.f32(config.number("attn_logit_softcapping", 50.0)),
        "final_logit_softcapping": Value.f32(config.number("final_logit_softcapping", 30.0)),
        "attention.sliding_window": Value.u32(config.count("sliding_window", 4096)),
    }
    q_change = _query_change(config, h, layers_of_27b=46)
    return _declared(h, keys, has_post_norms=True, q_change=q_change)


def declare_gemma3(config: Config, shapes: Shapes) -> Declared:
    config = config.under(
        max_position_embeddings=131_072, num_attention_heads=8, num_key_value_heads=4,
        head_dim=256, rms_norm_eps=1e-6,
    )  # fmt: skip
    h = _read(config, shapes)
    if config.has("attn_logit_softcapping"):
        raise unsupported("capped attention")
    keys = common_keys(config, h, rope_theta=1_000_000.0)
    if config.has("final_logit_softcapping"):
        keys["final_logit_softcapping"] = Value.f32(config.number("final_logit_softcapping"))
    if config.count("sliding_window_pattern", 6) != 1:
        require_usual_layers(config, h.n_layers, period=6)
        keys["attention.sliding_window"] = Value.u32(config.count("sliding_window"))
    if config.section("rope_parameters").has("sliding_attention"):
        theta = rope_of(config, "sliding_attention").number("rope_theta")
    else:
        theta = config.number("rope_local_base_freq", 10_000.0)
    keys["rope.freq_base_swa"] = Value.f32(theta)
    if _query_change(config, h, layers_of_27b=62):
        # A norm comes between the query's matrix and what is scaled.
        raise unsupported("an attention scale of its own")
    return _declared(h, keys, has_post_norms=True, has_qk_norms=True)


def _read(config: Config, shapes: Shapes) -> Transformer:
    return read_transformer(config, shapes, tied=True, activations=GELU)


def _query_change(config: Config, h: Transformer, layers_of_27b: int) -> Change | None:
    """What makes up for the scale of llama.cpp, where the model's own is another one.

    That goes by the size of a head, in the 27B by its share of the embedding.
    """
    usual = h.n_embd // h.n_heads if h.n_layers == layers_of_27b else h.head_dim
    own = config.number("query_pre_attn_scalar", usual)
    return None if own == usual else scaled(math.sqrt(usual / own))


def _declared(
    h: Transformer,
    keys: dict[str, Value],
    *,
    has_post_norms: bool,
    has_qk_norms: bool = False,
    q_change: Change | None = None,
) -> Declared:
    rules = _rules(h, has_post_norms, has_qk_norms, q_change)
    return Declared(keys, rules, ignored=(*BUFFERS, *tied_copies(h)))


def _rules(
    h: Transformer, has_post_norms: bool, has_qk_norms: bool, q_change: Change | None
) -> Iterator[TensorRule]:
    yield from embedding(h)
    yield tensor("output_norm.weight", "model.norm.weight", h.n_embd, change=plus_one)
    norms = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
    if has_post_norms:
        norms |= {
            "post_attention_norm": "post_attention_layernorm",
            "ffn_norm": "pre_feedforward_layernorm",
            "post_ffw_norm": "post_feedforward_layernorm",
        }
    for layer in map(Layer, range(h.n_layers)):
        for ours, theirs in norms.items():
            yield layer.tensor(f"{ours}.weight", f"{theirs}.weight", h.n_embd, change=plus_one)
        yield from attention(layer, h, q_change=q_change)
        if has_qk_norms:
            yield from layer.qk_norms(h.head_dim, h.head_dim, change=plus_one)
        yield from gated_ffn(layer, h.n_embd, h.n_ff)


GEMMA = Architecture("gemma", ("GemmaForCausalLM",), ("gemma",), declare_gemma)
GEMMA2 = Architecture("gemma2", ("Gemma2ForCausalLM",), ("gemma2",), declare_gemma2)
GEMMA3 = Architecture(
    "gemma3",
    ("Gemma3ForCausalLM", "Gemma3ForConditionalGeneration"),
    ("gemma3", "gemma3_text"),
    declare_gemma3,
)
