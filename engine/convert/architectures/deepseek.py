"""DeepSeek V2 and V3: latent attention, and experts of which some are always used.

Source: llama.cpp conversion/deepseek.py, src/models/deepseek2.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from engine.convert.architecture import Architecture, Declared, Part, Shapes, TensorRule
from engine.convert.config import Config, unsupported
from engine.convert.rope import rope_of
from engine.convert.rules import (
    BUFFERS,
    Layer,
    embedding,
    experts_ffn,
    gated_ffn,
    tensor,
    tied_copies,
)
from engine.convert.transformer import Transformer, common_keys, count_experts, read_transformer
from engine.gguf_values import Value

# llama.cpp tells models without a compressed query by their number of layers.
LAYERS_WITHOUT_Q_LORA = (26, 27, 48)


class Latent(msgspec.Struct, frozen=True):
    """The sizes of latent attention; `q_rank` 0 where the query is not compressed."""

    q_rank: int
    kv_rank: int
    nope: int
    rope: int
    value: int

    @property
    def query(self) -> int:
        return self.nope + self.rope


class Moe(msgspec.Struct, frozen=True):
    """Experts from layer `n_dense` on, `n_shared` of them always used."""

    n_experts: int
    n_shared: int
    n_ff: int
    n_dense: int


def declare(config: Config, shapes: Shapes) -> Declared:
    config = config.under(rms_norm_eps=1e-6)
    h = read_transformer(config.under(head_dim=2), shapes)  # heads have no single size here
    a = Latent(
        q_rank=config.count("q_lora_rank", 0),
        kv_rank=config.count("kv_lora_rank", 512),
        nope=config.count("qk_nope_head_dim"),
        rope=config.count("qk_rope_head_dim"),
        value=config.count("v_head_dim"),
    )
    if not a.q_rank and h.n_layers not in LAYERS_WITHOUT_Q_LORA:
        raise unsupported("queries that are not compressed")
    moe = Moe(
        n_experts=count_experts(config, "n_routed_experts", 0),
        n_shared=config.count("n_shared_experts", 0, smallest=0),
        n_ff=config.count("moe_intermediate_size", h.n_ff),
        n_dense=config.count("first_k_dense_replace", 0, smallest=0),
    )
    if not moe.n_experts:
        raise unsupported("latent attention and no experts")
    if config.count("moe_layer_freq", 1) != 1:
        raise unsupported("experts in some of its layers only")
    return Declared(
        keys=_grouped(config, moe, common_keys(config, h)) | _keys(config, h, a, moe),
        rules=_rules(h, a, shapes, moe),
        # The layers after the last one predict further tokens, for speed only.
        ignored=(*BUFFERS, *tied_copies(h), _layers_from(h.n_layers)),
    )


def _grouped(config: Config, moe: Moe, keys: dict[str, Value]) -> dict[str, Value]:
    """`keys` without groups of experts where all groups are used: llama.cpp aborts there."""
    n_groups, n_used = config.count("n_group", 1), config.count("topk_group", 1)
    if n_used > n_groups or moe.n_experts % n_groups:
        raise config.bad(f"n_group {n_groups} and topk_group {n_used} do not fit together")
    keys.pop("rope.scaling.attn_factor", None)  # yarn_log_multiplier makes up for it
    if 1 < n_groups == n_used:
        groups = ("expert_group_count", "expert_group_used_count")
        return {key: value for key, value in keys.items() if key not in groups}
    return keys


def _layers_from(n_layers: int) -> str:
    return rf"model\.layers\.(?!({'|'.join(map(str, range(n_layers)))})\.)\d+\..*"


def _keys(config: Config, h: Transformer, a: Latent, moe: Moe) -> dict[str, Value]:
    # llama.cpp keeps one compressed head in the cache, and unpacks it for each query.
    sizes = {
        "attention.head_count_kv": 1,
        "attention.kv_lora_rank": a.kv_rank,
        "attention.key_length": a.kv_rank + a.rope,
        "attention.value_length": a.kv_rank,
        "attention.key_length_mla": a.query,
        "attention.value_length_mla": a.value,
        "rope.dimension_count": a.rope,
        "vocab_size": h.n_vocab,
        "leading_dense_block_count": moe.n_dense,
        "expert_feed_forward_length": moe.n_ff,
        "expert_shared_count": moe.n_shared,
    }
    if a.q_rank:
        sizes["attention.q_lora_rank"] = a.q_rank
    keys = {key: Value.u32(size) for key, size in sizes.items()}
    if config.has("routed_scaling_factor"):
        keys["expert_weights_scale"] = Value.f32(config.number("routed_scaling_factor"))
    if config.flag("norm_topk_prob", False):
        keys["expert_weights_norm"] = Value.boolean(True)
    rope = rope_of(config)
    if rope.has("mscale_all_dim"):
        if rope.number("mscale", 1.0) != rope.number("mscale_all_dim"):
            raise unsupported("a mscale other than mscale_all_dim")
        factor = 0.1 * rope.number("mscale_all_dim")
        keys["rope.scaling.yarn_log_multiplier"] = Value.f32(factor)
    return keys


def _rules(h: Transformer, a: Latent, shapes: Shapes, moe: Moe) -> Iterator[TensorRule]:
    yield from embedding(h)
    yield tensor("output_norm.weight", "model.norm.weight", h.n_embd)
    for layer in map(Layer, range(h.n_layers)):
        yield from layer.norm("attn_norm", "input_layernorm", h.n_embd)
        yield from _attention(layer, h, a)
        yield from layer.norm("ffn_norm", "post_attention_layernorm", h.n_embd)
        if layer.index < moe.n_dense:
            yield from gated_ffn(layer, h.n_embd, h.n_ff)
        else:
            yield from _moe(layer, h, shapes, moe)


def _attention(layer: Layer, h: Transformer, a: Latent) -> Iterator[TensorRule]:
    n_q = h.n_heads * a.query
    if a.q_rank:
        yield from layer.linear("attn_q_a", "self_attn.q_a_proj", a.q_rank, h.n_embd)
        yield from layer.norm("attn_q_a_norm", "self_attn.q_a_layernorm", a.q_rank)
        yield from layer.linear("attn_q_b", "self_attn.q_b_proj", n_q, a.q_rank)
    else:
        yield from layer.linear("attn_q", "self_attn.q_proj", n_q, h.n_embd)
    down = "self_attn.kv_a_proj_with_mqa"
    yield from layer.linear("attn_kv_a_mqa", down, a.kv_rank + a.rope, h.n_embd)
    yield from layer.norm("attn_kv_a_norm", "self_attn.kv_a_layernorm", a.kv_rank)
    yield from _unpacking(layer, h, a)
    yield from layer.linear("attn_output", "self_attn.o_proj", h.n_embd, h.n_heads * a.value)


def _unpacking(layer: Layer, h: Transformer, a: Latent) -> Iterator[TensorRule]:
    """What unpacks keys (transposed, to be multiplied into the query) and values, head by head."""
    names = (f"{layer.theirs}self_attn.kv_b_proj.weight",)
    size = a.nope + a.value
    stored = (h.n_heads * size, a.kv_rank)
    keys, values = [], []
    for start in range(0, h.n_heads * size, size):
        middle = start + a.nope
        keys.append(Part(names, stored, rows=range(start, middle), is_transposed=True))
        values.append(Part(names, stored, rows=range(middle, start + size)))
    k_shape, v_shape = (h.n_heads, a.kv_rank, a.nope), (h.n_heads, a.value, a.kv_rank)
    yield TensorRule(f"{layer.ours}attn_k_b.weight", k_shape, tuple(keys))
    yield TensorRule(f"{layer.ours}attn_v_b.weight", v_shape, tuple(values))


def _moe(layer: Layer, h: Transformer, shapes: Shapes, moe: Moe) -> Iterator[TensorRule]:
    yield layer.tensor("ffn_gate_inp.weight", "mlp.gate.weight", moe.n_experts, h.n_embd)
    bias = Part((f"{layer.theirs}mlp.gate.e_score_correction_bias",), (moe.n_experts,))
    bias_name = f"{layer.ours}exp_probs_b.bias"
    yield TensorRule(bias_name, (moe.n_experts,), (bias,), is_required=False)
    yield from experts_ffn(layer, shapes, moe.n_experts, h.n_embd, moe.n_ff)
    if moe.n_shared:
        n_ff = moe.n_shared * moe.n_ff
        yield from gated_ffn(layer, h.n_embd, n_ff, theirs="mlp.shared_experts.", suffix="_shexp")


DEEPSEEK2 = Architecture(
    "deepseek2",
    ("DeepseekV2ForCausalLM", "DeepseekV3ForCausalLM"),
    ("deepseek_v2", "deepseek_v3"),
    declare,
)
