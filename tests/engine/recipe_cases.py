"""Headers of many models, without data: what the rules of the recipes are compared on.

`python -m tests.engine.recipe_cases path/to/llama-quantize` asks llama.cpp's own tool for the type
of every tensor (`--dry-run` on sparse files) and records the answers in data/recipes.json.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from engine.ggml_types import GgmlType
from engine.gguf import TensorInfo, Value, ValueType, encode_header, gguf_size_bytes
from engine.quantize.recipe import RECIPES, in_file_order

LAYERS_AND_GQA = {1: (1,), 2: (1, 4), 8: (4,), 13: (8,), 22: (8,), 32: (1, 4), 80: (1, 8)}
RECORDED = Path(__file__).parent / "data" / "recipes.json"


class Case(msgspec.Struct, frozen=True):
    """A model: metadata of its architecture, tensors that occur once, tensors of every layer."""

    name: str
    architecture: str
    n_layers: int
    metadata: dict[str, int | float | list[int]]
    once: dict[str, list[int]]
    of_layer: dict[str, list[int]]

    @property
    def typed_metadata(self) -> dict[str, Value]:
        values: dict[str, Value] = {
            "general.architecture": Value.string(self.architecture),
            f"{self.architecture}.block_count": Value.u32(self.n_layers),
        }
        for key, value in self.metadata.items():
            if isinstance(value, list):
                typed = Value.array(ValueType.UINT32, value)
            else:
                typed = Value.f32(value) if isinstance(value, float) else Value.u32(value)
            values[f"{self.architecture}.{key}"] = typed
        return values

    @property
    def tensors(self) -> list[TensorInfo]:
        shapes = dict(self.once)
        for i in range(self.n_layers):
            shapes |= {f"blk.{i}.{name}": shape for name, shape in self.of_layer.items()}
        # Backwards, because the order of the source must not matter.
        return [_info(name, tuple(shape)) for name, shape in reversed(shapes.items())]


def in_words(names: Sequence[str]) -> str:
    """Types in file order as a short text, such as "Q6_K Q4_K*3 F32"."""
    runs = [(name, len(list(run))) for name, run in groupby(names)]
    return " ".join(name if n == 1 else f"{name}*{n}" for name, n in runs)


def _info(name: str, shape: tuple[int, ...]) -> TensorInfo:
    return TensorInfo(name, shape, GgmlType.F32 if len(shape) == 1 else GgmlType.F16)


def _llama(
    name: str,
    n_layers: int,
    n_embd: int = 512,
    n_ff: int = 1536,
    *,
    n_gqa: int = 1,
    n_experts: int = 0,
    tied: bool = False,
    architecture: str = "llama",
) -> Case:
    n_heads, n_vocab = 8, 1000
    n_kv = n_heads // n_gqa
    head_dim = n_embd // n_heads
    metadata: dict[str, Any] = {
        "context_length": 2048,
        "embedding_length": n_embd,
        "feed_forward_length": n_ff,
        "attention.head_count": n_heads,
        "attention.head_count_kv": n_kv,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.dimension_count": head_dim,
    }
    once = {"token_embd.weight": [n_embd, n_vocab], "output_norm.weight": [n_embd]}
    if not tied:
        once["output.weight"] = [n_embd, n_vocab]
    of_layer = {
        "attn_norm.weight": [n_embd],
        "attn_q.weight": [n_embd, n_embd],
        "attn_k.weight": [n_embd, n_kv * head_dim],
        "attn_v.weight": [n_embd, n_kv * head_dim],
        "attn_q.bias": [n_embd],
        "attn_output.weight": [n_embd, n_embd],
        "ffn_norm.weight": [n_embd],
    }
    if n_experts:
        metadata |= {"expert_count": n_experts, "expert_used_count": 2}
        of_layer |= {
            "ffn_gate_inp.weight": [n_embd, n_experts],
            "ffn_gate_exps.weight": [n_embd, n_ff, n_experts],
            "ffn_up_exps.weight": [n_embd, n_ff, n_experts],
            "ffn_down_exps.weight": [n_ff, n_embd, n_experts],
            "ffn_down_shexp.weight": [n_ff, n_embd],
        }
    else:
        of_layer |= {
            "ffn_gate.weight": [n_embd, n_ff],
            "ffn_up.weight": [n_embd, n_ff],
            "ffn_down.weight": [n_ff, n_embd],
        }
    return Case(name, architecture, n_layers, metadata, once, of_layer)


def _fused(
    name: str, architecture: str, n_layers: int, epsilon_key: str, once: dict[str, list[int]]
) -> Case:
    """A model with one matrix for Q, K and V, as falcon, GPT-2 and Phi-3 have."""
    metadata: dict[str, Any] = {
        "context_length": 2048,
        "embedding_length": 512,
        "feed_forward_length": 2048,
        "attention.head_count": 8,
        "attention.head_count_kv": 1 if architecture == "falcon" else 8,
        f"attention.{epsilon_key}": 1e-5,
        "rope.dimension_count": 64,
    }
    of_layer = {
        "attn_norm.weight": [512],
        "attn_qkv.weight": [512, 768],
        "attn_output.weight": [512, 512],
        "ffn_up.weight": [512, 2048],
        "ffn_down.weight": [2048, 512],
    }
    return Case(name, architecture, n_layers, metadata, once, of_layer)


def all_cases() -> list[Case]:
    """Build the cases; their names are the keys of the record."""
    embedding = {"token_embd.weight": [512, 1000]}
    untied = embedding | {"output.weight": [512, 1000]}
    cases = [
        _llama(f"llama, {n} layers, GQA {gqa}", n, n_gqa=gqa, tied=n % 4 == 0)
        for n, gqas in LAYERS_AND_GQA.items()
        for gqa in gqas
    ]
    cases += [
        _llama(f"llama, {n_embd} x {n_ff}{', tied' * tied}", 5, n_embd=n_embd, n_ff=n_ff, tied=tied)
        for n_embd, n_ff in (
            (896, 4864),
            (576, 1536),
            (64, 172),
            (128, 384),
            (200, 300),
            (512, 300),
        )
        for tied in (False, True)
    ]
    cases += [
        _llama(f"llama, {n_experts} experts, {n} layers", n, n_gqa=4, n_experts=n_experts)
        for n_experts in (4, 8, 16)
        for n in (3, 17)
    ]
    cases += [
        _llama(f"{architecture}, 80 layers, GQA {gqa}", 80, n_gqa=gqa, architecture=architecture)
        for architecture, gqa in (("qwen2", 1), ("qwen2", 8), ("deci", 4), ("llama-embed", 8))
    ]
    cases.append(_llama("qwen2moe", 24, n_gqa=2, n_experts=60, architecture="qwen2moe"))
    cases += [
        _fused(f"falcon, {n} layers", "falcon", n, "layer_norm_epsilon", untied)
        for n in (2, 32, 60)
    ]
    cases.append(_fused("falcon, tied", "falcon", 32, "layer_norm_epsilon", embedding))
    positions = {"position_embd.weight": [512, 1024]}
    cases.append(_fused("gpt2", "gpt2", 12, "layer_norm_epsilon", untied | positions))
    cases.append(_fused("phi3", "phi3", 32, "layer_norm_rms_epsilon", untied))
    types = {"token_types.weight": [512, 2]}
    cases.append(_fused("bert", "bert", 6, "layer_norm_epsilon", embedding | positions | types))
    per_layer = _llama("llama, heads by layer", 16, n_gqa=4)
    uneven = {"attention.head_count_kv": [2] * 8 + [8] * 8}
    cases.append(msgspec.structs.replace(per_layer, metadata=per_layer.metadata | uneven))
    odd = _llama("llama, names that are kept", 4)
    kept = {
        "ssm_conv1d.weight": [512, 8],
        "attn_q_norm.weight": [512, 8],
        "altup_proj.weight": [512, 512],
        "time_mix_w1.weight": [512, 64],
        "attn_kv_b.weight": [512, 256],
        "cross_attn_k.weight": [512, 64],
        "thin.weight": [512, 1],
        "anything.weight": [512, 16],
        "attn_scale": [512, 16],
    }
    cases.append(msgspec.structs.replace(odd, of_layer=odd.of_layer | kept))
    return cases


def ask_llama_quantize(tool: str, case: Case, recipe: str) -> str:
    """Return the types that `tool` would give, in the order of its file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sparse.gguf"
        header, _ = encode_header(case.typed_metadata, case.tensors)
        with path.open("wb") as file:
            file.write(header)
            file.truncate(gguf_size_bytes(case.typed_metadata, case.tensors))
        done = subprocess.run(
            [tool, "--dry-run", str(path), recipe], capture_output=True, text=True, check=True
        )
    found: dict[str, str] = {}
    line = re.compile(r"\[ *\d+/ *\d+\] (\S+) .*?type = +(\w+), (?:.*\((\w+)\))?")
    for name, old, new in line.findall(done.stdout + done.stderr):
        found[name] = (new or old).upper()
    return in_words([found[tensor.name] for tensor in in_file_order(case.tensors)])


def main(tool: str) -> None:
    recorded = {
        case.name: {name: ask_llama_quantize(tool, case, name) for name in RECIPES}
        for case in all_cases()
    }
    RECORDED.write_bytes(msgspec.json.format(msgspec.json.encode(recorded), indent=1) + b"\n")
    print(f"{len(recorded)} models recorded in {RECORDED}")


if __name__ == "__main__":
    main(sys.argv[1])
