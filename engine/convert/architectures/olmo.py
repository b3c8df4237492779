"""OLMo 2 and 3, which have their norms after attention and network, and OLMoE.

Source: llama.cpp conversion/olmo.py; src/models/olmo2.cpp, olmoe.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.convert.architecture import Architecture, Declared, Shapes, TensorRule
from engine.convert.config import Config, unsupported
from engine.convert.rope import require_full_rotation, rope_kind, rope_of
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
    read_transformer,
    sliding_window_keys,
)
from engine.gguf_values import Value


def declare_olmo2(config: Config, shapes: Shapes) -> Declared:
    """Also OLMo 3, where the config has a sliding window."""
    require_full_rotation(config)
    h = read_transformer(config, shapes)
    is_olmo3 = config.has("sliding_window")
    keys = common_keys(config, h, rope_theta=500_000.0 if is_olmo3 else 10_000.0)
    if is_olmo3:
        keys |= sliding_window_keys(config, h.n_layers, period=4)
        keys["rope.freq_base_swa"] = keys["rope.freq_base"]
        if _has_other_rotation_in_windows(config, keys["rope.freq_base"]):
            raise unsupported("another rotation in its sliding windows")
    return Declared(keys, _olmo2_rules(h), ignored=(*BUFFERS, *tied_copies(h)))


def _has_other_rotation_in_windows(config: Config, theta: Value) -> bool:
    """llama.cpp computes windows without a scaling, and with the base of all other layers."""
    if not config.section("rope_parameters").has("sliding_attention"):
        return False
    rope = rope_of(config, "sliding_attention")
    return rope_kind(rope) != "default" or rope.number("rope_theta", theta.value) != theta.value


def declare_olmoe(config: Config, shapes: Shapes) -> Declared:
    require_full_rotation(config)
    if config.flag("norm_topk_prob", False):
        raise unsupported("normalized weights of its experts")
    if config.has("clip_qkv"):
        raise unsupported("clipped attention")
    config = config.under(rms_norm_eps=1e-5)
    h = read_transformer(config, shapes)
    keys = common_keys(config, h)
    n_experts = count_experts(config, "num_experts")
    rules = _olmoe_rules(h, shapes, n_experts)
    return Declared(keys, rules, ignored=(*BUFFERS, *tied_copies(h)))


def _olmo2_rules(h: Transformer) -> Iterator[TensorRule]:
    yield from embedding(h)
    yield tensor("output_norm.weight", "model.norm.weight", h.n_embd)
    for layer in map(Layer, range(h.n_layers)):
        yield from _attention(layer, h)
        yield from layer.norm("post_attention_norm", "post_attention_layernorm", h.n_embd)
        yield from gated_ffn(layer, h.n_embd, h.n_ff)
        yield from layer.norm("post_ffw_norm", "post_feedforward_layernorm", h.n_embd)


def _olmoe_rules(h: Transformer, shapes: Shapes, n_experts: int) -> Iterator[TensorRule]:
    yield from embedding(h)
    yield tensor("output_norm.weight", "model.norm.weight", h.n_embd)
    for layer in map(Layer, range(h.n_layers)):
        yield from layer.norm("attn_norm", "input_layernorm", h.n_embd)
        yield from _attention(layer, h)
        yield from layer.norm("ffn_norm", "post_attention_layernorm", h.n_embd)
        yield layer.tensor("ffn_gate_inp.weight", "mlp.gate.weight", n_experts, h.n_embd)
        yield from experts_ffn(layer, shapes, n_experts, h.n_embd, h.n_ff)


def _attention(layer: Layer, h: Transformer) -> Iterator[TensorRule]:
    """All heads are normalized together."""
    yield from attention(layer, h)
    yield from layer.qk_norms(h.n_q, h.n_kv)


OLMO2 = Architecture(
    "olmo2", ("Olmo2ForCausalLM", "Olmo3ForCausalLM"), ("olmo2", "olmo3"), declare_olmo2
)
OLMOE = Architecture("olmoe", ("OlmoeForCausalLM",), ("olmoe",), declare_olmoe)
