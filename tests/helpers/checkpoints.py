"""A tiny Llama checkpoint of random weights, in every respect like a real one: made here, by seed.

Its tokenizer is a byte-level BPE with a few hundred merges of common English, so that text is
worth more than bytes and any text can be written; its chat template is ChatML.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# Words whose letters are merged from left to right, the space first.
WORDS = """the and was to he she it in of that they with said had his her you on for day big one
very little once upon time there play happy went saw name friend wanted loved"""

Tensors = dict[str, NDArray[Any]]


def write_tiny_checkpoint(
    folder: Path,
    *,
    seed: int = 0,
    hidden: int = 256,
    ffn: int = 512,
    n_layers: int = 2,
    n_heads: int = 4,
    n_kv_heads: int = 2,
    n_ctx: int = 512,
    n_pad: int = 0,
    sharded: bool = False,
    tied: bool = True,
    bias: bool = False,
    dtype: str = "BF16",
    chat_template: str | None = CHATML,
    **config: Any,
) -> Path:
    """Write the checkpoint into `folder` and return it.

    `n_pad` rows of the embedding belong to no token; `config` adds to or replaces keys of
    config.json. Weights are normal with a spread that keeps the logits lively but not wild.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokens, merges = vocabulary()
    n_vocab = len(tokens) + n_pad
    write_json(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": hidden,
            "intermediate_size": ffn,
            "num_hidden_layers": n_layers,
            "num_attention_heads": n_heads,
            "num_key_value_heads": n_kv_heads,
            "head_dim": hidden // n_heads,
            "vocab_size": n_vocab,
            "max_position_embeddings": n_ctx,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "hidden_act": "silu",
            "tie_word_embeddings": tied,
            "bos_token_id": 0,
            "eos_token_id": 2,
            **config,
        },
    )
    write_json(folder / "generation_config.json", {"bos_token_id": 0, "eos_token_id": [2, 0]})
    write_tokenizer(folder, tokens, merges, chat_template)
    tensors = random_tensors(
        seed, n_vocab, hidden, ffn, n_layers, n_heads, n_kv_heads, tied=tied, bias=bias
    )
    if sharded:
        write_shards(folder, tensors, dtype)
    else:
        write_safetensors(folder / "model.safetensors", tensors, dtype)
    return folder


def random_tensors(
    seed: int,
    n_vocab: int,
    hidden: int,
    ffn: int,
    n_layers: int,
    n_heads: int,
    n_kv_heads: int,
    *,
    tied: bool,
    bias: bool = False,
) -> Tensors:
    """Float32 tensors under their Hugging Face names."""
    rng = np.random.default_rng(seed)
    n_kv = hidden // n_heads * n_kv_heads
    tensors: Tensors = {}

    def linear(name: str, n_out: int, n_in: int) -> None:
        spread = 1.5 / np.sqrt(n_in)
        tensors[f"{name}.weight"] = rng.normal(0, spread, (n_out, n_in)).astype(np.float32)
        if bias:
            tensors[f"{name}.bias"] = rng.normal(0, 0.1, n_out).astype(np.float32)

    def norm(name: str) -> None:
        tensors[f"{name}.weight"] = (1 + rng.normal(0, 0.1, hidden)).astype(np.float32)

    embedding = rng.normal(0, 0.3, (n_vocab, hidden)).astype(np.float32)
    tensors["model.embed_tokens.weight"] = embedding
    for i in range(n_layers):
        layer = f"model.layers.{i}"
        norm(f"{layer}.input_layernorm")
        linear(f"{layer}.self_attn.q_proj", hidden, hidden)
        linear(f"{layer}.self_attn.k_proj", n_kv, hidden)
        linear(f"{layer}.self_attn.v_proj", n_kv, hidden)
        linear(f"{layer}.self_attn.o_proj", hidden, hidden)
        norm(f"{layer}.post_attention_layernorm")
        linear(f"{layer}.mlp.gate_proj", ffn, hidden)
        linear(f"{layer}.mlp.up_proj", ffn, hidden)
        linear(f"{layer}.mlp.down_proj", hidden, ffn)
    norm("model.norm")
    if not tied:
        tensors["lm_head.weight"] = rng.normal(0, 0.3, (n_vocab, hidden)).astype(np.float32)
    return tensors


