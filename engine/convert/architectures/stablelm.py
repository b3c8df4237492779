"""StableLM, also with norms of queries and keys. Source: llama.cpp conversion/stablelm.py."""

from __future__ import annotations

from collections.abc import Iterator

from engine.convert.architecture import Architecture, Declared, Part, Shapes, TensorRule
from engine.convert.config import Config
from engine.convert.options import VocabularyOptions
from engine.convert.rope import n_rotated, rope_of
from engine.convert.rules import (
    BUFFERS,
    Layer,
    attention,
    embedding,
    gated_ffn,
    tensor,
    tied_copies,
)
from engine.convert.transformer import Transformer, common_keys, read_transformer
from engine.gguf_values import Value


def declare(config: Config, shapes: Shapes) -> Declared:
    h = read_transformer(config, shapes)
    is_parallel = config.flag("use_parallel_residual", False)
    share = rope_of(config).number("partial_rotary_factor", 0.25)
    n_rot = n_rotated(config, share, h.head_dim)
    keys = common_keys(config, h, says_usual_rope=False) | {
        "rope.dimension_count": Value.u32(n_rot),
        "use_parallel_residual": Value.boolean(is_parallel),
    }
    rules = _rules(h, has_qk_norms=config.flag("qk_layernorm", False))
    return Declared(keys, rules, ignored=(*BUFFERS, *tied_copies(h)))


def _rules(h: Transformer, *, has_qk_norms: bool) -> Iterator[TensorRule]:
    yield from embedding(h)
    yield tensor("output_norm.weight", "model.norm.weight", h.n_embd)
    yield tensor("output_norm.bias", "model.norm.bias", h.n_embd)
    for layer in map(Layer, range(h.n_layers)):
        yield from layer.norm("attn_norm", "input_layernorm", h.n_embd)
        yield from attention(layer, h)
        if has_qk_norms:
            yield _head_norms(layer, "q", h.n_heads, h.head_dim)
            yield _head_norms(layer, "k", h.n_kv_heads, h.head_dim)
        # Attention and network side by side have one norm in common.
        yield from layer.norm("ffn_norm", "post_attention_layernorm", h.n_embd, is_required=False)
        yield from gated_ffn(layer, h.n_embd, h.n_ff)


def _head_norms(layer: Layer, kind: str, n_heads: int, head_dim: int) -> TensorRule:
    """A norm for every head, stacked."""
    stem = f"{layer.theirs}self_attn.{kind}_layernorm.norms."
    parts = tuple(Part((f"{stem}{i}.weight",), (head_dim,)) for i in range(n_heads))
    return TensorRule(f"{layer.ours}attn_{kind}_norm.weight", (n_heads, head_dim), parts)


VOCABULARY = VocabularyOptions(pre_names={"qwen2": "stablelm2"})
STABLELM = Architecture(
    "stablelm",
    ("StableLmForCausalLM", "StableLMEpochForCausalLM"),
    ("stablelm",),
    declare,
    VOCABULARY,
)
