"""Tiny base models and LoRA adapters whose numbers come from names alone, on every computer alike.

They are those of tests/engine/data/lora.json, which `tests/record/lora.py` recorded with PEFT and
with llama.cpp's converter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.convert.architectures import find_architecture
from engine.convert.config import Config
from tests.helpers.checkpoints import (
    CHATML,
    Tensors,
    vocabulary,
    write_json,
    write_safetensors,
    write_tokenizer,
)

RECORDED = Path(__file__).parents[1] / "engine" / "data" / "lora.json"
Shapes = Mapping[str, tuple[int, ...]]

_SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": len(vocabulary()[0]),
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", **_SIZES}
BASES: dict[str, dict[str, Any]] = {
    "llama": {**_LLAMA, "tie_word_embeddings": False, "attention_bias": True},
    "llama-tied": {**_LLAMA, "tie_word_embeddings": True},
    "phi3": {
        **_SIZES, "architectures": ["Phi3ForCausalLM"], "model_type": "phi3",
        "tie_word_embeddings": False, "original_max_position_embeddings": 256,
    },
    "qwen2-moe": {
        **_SIZES, "architectures": ["Qwen2MoeForCausalLM"], "model_type": "qwen2_moe",
        "tie_word_embeddings": False, "num_experts": 4, "num_experts_per_tok": 2,
        "moe_intermediate_size": 16, "shared_expert_intermediate_size": 24,
    },
}  # fmt: skip
"""config.json by name."""


class Merged(msgspec.Struct, frozen=True):
    """A tensor after the merge: the sum of its sizes, and some of its numbers."""

    total: float
    sample: list[float]


class Case(msgspec.Struct, frozen=True):
    """An adapter and what others make of it.

    `merged` is what PEFT makes of the changed tensors of `base`, `gguf` what llama.cpp's converter
    makes of the adapter: the type and a digest of each tensor, in F32 and in F16. `alpha` is that
    of its file.
    """

    base: str
    config: dict[str, Any]
    dtype: str
    tensors: Shapes
    merged: dict[str, Merged]
    alpha: float | None
    gguf: dict[str, tuple[tuple[int, ...], str, str]]


def load_cases() -> dict[str, Case]:
    return msgspec.json.decode(RECORDED.read_bytes(), type=dict[str, Case])


def base_tensors(config: dict[str, Any]) -> Tensors:
    """Every tensor that the architecture asks for, and those biases that the config promises."""
    tensors: Tensors = {}
    for rule in find_architecture(config).declare(Config(config), {}).rules:
        for part in rule.parts:
            name = part.names[0]
            is_bias = name.endswith("_proj.bias")
            if rule.is_required or (is_bias and config.get("attention_bias")):
                tensors[name] = base_numbers(name, part.shape)
    return tensors


def base_numbers(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Of a size that keeps the logits lively: norms are around 1."""
    if len(shape) == 1:
        center = 0.0 if name.endswith("bias") else 1.0
        return center + even_numbers(name, shape, 0.2)
    return even_numbers(name, shape, 0.5 if "embed" in name else 1.7 / shape[-1] ** 0.5)


def write_base(folder: Path, name: str, **changes: Any) -> Path:
    """Write the checkpoint BASES[name] in F32."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {**BASES[name], **changes}
    write_json(folder / "config.json", config)
    write_tokenizer(folder, *vocabulary(), CHATML)
    write_safetensors(folder / "model.safetensors", base_tensors(config))
    return folder


def adapter_tensors(shapes: Shapes, base: str) -> Tensors:
    """Numbers that change a model visibly; norms and magnitudes of DoRA are around 1.

    Copies of matrices that are adapted (base_layer) are as they are in the base model.
    """
    originals = base_tensors(BASES[base])
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith(".base_layer.weight"):
            original = name.removeprefix("base_model.model.").replace(".base_layer", "")
            tied = originals["model.embed_tokens.weight"]
            tensors[name] = originals.get(original, tied)
        else:
            is_around_1 = len(shape) == 1 and not name.endswith("bias")
            tensors[name] = even_numbers(name, shape, 0.3) + np.float32(is_around_1)
    return tensors


def write_adapter(
    folder: Path, config: dict[str, Any], tensors: Tensors, dtype: str = "F32"
) -> Path:
    """Write an adapter as PEFT saves it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "adapter_config.json", config)
    write_safetensors(folder / "adapter_model.safetensors", tensors, dtype)
    return folder


def write_case(folder: Path, case: Case) -> tuple[Path, Path]:
    """Write base model and adapter of `case`."""
    base = write_base(folder / "base", case.base)
    tensors = adapter_tensors(case.tensors, case.base)
    return base, write_adapter(folder / "adapter", case.config, tensors, case.dtype)


def measured(values: NDArray[np.float32], n: int = 48) -> Merged:
    """What is recorded of a tensor: its sample goes through rows and columns."""
    flat = values.reshape(-1)
    step = max(1, len(flat) // n) | 1
    total = float(np.abs(flat.astype(np.float64)).sum())
    return Merged(total, flat[::step][:n].astype(float).tolist())


def even_numbers(name: str, shape: tuple[int, ...], spread: float) -> NDArray[np.float32]:
    """Evenly spread numbers around 0 that belong to `name`, float32."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    # SplitMix64 (Steele, Lea, Flood 2014), the nth state of which is known without the others.
    state = np.uint64(seed) + np.arange(1, prod(shape) + 1, dtype=np.uint64) * np.uint64(
        0x9E3779B97F4A7C15
    )
    state = (state ^ state >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ state >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    even = (state >> np.uint64(40)).astype(np.float32) * np.float32(2**-23) - np.float32(1)
    return (even * np.float32(spread)).reshape(shape)
