"""Converting a checkpoint of random weights: Snug against llama.cpp's convert_hf_to_gguf.py.

    python tests/bench/bench_convert.py --upstream PYTHON CONVERT_HF_TO_GGUF.PY [--gigabytes 1]

PYTHON has torch and transformers. Whole processes in turns; cold: the source is out of the system's
cache. The peak is what each process has held at most, pages of mapped files included.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import struct
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

TOKENIZER = Path(__file__).parents[3] / "shared" / "models" / "stories260K-hf"
HIDDEN, FFN, N_HEADS, N_KV_HEADS, N_VOCAB = 2048, 5632, 32, 4, 32_000
HEAD = HIDDEN // N_HEADS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--upstream", nargs=2, metavar=("PYTHON", "SCRIPT"), required=True)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--types", nargs="+", default=["bf16", "f16"])
    parser.add_argument("--folder", type=Path, help="where to work; in memory, no disk is measured")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        source, out = Path(folder) / "Random", Path(folder) / "out.gguf"
        write_checkpoint(source, args.gigabytes)
        print("| type | cache | convert_hf_to_gguf.py | Snug | ratio | peak: theirs, ours |")
        print("|---|---|---|---|---|---|")
        for float_type in args.types:
            snug = [sys.executable, "-m", "engine", "convert", str(source), str(out)]
            snug += ["--type", float_type]
            theirs = [*args.upstream, str(source), "--outfile", str(out), "--outtype", float_type]
            for cache in ("warm", "cold"):
                row = compare(theirs, snug, out, source, args.rounds, is_cold=cache == "cold")
                print(f"| {float_type} | {cache} | {row} |", flush=True)


def compare(
    theirs: list[str], ours: list[str], out: Path, source: Path, n_rounds: int, *, is_cold: bool
) -> str:
    seconds: tuple[list[float], list[float]] = ([], [])
    peaks = [0, 0]
    for _ in range(n_rounds):
        for i, command in enumerate((theirs, ours)):
            out.unlink(missing_ok=True)
            prepare(source, is_cold=is_cold)
            took, peak = run(command)
            seconds[i].append(took)
            peaks[i] = max(peaks[i], peak)
    ratio = statistics.median(a / b for a, b in zip(*seconds, strict=True))
    times = [f"{statistics.median(values):.2f} s" for values in seconds]
    sizes = ", ".join(f"{peak / 1e6:.0f} MB" for peak in peaks)
    return f"{times[0]} | {times[1]} | {ratio:.1f} | {sizes}"


def run(command: list[str]) -> tuple[float, int]:
    """Seconds and peak memory in bytes of a process that has to succeed."""
    os.sync()
    started = time.monotonic()
    actions = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.monotonic() - started
    if status:
        raise SystemExit(f"{command} ended with {status}")
    return seconds, usage.ru_maxrss * 1024


def prepare(source: Path, *, is_cold: bool) -> None:
    """Put the source into the system's cache, or take it out."""
    for path in source.iterdir():
        with path.open("rb") as file:
            if is_cold:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                while file.read(1 << 24):
                    pass


def write_checkpoint(folder: Path, gigabytes: float) -> None:
    """A Llama of TinyLlama's width in BF16, with as many layers as fit."""
    folder.mkdir()
    for path in TOKENIZER.glob("tokenizer*"):
        shutil.copy(path, folder)
    per_layer = sum(math.prod(shape) for _, shape in layer(0))
    n_layers = max(1, int((gigabytes * 5e8 - 2 * N_VOCAB * HIDDEN) / per_layer))
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
        "intermediate_size": FFN, "num_hidden_layers": n_layers, "num_attention_heads": N_HEADS,
        "num_key_value_heads": N_KV_HEADS, "vocab_size": N_VOCAB, "hidden_act": "silu",
        "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    shapes = [
        ("model.embed_tokens.weight", (N_VOCAB, HIDDEN)),
        *(tensor for i in range(n_layers) for tensor in layer(i)),
        ("model.norm.weight", (HIDDEN,)),
        ("lm_head.weight", (N_VOCAB, HIDDEN)),
    ]
    header, end = {}, 0
    for name, shape in shapes:
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(0)
    numbers = (rng.standard_normal(1 << 22, np.float32) * 0.02).view(np.uint32) >> 16
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, shape in shapes:
            numbers = np.roll(numbers, 1)
            file.write(np.resize(numbers.astype("<u2"), math.prod(shape)).tobytes())


def layer(i: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    stem, n_kv = f"model.layers.{i}.", N_KV_HEADS * HEAD
    yield f"{stem}input_layernorm.weight", (HIDDEN,)
    yield f"{stem}self_attn.q_proj.weight", (HIDDEN, HIDDEN)
    yield f"{stem}self_attn.k_proj.weight", (n_kv, HIDDEN)
    yield f"{stem}self_attn.v_proj.weight", (n_kv, HIDDEN)
    yield f"{stem}self_attn.o_proj.weight", (HIDDEN, HIDDEN)
    yield f"{stem}post_attention_layernorm.weight", (HIDDEN,)
    yield f"{stem}mlp.gate_proj.weight", (FFN, HIDDEN)
    yield f"{stem}mlp.up_proj.weight", (FFN, HIDDEN)
    yield f"{stem}mlp.down_proj.weight", (HIDDEN, FFN)


if __name__ == "__main__":
    main()