def vocabulary() -> tuple[list[str], list[tuple[str, str]]]:
    """Special tokens, the 256 bytes, and what the merges of WORDS make; and the merges."""
    tokens = [*SPECIAL, *byte_characters()]
    merges: list[tuple[str, str]] = []
    for word in WORDS.split():
        left = "Ġ"  # the byte-level space
        for letter in word:
            if left + letter not in tokens:
                merges.append((left, letter))
                tokens.append(left + letter)
            left += letter
    return tokens, merges


def byte_characters() -> list[str]:
    """The character that byte-level BPE writes for each byte 0 to 255 (GPT-2's table)."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


def write_tokenizer(
    folder: Path,
    tokens: list[str],
    merges: list[tuple[str, str]],
    chat_template: str | None = None,
) -> None:
    special = [
        {"id": i, "content": text, "special": True, "normalized": False, "single_word": False,
         "lstrip": False, "rstrip": False}
        for i, text in enumerate(SPECIAL)
    ]  # fmt: skip
    split = {"type": "Split", "pattern": {"Regex": LLAMA3_SPLIT}, "behavior": "Isolated",
             "invert": False}  # fmt: skip
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
                  "use_regex": False}  # fmt: skip
    model = {
        "type": "BPE",
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {text: i for i, text in enumerate(tokens)},
        "merges": [list(pair) for pair in merges],
    }
    write_json(
        folder / "tokenizer.json",
        {
            "version": "1.0",
            "added_tokens": special,
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
            "post_processor": None,
            "decoder": byte_level,
            "model": model,
        },
    )
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL[0],
        "eos_token": SPECIAL[2],
        "pad_token": SPECIAL[0],
        "add_bos_token": False,
    }
    if chat_template is not None:
        settings["chat_template"] = chat_template
    write_json(folder / "tokenizer_config.json", settings)


def write_shards(folder: Path, tensors: Tensors, dtype: str, n_shards: int = 2) -> None:
    """Write `tensors` in shards with their index."""
    names = list(tensors)
    weight_map = {}
    for i in range(n_shards):
        shard = f"model-{i + 1:05}-of-{n_shards:05}.safetensors"
        mine = names[i * len(names) // n_shards : (i + 1) * len(names) // n_shards]
        write_safetensors(folder / shard, {name: tensors[name] for name in mine}, dtype)
        weight_map.update(dict.fromkeys(mine, shard))
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})


def write_safetensors(path: Path, tensors: Tensors, dtype: str = "F32") -> None:
    """Write float32 `tensors` as `dtype`: F32, F16 or BF16 (rounded to nearest even)."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    chunks, offset = [], 0
    for name, values in tensors.items():
        data = _stored(values, dtype)
        header[name] = {
            "dtype": dtype,
            "shape": list(values.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        offset += len(data)
        chunks.append(data)
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + b"".join(chunks))


def misalign(path: Path, n_bytes: int = 1) -> None:
    """Let the data of a safetensors file begin `n_bytes` behind an address that 8 divides.

    The format allows it: only newer writers fill the header up.
    """
    content = path.read_bytes()
    (n_header,) = struct.unpack("<Q", content[:8])
    header = content[8 : 8 + n_header].rstrip()
    header += b" " * (-len(header) % 8 + n_bytes)
    path.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + n_header :])


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")


def _stored(values: NDArray[Any], dtype: str) -> bytes:
    if dtype == "F32":
        return values.astype("<f4").tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    assert dtype == "BF16"
    bits = values.astype("<f4").view("<u4")
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return bytes(rounded.astype("<u2"))
