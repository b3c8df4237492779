"""Llama, and Mistral and Mixtral, which are the same network.

Source: llama.cpp conversion/llama.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.convert.architecture import Architecture, Declared, Shapes, TensorRule
from engine.convert.config import Config
from engine.convert.rope import KINDS, require_full_rotation, rope_tensors
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
    within_window,
)
from engine.gguf_values import Value


def declare(config: Config, shapes: Shapes, *, rope_theta: float = 10_000.0) -> Declared:
    """A Llama, dense, or with experts if the config counts any."""
    require_full_rotation(config)
    h = read_transformer(config, shapes)
    n_experts = count_experts(config, "num_local_experts", 0)
    keys = common_keys(config, h, ropes=(*KINDS, "llama3"), rope_theta=rope_theta) | {
        "vocab_size": Value.u32(h.n_vocab),
        "rope.dimension_count": Value.u32(h.head_dim),
    }
    if config.has("sliding_window") and _has_windows(config):
        keys |= within_window(config)
    return Declared(
        keys,
        rules=rules(h, shapes, n_experts),
        made=rope_tensors(config, h.head_dim),
        ignored=(*BUFFERS, *tied_copies(h)),
    )


def declare_llama(config: Config, shapes: Shapes) -> Declared:
    """A Llama says the size of its heads, of which old configs say nothing."""
    if config.count("num_local_experts", 0, smallest=0):
        return declare(config, shapes, rope_theta=1_000_000.0)
    n_embd, n_heads = config.count("hidden_size"), config.count("num_attention_heads")
    return declare(config.under(head_dim=n_embd // n_heads), shapes)


def _has_windows(config: Config) -> bool:
    """Whether it is a Mistral or a Mixtral: a Llama has no sliding windows, whatever it says."""
    names = (*config.texts("architectures"), config.text("model_type").capitalize())
    is_one = any(name.startswith(("Mistral", "Mixtral")) for name in names)
    return is_one and config.flag("use_sliding_window", True)


def rules(h: Transformer, shapes: Shapes, n_experts: int = 0) -> Iterator[TensorRule]:
    yield from embedding(h)
    yield tensor("output_norm.weight", "model.norm.weight", h.n_embd)
    for layer in map(Layer, range(h.n_layers)):
        yield from layer.norm("attn_norm", "input_layernorm", h.n_embd)
        yield from attention(layer, h, is_interleaved=True)
        yield from layer.norm("ffn_norm", "post_attention_layernorm", h.n_embd)
        if not n_experts:
            yield from gated_ffn(layer, h.n_embd, h.n_ff)
            continue
        router = "block_sparse_moe.gate.weight"
        yield layer.tensor("ffn_gate_inp.weight", router, n_experts, h.n_embd)
        yield from experts_ffn(
            layer,
            shapes,
            n_experts,
            h.n_embd,
            h.n_ff,
            theirs="block_sparse_moe.experts.{}.",
            names=("w1", "w3", "w2"),
        )


LLAMA = Architecture(
    name="llama",
    hf_names=(
        "LlamaForCausalLM",
        "LLaMAForCausalLM",
        "MistralForCausalLM",
        "MixtralForCausalLM",
    ),
    model_types=("llama", "mistral", "mixtral"),
    declare=declare_llama,
)
