"""Model files for pictures: real headers of well-known sizes over empty data that takes no disk."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from engine.ggml_types import FileType, GgmlType
from engine.gguf import encode_header, gguf_size_bytes
from engine.gguf_values import TensorInfo, Value
from engine.quantize.recipe import RECIPES, tensor_types


class Shape(msgspec.Struct, frozen=True):
    """The sizes that make up a Llama model."""

    n_layers: int
    n_embd: int
    n_ff: int
    n_heads: int
    n_kv_heads: int
    n_vocab: int
    n_ctx: int
    is_tied: bool


TINY = Shape(6, 384, 1024, 6, 2, 8192, 2048, is_tied=True)
SMALL = Shape(32, 960, 2560, 15, 5, 49152, 8192, is_tied=True)
MEDIUM = Shape(28, 3072, 8192, 24, 8, 128256, 131072, is_tied=True)
LARGE = Shape(32, 4096, 14336, 32, 8, 128256, 131072, is_tied=False)
HUGE = Shape(80, 8192, 28672, 64, 8, 128256, 131072, is_tied=False)


def write_empty_model(path: Path, name: str, shape: Shape, recipe: str, licence: str = "") -> Path:
    """Write a GGUF of `shape` in the types of `recipe` (or BF16 or F16); its data is a hole."""
    float_type = GgmlType[recipe] if recipe in ("BF16", "F16") else GgmlType.BF16
    tensors = _tensors(shape, float_type)
    metadata = _metadata(name, shape, FileType[recipe], licence)
    if recipe in RECIPES:
        types = tensor_types(RECIPES[recipe], tensors, metadata)
        tensors = [msgspec.structs.replace(t, type=types[t.name]) for t in tensors]
    path.parent.mkdir(parents=True, exist_ok=True)
    header, _alignment = encode_header(metadata, tensors)
    path.write_bytes(header)
    os.truncate(path, gguf_size_bytes(metadata, tensors))
    return path


def _metadata(name: str, shape: Shape, file_type: FileType, licence: str) -> dict[str, Value]:
    head_dim = shape.n_embd // shape.n_heads
    metadata = {
        "general.architecture": Value.string("llama"),
        "general.name": Value.string(name),
        "general.file_type": Value.u32(file_type),
        "llama.block_count": Value.u32(shape.n_layers),
        "llama.context_length": Value.u32(shape.n_ctx),
        "llama.embedding_length": Value.u32(shape.n_embd),
        "llama.feed_forward_length": Value.u32(shape.n_ff),
        "llama.attention.head_count": Value.u32(shape.n_heads),
        "llama.attention.head_count_kv": Value.u32(shape.n_kv_heads),
        "llama.attention.key_length": Value.u32(head_dim),
        "llama.attention.value_length": Value.u32(head_dim),
        "llama.attention.layer_norm_rms_epsilon": Value.f32(1e-5),
        "llama.rope.dimension_count": Value.u32(head_dim),
        "llama.vocab_size": Value.u32(shape.n_vocab),
        "tokenizer.chat_template": Value.string("{{ messages[0].content }}"),
    }
    if licence:
        metadata["general.license"] = Value.string(licence)
    return metadata


def _tensors(shape: Shape, float_type: GgmlType) -> list[TensorInfo]:
    n_kv = shape.n_embd // shape.n_heads * shape.n_kv_heads
    n_embd, n_ff = shape.n_embd, shape.n_ff
    tensors = [TensorInfo("token_embd.weight", (n_embd, shape.n_vocab), float_type)]
    for i in range(shape.n_layers):
        matrices = {
            "attn_k": (n_embd, n_kv),
            "attn_output": (n_embd, n_embd),
            "attn_q": (n_embd, n_embd),
            "attn_v": (n_embd, n_kv),
            "ffn_down": (n_ff, n_embd),
            "ffn_gate": (n_embd, n_ff),
            "ffn_up": (n_embd, n_ff),
        }
        tensors += [
            TensorInfo(f"blk.{i}.{role}.weight", size, float_type)
            for role, size in matrices.items()
        ]
        tensors += [
            TensorInfo(f"blk.{i}.{role}.weight", (n_embd,), GgmlType.F32)
            for role in ("attn_norm", "ffn_norm")
        ]
    tensors.append(TensorInfo("output_norm.weight", (n_embd,), GgmlType.F32))
    if not shape.is_tied:
        tensors.append(TensorInfo("output.weight", (n_embd, shape.n_vocab), float_type))
    return tensors
