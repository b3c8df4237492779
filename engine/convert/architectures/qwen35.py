"""Qwen 3.5, the text part: most layers have linear attention (a gated delta net).

Source: llama.cpp conversion/qwen.py; src/models/qwen35.cpp, qwen35moe.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from engine.convert.architecture import Architecture, Declared, Order, Part, Shapes, TensorRule
from engine.convert.architectures.qwen import moe
from engine.convert.config import Config, unsupported
from engine.convert.rope import n_rotated, rope_of
from engine.convert.rules import (
    BUFFERS,
    Layer,
    embedding,
    gated_ffn,
    plus_one,
    tensor,
    tied_copies,
)
from engine.convert.transformer import Transformer, common_keys, moe_keys, read_transformer
from engine.gguf_values import Value, ValueType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MROPE_SECTION = [11, 11, 10]  # transformers' Qwen3_5RotaryEmbedding, where the config is silent
FURTHER_TOKENS = r"(model\.)?mtp\..*"
"""The layers that predict further tokens, for speed only."""


class Linear(msgspec.Struct, frozen=True):
    """Linear attention: value heads go in groups, one for each key head."""

    n_k_heads: int
    n_v_heads: int
    k_dim: int
    v_dim: int
    n_conv: int

    @property
    def n_k(self) -> int:
        return self.n_k_heads * self.k_dim

    @property
    def n_v(self) -> int:
        return self.n_v_heads * self.v_dim

    def tiled(self, size: int) -> Order:
        """The order of value heads of `size` rows: the first of each group, the second, ...

        As llama.cpp repeats key heads; Hugging Face has group after group.
        """
        return Order((self.n_k_heads, self.n_v_heads // self.n_k_heads, size), (1, 0, 2))


def declare(config: Config, shapes: Shapes, *, is_moe: bool) -> Declared:
    # Where all layers have experts there is no other width.
    n_ff = config.raw("moe_intermediate_size") if is_moe else None
    h = read_transformer(config.under(intermediate_size=n_ff), shapes)
    n_k_heads = config.count("linear_num_key_heads")
    a = Linear(
        n_k_heads=n_k_heads,
        n_v_heads=config.count("linear_num_value_heads"),
        k_dim=config.count("linear_key_head_dim"),
        v_dim=config.count("linear_value_head_dim"),
        n_conv=config.count("linear_conv_kernel_dim"),
    )
    if a.n_v_heads % a.n_k_heads:
        raise config.bad(f"{a.n_v_heads} value heads cannot share {a.n_k_heads} key heads")
    if a.k_dim != a.v_dim:
        raise unsupported("linear attention with heads of two sizes")
    if not config.flag("attn_output_gate", True):
        raise unsupported("attention without a gate")
    is_linear = _linear_layers(config, h.n_layers)
    keys = common_keys(config, h) | _keys(config, h, a, is_linear)
    if is_moe:
        keys |= moe_keys(config)
        if not config.has("intermediate_size"):
            del keys["feed_forward_length"]
    return Declared(
        keys,
        rules=_rules(h, a, shapes, config, is_linear, is_moe=is_moe),
        ignored=(*BUFFERS, *tied_copies(h), FURTHER_TOKENS),
    )


def _linear_layers(config: Config, n_layers: int) -> list[bool]:
    interval = config.count("full_attention_interval", 4)
    kinds = config.texts("layer_types", n_layers) or [
        "full_attention" if (i + 1) % interval == 0 else "linear_attention" for i in range(n_layers)
    ]
    if not {*kinds} <= {"full_attention", "linear_attention"}:
        raise config.bad(f"layer_types has {sorted({*kinds})}"[:80])
    return [kind == "linear_attention" for kind in kinds]


def _keys(config: Config, h: Transformer, a: Linear, is_linear: list[bool]) -> dict[str, Value]:
    rope = rope_of(config)
    share = rope.number("partial_rotary_factor", 0.25)
    sections = rope.counts("mrope_section") or MROPE_SECTION
    if len(sections) > 4:
        raise config.bad(f"mrope_section has {len(sections)} items")
    return {
        "ssm.conv_kernel": Value.u32(a.n_conv),
        "ssm.state_size": Value.u32(a.k_dim),
        "ssm.group_count": Value.u32(a.n_k_heads),
        "ssm.time_step_rank": Value.u32(a.n_v_heads),
        "ssm.inner_size": Value.u32(a.n_v),
        "attention.recurrent_layers": Value.array(ValueType.BOOL, is_linear),
        "full_attention_interval": Value.u32(config.count("full_attention_interval", 4)),
        "rope.dimension_count": Value.u32(n_rotated(config, share, h.head_dim)),
        "rope.dimension_sections": Value.array(
            ValueType.INT32, sections + [0] * (4 - len(sections))
        ),
    }


def _rules(
    h: Transformer,
    a: Linear,
    shapes: Shapes,
    config: Config,
    is_linear: list[bool],
    *,
    is_moe: bool,
) -> Iterator[TensorRule]:
    yield from embedding(h)
    yield tensor("output_norm.weight", "model.norm.weight", h.n_embd, change=plus_one)
    norms = {"attn_norm": "input_layernorm", "post_attention_norm": "post_attention_layernorm"}
    for layer in map(Layer, range(h.n_layers)):
        for ours, theirs in norms.items():
            yield layer.tensor(f"{ours}.weight", f"{theirs}.weight", h.n_embd, change=plus_one)
        yield from _linear(layer, h, a) if is_linear[layer.index] else _attention(layer, h)
        yield from moe(layer, h, shapes, config) if is_moe else gated_ffn(layer, h.n_embd, h.n_ff)


def _attention(layer: Layer, h: Transformer) -> Iterator[TensorRule]:
    """Every head's query comes with a gate of the same size."""
    yield from layer.linear("attn_q", "self_attn.q_proj", 2 * h.n_q, h.n_embd)
    yield from layer.linear("attn_k", "self_attn.k_proj", h.n_kv, h.n_embd)
    yield from layer.linear("attn_v", "self_attn.v_proj", h.n_kv, h.n_embd)
    yield from layer.linear("attn_output", "self_attn.o_proj", h.n_embd, h.n_q)
    yield from layer.qk_norms(h.head_dim, h.head_dim, change=plus_one)


