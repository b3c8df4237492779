"""Sources to shrink, and the digests of what llama-quantize makes of them.

`python -m tests.engine.quantized_cases path/to/llama-quantize [path/to/shared]` makes each source,
lets llama.cpp's own tool quantize it, and records the digests in data/quantized.json.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from engine.convert.job import Convert
from engine.floats import from_float32
from engine.ggml_types import FileType, GgmlType
from engine.gguf import GgufFile, TensorInfo, Value, ValueType, write_gguf
from engine.jobs import finish
from engine.quantize.recipe import RECIPES
from tests.helpers.checkpoints import write_tiny_checkpoint

RECORDED = Path(__file__).parent / "data" / "quantized.json"
TYPES = (GgmlType.F32, GgmlType.F16, GgmlType.BF16)
REAL_MODELS = ("TinyStories-656K", "stories260K-hf", "measure-7m")

# Rows for k-quants (512, 768), for blocks of 32 only (96) and for no block at all (44).
_SHAPES = {
    "token_embd.weight": (512, 300),
    "output_norm.weight": (512,),
    "blk.0.attn_q.weight": (512, 512),
    "blk.0.attn_k.weight": (512, 128),
    "blk.0.attn_v.weight": (512, 128),
    "blk.0.attn_output.weight": (512, 512),
    "blk.0.attn_norm.weight": (512,),
    "blk.0.ffn_gate_inp.weight": (512, 4),
    "blk.0.ffn_up_exps.weight": (512, 96, 4),
    "blk.0.ffn_down_exps.weight": (96, 512, 4),
    "blk.1.attn_v.weight": (768, 128),
    "blk.1.ffn_up.weight": (768, 44),
    "blk.1.ffn_down.weight": (44, 768),
}


def write_source(path: Path, stored: GgmlType, broken: float | None = None) -> Path:
    """Write a GGUF with seeded weights in `stored`; the last one is `broken` if that is given."""
    metadata = {
        "general.architecture": Value.string("llama"),
        "general.file_type": Value.u32(FileType[stored.name]),
        "general.name": Value.string("Seeded"),
        "llama.block_count": Value.u32(2),
        "llama.embedding_length": Value.u32(512),
        "llama.feed_forward_length": Value.u32(96),
        "llama.context_length": Value.u32(2048),
        "llama.attention.head_count": Value.u32(8),
        "llama.attention.head_count_kv": Value.u32(2),
        "llama.attention.layer_norm_rms_epsilon": Value.f32(1e-5),
        "llama.expert_count": Value.u32(4),
        "llama.expert_used_count": Value.u32(2),
        "tokenizer.ggml.tokens": Value.array(ValueType.STRING, [f"t{i}" for i in range(300)]),
        "split.count": Value(ValueType.UINT16, 1),
    }
    tensors = [
        TensorInfo(name, shape, GgmlType.F32 if len(shape) == 1 else stored)
        for name, shape in _SHAPES.items()
    ]
    bits = np.random.RandomState(20)
    with write_gguf(path, metadata, tensors, overwrite=True) as writer:
        for tensor in tensors:
            values = _weights(bits, tensor.n_elements)
            if broken is not None and tensor is tensors[-1]:
                values[-1] = broken
            writer.write(from_float32(values, tensor.type).tobytes())
    return path


def _weights(bits: np.random.RandomState, n: int) -> NDArray[np.float32]:
    """Bell-shaped weights, float32 [n]; only sums, so that they are equal on every computer."""
    values: NDArray[np.float64] = bits.random_sample((4, n)).sum(axis=0) - 2
    return (values * 0.05).astype(np.float32)


def digest(path: Path) -> str:
    """A digest of names, types and data of all tensors, in the order of the file."""
    sha = hashlib.sha256()
    with GgufFile.open(path) as model:
        for tensor in model.tensors:
            sha.update(f"{tensor.name} {tensor.shape} {tensor.type.name}\n".encode())
            sha.update(model.raw(tensor, 0, tensor.n_rows))
    return sha.hexdigest()


def sources(folder: Path, shared: Path | None) -> Iterator[tuple[str, Path]]:
    """Make every source, one after the other, as (its name in the record, a GGUF)."""
    for stored in TYPES:
        yield f"seeded {stored.name}", write_source(folder / "seeded.gguf", stored)
    checkpoints = [write_tiny_checkpoint(folder / "tiny")]
    if shared:
        checkpoints += [shared / "models" / model for model in REAL_MODELS]
    for checkpoint in checkpoints:
        for stored in TYPES:
            out = folder / f"{checkpoint.name}-{stored.name}.gguf"
            finish(Convert(str(checkpoint), str(out), stored.name.lower()).run())
            yield f"{checkpoint.name} {stored.name}", out


def main(tool: str, shared: str | None = None) -> None:
    recorded: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "quantized.gguf"
        for name, source in sources(Path(folder), Path(shared) if shared else None):
            recorded[name] = {}
            for recipe in RECIPES:
                command = [tool, str(source), str(out), recipe, "2"]
                subprocess.run(command, check=True, capture_output=True)
                recorded[name][recipe] = digest(out)
            source.unlink()
    RECORDED.write_bytes(msgspec.json.format(msgspec.json.encode(recorded), indent=1) + b"\n")
    print(f"{len(recorded)} sources recorded in {RECORDED}")


if __name__ == "__main__":
    main(*sys.argv[1:])
