"""Llama, and Mistral, which is the same network.

GGUF keys as llama.cpp's own converter writes them (conversion/base.py, conversion/llama.py).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from engine.convert.architecture import Architecture, MadeTensor, TensorRule
from engine.convert.config import Config
from engine.errors import CorruptFile, UnsupportedArchitecture
from engine.gguf_values import Value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
MAX_LAYERS = 1024


class RopeScaling(msgspec.Struct, frozen=True):
    """How the rotary embedding is stretched; the last three only for kind "llama3"."""

    kind: str
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_n_ctx: int = 8192


class Llama(msgspec.Struct, frozen=True):
    """The hyperparameters of a Llama."""

    n_layers: int
    n_embd: int
    n_ff: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_vocab: int
    n_ctx_train: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    is_tied: bool


def read(config: Config, shapes: Mapping[str, tuple[int, ...]]) -> Llama:
    """Check the config; the vocabulary is as large as the stored embedding."""
    activation = config.text("hidden_act", "silu")
    if activation not in ("silu", "swish"):
        raise _unsupported(f"the activation {activation!a}")
    rotary_parts = (config, config.section("rope_parameters"))
    if any(part.number("partial_rotary_factor", 1.0) != 1.0 for part in rotary_parts):
        raise _unsupported("a partly rotary attention")
    n_embd = config.count("hidden_size")
    n_heads = config.count("num_attention_heads")
    n_kv_heads = config.count("num_key_value_heads", n_heads)
    if n_heads % n_kv_heads:
        raise _bad(f"{n_heads} heads cannot share {n_kv_heads} key-value heads")
    if not config.has("head_dim") and n_embd % n_heads:
        raise _bad(f"hidden_size {n_embd} is not a multiple of {n_heads} heads")
    head_dim = config.count("head_dim", n_embd // n_heads)
    if head_dim % 2:
        raise _bad(f"head_dim {head_dim} is odd")
    n_ctx_train = config.count("max_position_embeddings", 2048)
    # llama.cpp runs this architecture without a sliding window; within one window it is the same.
    n_ctx_train = min(n_ctx_train, config.count("sliding_window", n_ctx_train))
    is_tied = config.flag("tie_word_embeddings", False)
    stored = shapes.get(EMBEDDING) or (shapes.get(OUTPUT) if is_tied else None)
    return Llama(
        n_layers=config.count("num_hidden_layers", largest=MAX_LAYERS),
        n_embd=n_embd,
        n_ff=config.count("intermediate_size"),
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        head_dim=head_dim,
        n_vocab=stored[0] if stored else config.count("vocab_size"),
        n_ctx_train=n_ctx_train,
        rms_norm_eps=config.number("rms_norm_eps", 1e-6),
        rope_theta=_rope_theta(config),
        rope_scaling=_rope_scaling(config),
        is_tied=is_tied,
    )


def metadata(h: Llama) -> dict[str, Value]:
    keys = {
        "llama.block_count": Value.u32(h.n_layers),
        "llama.context_length": Value.u32(h.n_ctx_train),
        "llama.embedding_length": Value.u32(h.n_embd),
        "llama.feed_forward_length": Value.u32(h.n_ff),
        "llama.attention.head_count": Value.u32(h.n_heads),
        "llama.attention.head_count_kv": Value.u32(h.n_kv_heads),
        "llama.rope.freq_base": Value.f32(h.rope_theta),
        "llama.attention.layer_norm_rms_epsilon": Value.f32(h.rms_norm_eps),
        "llama.attention.key_length": Value.u32(h.head_dim),
        "llama.attention.value_length": Value.u32(h.head_dim),
        "llama.vocab_size": Value.u32(h.n_vocab),
        "llama.rope.dimension_count": Value.u32(h.head_dim),
    }
    if h.rope_scaling and h.rope_scaling.kind == "linear":
        keys["llama.rope.scaling.type"] = Value.string("linear")
        keys["llama.rope.scaling.factor"] = Value.f32(h.rope_scaling.factor)
    return keys


def tensors(h: Llama) -> Iterator[TensorRule]:
    n_q, n_kv = h.n_heads * h.head_dim, h.n_kv_heads * h.head_dim
    # Tied checkpoints may store the shared matrix under either name.
    embedding = (EMBEDDING, OUTPUT) if h.is_tied else (EMBEDDING,)
    yield TensorRule("token_embd.weight", embedding, (h.n_vocab, h.n_embd))
    for i in range(h.n_layers):
        ours, theirs = f"blk.{i}.", f"model.layers.{i}."
        attention, mlp = theirs + "self_attn.", theirs + "mlp."
        yield _norm(ours + "attn_norm", theirs + "input_layernorm", h)
        yield from _linear(ours + "attn_q", attention + "q_proj", n_q, h.n_embd, h.n_heads)
        yield from _linear(ours + "attn_k", attention + "k_proj", n_kv, h.n_embd, h.n_kv_heads)
        yield from _linear(ours + "attn_v", attention + "v_proj", n_kv, h.n_embd)
        yield from _linear(ours + "attn_output", attention + "o_proj", h.n_embd, n_q)
        yield _norm(ours + "ffn_norm", theirs + "post_attention_layernorm", h)
        yield from _linear(ours + "ffn_gate", mlp + "gate_proj", h.n_ff, h.n_embd)
        yield from _linear(ours + "ffn_up", mlp + "up_proj", h.n_ff, h.n_embd)
        yield from _linear(ours + "ffn_down", mlp + "down_proj", h.n_embd, h.n_ff)
    yield _norm("output_norm", "model.norm", h)
    if not h.is_tied:
        yield TensorRule("output.weight", (OUTPUT,), (h.n_vocab, h.n_embd))


def made_tensors(h: Llama) -> Iterator[MadeTensor]:
    if h.rope_scaling and h.rope_scaling.kind == "llama3":
        yield MadeTensor("rope_freqs.weight", h.head_dim // 2, lambda: rope_factors(h))


def is_ignored(name: str, h: Llama) -> bool:
    """Buffers that old checkpoints store, and a second copy of a tied matrix."""
    is_buffer = name.endswith((".rotary_emb.inv_freq", ".attention.bias", ".masked_bias"))
    return is_buffer or (h.is_tied and name in (EMBEDDING, OUTPUT))


def rope_factors(h: Llama) -> NDArray[np.float32]:
    """What each rotary frequency is divided by, [head_dim / 2]: 1 for the high, factor for the low.

    In float32 throughout, as transformers' _compute_llama3_parameters and llama.cpp's converter do.
    """
    import numpy as np

    scaling = h.rope_scaling
    assert scaling is not None
    one = np.float32(1)
    exponents = np.arange(0, h.head_dim, 2, dtype=np.float32) / np.float32(h.head_dim)
    # numpy's float32 power is off in the last bit where torch's is not.
    powers = np.power(h.rope_theta, exponents.astype(np.float64)).astype(np.float32)
    frequencies = one / powers
    wavelengths = np.float32(2 * math.pi) / frequencies
    low, high = np.float32(scaling.low_freq_factor), np.float32(scaling.high_freq_factor)
    original = np.float32(scaling.original_n_ctx)
    factor = np.float32(scaling.factor)
    smooth = (original / wavelengths - low) / (high - low)
    factors = one / ((one - smooth) / factor + smooth)
    factors = np.where(wavelengths < original / high, one, factors)
    return np.where(wavelengths > original / low, factor, factors).astype(np.float32)


def _norm(name: str, source: str, h: Llama) -> TensorRule:
    return TensorRule(f"{name}.weight", (f"{source}.weight",), (h.n_embd,))


def _linear(
    name: str, source: str, n_out: int, n_in: int, n_heads: int = 0
) -> Iterator[TensorRule]:
    yield TensorRule(f"{name}.weight", (f"{source}.weight",), (n_out, n_in), n_heads)
    yield TensorRule(f"{name}.bias", (f"{source}.bias",), (n_out,), n_heads, is_required=False)


def _rope_theta(config: Config) -> float:
    # transformers 5 moved rope_theta into rope_parameters.
    return config.section("rope_parameters").number(
        "rope_theta", config.number("rope_theta", 10_000.0)
    )


def _rope_scaling(config: Config) -> RopeScaling | None:
    key = "rope_parameters" if config.has("rope_parameters") else "rope_scaling"
    section = config.section(key)
    kind = section.text("rope_type", section.text("type", "default")).lower()
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling(kind, section.number("factor"))
    if kind != "llama3":
        raise _unsupported(f"the rope scaling {kind[:40]!a}")
    scaling = RopeScaling(
        kind,
        section.number("factor", 8.0),
        section.number("low_freq_factor", 1.0),
        section.number("high_freq_factor", 4.0),
        section.count("original_max_position_embeddings", 8192),
    )
    if scaling.high_freq_factor <= scaling.low_freq_factor:
        raise _bad("high_freq_factor is not above low_freq_factor")
    return scaling


def _unsupported(what: str) -> UnsupportedArchitecture:
    return UnsupportedArchitecture(
        f"Snug cannot convert a Llama with {what} yet.",
        hint="Look for a GGUF of this model.",
    )


def _bad(why: str) -> CorruptFile:
    return CorruptFile(
        f"config.json is damaged: {why}.",
        hint="Download config.json again from where the checkpoint came from.",
    )


LLAMA = Architecture(
    name="llama",
    hf_names=("LlamaForCausalLM", "LLaMAForCausalLM", "MistralForCausalLM"),
    model_types=("llama", "mistral"),
    read=read,
    metadata=metadata,
    tensors=tensors,
    made_tensors=made_tensors,
    is_ignored=is_ignored,
)