def _linear(layer: Layer, h: Transformer, a: Linear) -> Iterator[TensorRule]:
    stem = f"{layer.theirs}linear_attn."
    n_qkv = 2 * a.n_k + a.n_v

    def rule(
        ours: str, theirs: str, shape: tuple[int, ...], order: Order, change: object = None
    ) -> TensorRule:
        part = Part((stem + theirs,), shape, order=order)
        return TensorRule(layer.ours + ours, shape, (part,), _minus_exp if change else None)

    def qkv(ours: str, theirs: str, stored: tuple[int, ...], n_cols: int) -> TensorRule:
        """Queries and keys as they are, then values in their order."""
        first = Part((stem + theirs,), stored, rows=range(2 * a.n_k))
        values = range(2 * a.n_k, n_qkv)
        second = Part((stem + theirs,), stored, rows=values, order=a.tiled(a.v_dim))
        return TensorRule(layer.ours + ours, (n_qkv, n_cols), (first, second))

    yield qkv("attn_qkv.weight", "in_proj_qkv.weight", (n_qkv, h.n_embd), h.n_embd)
    yield qkv("ssm_conv1d.weight", "conv1d.weight", (n_qkv, 1, a.n_conv), a.n_conv)
    heads, wide = a.tiled(1), a.tiled(a.v_dim)
    yield rule("attn_gate.weight", "in_proj_z.weight", (a.n_v, h.n_embd), wide)
    yield rule("ssm_beta.weight", "in_proj_b.weight", (a.n_v_heads, h.n_embd), heads)
    yield rule("ssm_alpha.weight", "in_proj_a.weight", (a.n_v_heads, h.n_embd), heads)
    yield rule("ssm_dt.bias", "dt_bias", (a.n_v_heads,), heads)
    yield rule("ssm_a", "A_log", (a.n_v_heads,), heads, change=True)
    yield layer.tensor("ssm_norm.weight", "linear_attn.norm.weight", a.v_dim)
    out = Part((f"{stem}out_proj.weight",), (h.n_embd, a.n_v), cols=wide)
    yield TensorRule(f"{layer.ours}ssm_out.weight", (h.n_embd, a.n_v), (out,))


def _minus_exp(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """What is stored is the logarithm of the decay."""
    import numpy as np

    # numpy's own float32 exponential is off in the last bit at times.
    return -np.exp(values, dtype=np.float64).astype(np.float32)


QWEN35 = Architecture(
    "qwen35",
    ("Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration"),
    ("qwen3_5", "qwen3_5_text"),
    partial(declare, is_moe=False),
)
QWEN35MOE = Architecture(
    "qwen35moe",
    ("Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration"),
    ("qwen3_5_moe", "qwen3_5_moe_text"),
    partial(declare, is_moe=True),
)
