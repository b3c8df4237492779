"""OpenAI's gpt-oss, with experts in MXFP4 as published, or in BF16.

Source: llama.cpp conversion/gpt_oss.py, src/models/openai-moe.cpp.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.convert.architecture import Architecture, Declared, Part, Shapes, TensorRule
from engine.convert.config import Config, unsupported
from engine.convert.rules import BUFFERS, Layer, attention, embedding, tensor, tied_copies
from engine.convert.transformer import Transformer, common_keys, count_experts, read_transformer
from engine.gguf_values import Value

WINDOW_PERIOD = 2


def declare(config: Config, shapes: Shapes) -> Declared:
    h = read_transformer(config, shapes)
    kinds = config.texts("layer_types", h.n_layers)
    expected = [
        "full_attention" if i % WINDOW_PERIOD else "sliding_attention" for i in range(h.n_layers)
    ]
    if kinds and kinds != expected:
        raise unsupported("sliding windows in other layers than usual")
    keys = common_keys(config, h, rope_theta=150_000.0) | {
        "attention.sliding_window": Value.u32(config.count("sliding_window")),
        "expert_feed_forward_length": Value.u32(h.n_ff),
    }
    rules = _rules(h, shapes, count_experts(config, "num_local_experts"))
    return Declared(keys, rules, ignored=(*BUFFERS, *tied_copies(h)))


def _rules(h: Transformer, shapes: Shapes, n_experts: int) -> Iterator[TensorRule]:
    yield from embedding(h)
    yield tensor("output_norm.weight", "model.norm.weight", h.n_embd)
    for layer in map(Layer, range(h.n_layers)):
        yield from layer.norm("attn_norm", "input_layernorm", h.n_embd)
        yield from attention(layer, h)
        yield layer.tensor("attn_sinks.weight", "self_attn.sinks", h.n_heads)
        yield from layer.norm("post_attention_norm", "post_attention_layernorm", h.n_embd)
        yield from layer.linear("ffn_gate_inp", "mlp.router", n_experts, h.n_embd)
        yield from _experts(layer, h, shapes, n_experts)


def _experts(layer: Layer, h: Transformer, shapes: Shapes, n_experts: int) -> Iterator[TensorRule]:
    """Every expert's gate and up projections take turns, row by row."""
    gate, up = range(0, 2 * h.n_ff, 2), range(1, 2 * h.n_ff, 2)
    both, down = "mlp.experts.gate_up_proj", "mlp.experts.down_proj"
    n_both, n_down = (n_experts, 2 * h.n_ff, h.n_embd), (n_experts, h.n_embd, h.n_ff)
    is_packed = shapes.get(layer.theirs + both) == n_both and n_both != _swapped(n_both)
    if is_packed and shapes.get(layer.theirs + down) == n_down:
        yield layer.slice("ffn_gate_exps.weight", both, n_both, gate)
        yield layer.slice("ffn_up_exps.weight", both, n_both, up)
        yield layer.tensor("ffn_down_exps.weight", down, *n_down)
    else:
        yield _transposed(layer, "ffn_gate_exps.weight", both, _swapped(n_both), gate)
        yield _transposed(layer, "ffn_up_exps.weight", both, _swapped(n_both), up)
        yield _transposed(layer, "ffn_down_exps.weight", down, _swapped(n_down), range(h.n_embd))
    for ours, rows in (("ffn_gate_exps.bias", gate), ("ffn_up_exps.bias", up)):
        part = Part((f"{layer.theirs}{both}_bias",), (n_experts, 2 * h.n_ff), cols=rows)
        yield TensorRule(layer.ours + ours, (n_experts, h.n_ff), (part,))
    yield layer.tensor("ffn_down_exps.bias", f"{down}_bias", n_experts, h.n_embd)


def _swapped(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    return shape[0], shape[2], shape[1]


def _transposed(
    layer: Layer, ours: str, theirs: str, stored: tuple[int, int, int], cols: range
) -> TensorRule:
    """The columns `cols` of every matrix, as rows."""
    n_experts, n_rows, _ = stored
    parts = tuple(
        Part(
            (layer.theirs + theirs,),
            stored,
            rows=range(i * n_rows, (i + 1) * n_rows),
            cols=cols,
            is_transposed=True,
        )
        for i in range(n_experts)
    )
    return TensorRule(layer.ours + ours, (n_experts, len(cols), n_rows), parts)


GPT_OSS = Architecture("gpt-oss", ("GptOssForCausalLM",), ("gpt_oss",), declare)
