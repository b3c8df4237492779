"""Headers of models of real shapes, without their weights: a sparse file makes one loadable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.ggml_types import GgmlType
from engine.gguf import encode_header, gguf_size_bytes
from engine.gguf_values import TensorInfo, Value, ValueType

WORD_TYPE_NORMAL = 1


@dataclass(frozen=True)
class Header:
    """What stands at the beginning of a GGUF."""

    metadata: dict[str, Value]
    tensors: tuple[TensorInfo, ...]

    def write_sparse(self, path: Path) -> Path:
        """A file as long as the model, all of whose weights are zero and take no room on disk."""
        header, _ = encode_header(self.metadata, self.tensors)
        with path.open("wb") as file:
            file.write(header)
            file.truncate(gguf_size_bytes(self.metadata, self.tensors))
        return path


@dataclass(frozen=True)
class Sizes:
    """The shape of a model, in the words of GGUF metadata."""

    n_layers: int
    n_embd: int
    n_ff: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_vocab: int
    n_ctx_train: int = 131_072
    window: int = 0
    n_experts: int = 0


SIZES = {
    "llama": Sizes(16, 2048, 8192, 32, 8, 64, 128_256),
    "qwen2": Sizes(24, 896, 4864, 14, 2, 64, 151_936),
    "qwen3": Sizes(28, 1024, 3072, 16, 8, 128, 151_936),
    "gemma2": Sizes(26, 2304, 9216, 8, 4, 256, 256_000, 8192, window=4096),
    "gemma3": Sizes(26, 1152, 6912, 4, 1, 256, 262_144, 32_768, window=512),
    "phi3": Sizes(32, 3072, 8192, 32, 32, 96, 32_064, 4096),
    "qwen3moe": Sizes(12, 2048, 768, 32, 4, 128, 151_936, n_experts=32),
}
"""Llama 3.2 1B, Qwen2.5 0.5B, Qwen3 0.6B, Gemma 2 2B, Gemma 3 1B, Phi-3 mini, a small Qwen3 MoE."""


def header(
    architecture: str, weights: GgmlType = GgmlType.Q8_0, sizes: Sizes | None = None
) -> Header:
    """The header of a model of `architecture`, its matrices of type `weights`."""
    sizes = sizes or SIZES[architecture]
    shapes = _shapes(architecture, sizes)
    tensors = tuple(
        TensorInfo(name, shape, GgmlType.F32 if len(shape) == 1 else weights)
        for name, shape in shapes.items()
    )
    return Header(_metadata(architecture, sizes), tensors)


def _metadata(architecture: str, sizes: Sizes) -> dict[str, Value]:
    numbers = {
        "block_count": sizes.n_layers,
        "embedding_length": sizes.n_embd,
        "feed_forward_length": sizes.n_ff,
        "attention.head_count": sizes.n_heads,
        "attention.head_count_kv": sizes.n_kv_heads,
        "attention.key_length": sizes.head_dim,
        "attention.value_length": sizes.head_dim,
        "rope.dimension_count": sizes.head_dim,
        "context_length": sizes.n_ctx_train,
        "vocab_size": sizes.n_vocab,
    }
    if sizes.window:
        numbers["attention.sliding_window"] = sizes.window
    if sizes.n_experts:
        numbers |= {"expert_count": sizes.n_experts, "expert_used_count": 8}
        numbers["expert_feed_forward_length"] = sizes.n_ff
    tokens = [f"t{i}" for i in range(sizes.n_vocab)]
    return {
        "general.architecture": Value.string(architecture),
        **{f"{architecture}.{key}": Value.u32(number) for key, number in numbers.items()},
        f"{architecture}.attention.layer_norm_rms_epsilon": Value.f32(1e-6),
        "tokenizer.ggml.model": Value.string("gpt2"),
        "tokenizer.ggml.pre": Value.string("llama-bpe"),
        "tokenizer.ggml.tokens": Value.array(ValueType.STRING, tokens),
        "tokenizer.ggml.token_type": Value.array(ValueType.INT32, [WORD_TYPE_NORMAL] * len(tokens)),
        "tokenizer.ggml.merges": Value.array(ValueType.STRING, ["t 1"]),
    }


def _shapes(architecture: str, s: Sizes) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (s.n_embd, s.n_vocab),
        "output_norm.weight": (s.n_embd,),
    }
    if architecture == "phi3":
        shapes["output.weight"] = (s.n_embd, s.n_vocab)
    for i in range(s.n_layers):
        shapes |= {f"blk.{i}.{name}": shape for name, shape in _layer(architecture, s).items()}
    return shapes


def _layer(architecture: str, s: Sizes) -> dict[str, tuple[int, ...]]:
    n_q, n_kv = s.n_heads * s.head_dim, s.n_kv_heads * s.head_dim
    layer: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (s.n_embd,),
        "ffn_norm.weight": (s.n_embd,),
        "attn_output.weight": (n_q, s.n_embd),
    }
    if architecture == "phi3":
        layer["attn_qkv.weight"] = (s.n_embd, n_q + 2 * n_kv)
        layer["ffn_up.weight"] = (s.n_embd, 2 * s.n_ff)
        layer["ffn_down.weight"] = (s.n_ff, s.n_embd)
        return layer
    layer |= {f"attn_{x}.weight": (s.n_embd, n) for x, n in (("q", n_q), ("k", n_kv), ("v", n_kv))}
    if architecture == "qwen2":
        layer |= {f"attn_{x}.bias": (n,) for x, n in (("q", n_q), ("k", n_kv), ("v", n_kv))}
    if architecture in ("qwen3", "qwen3moe", "gemma3"):
        layer |= {f"attn_{x}_norm.weight": (s.head_dim,) for x in ("q", "k")}
    if architecture in ("gemma2", "gemma3"):
        layer |= {f"post_{x}_norm.weight": (s.n_embd,) for x in ("attention", "ffw")}
    if s.n_experts:
        layer["ffn_gate_inp.weight"] = (s.n_embd, s.n_experts)
        layer |= {f"ffn_{x}_exps.weight": (s.n_embd, s.n_ff, s.n_experts) for x in ("gate", "up")}
        layer["ffn_down_exps.weight"] = (s.n_ff, s.n_embd, s.n_experts)
    else:
        layer |= {f"ffn_{x}.weight": (s.n_embd, s.n_ff) for x in ("gate", "up")}
        layer["ffn_down.weight"] = (s.n_ff, s.n_embd)
    return layer
