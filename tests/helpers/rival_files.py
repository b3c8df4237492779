"""What other quantizers leave of a checkpoint: made by tests/bench/rivals.py, weighed, decoded."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from engine.checkpoint import read_safetensors_header
from engine.ggml_types import GgmlType
from engine.gguf import GgufFile
from engine.gguf_values import TensorInfo
from engine.jobs import finish
from engine.llama.ggml import dequantize_rows
from engine.model_writer import Plan, write_model
from engine.source import ModelSource, open_source
from tests.bench.rivals import RIVALS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ROOT = Path(__file__).parents[2]
HOME = ROOT / "build" / "rivals"
PINNED = ("accelerate", "safetensors", "torch", "transformers")
# What is the same for every weight, or for every weight of one shape, and nothing in a large model.
TABLES = re.compile(r"\.(quant_map|nested_quant_map|quant_state\.\w+|g_idx)$")
PLAIN = re.compile(r"(norm|embed_tokens|lm_head)\.weight$")


class Rival(NamedTuple):
    """What another quantizer made: what its own files take, and `model`, a GGUF in F32."""

    name: str
    settings: str
    n_bytes: int
    n_layer_bytes: int
    model: Path


class DecodedGguf(GgufFile):
    """A GGUF whose quantized rows are had as numbers, too."""

    def rows(self, tensor: TensorInfo, start: int, stop: int) -> NDArray[np.float32]:
        import numpy as np

        stored = np.frombuffer(self.raw(tensor, start, stop), np.uint8)
        return dequantize_rows(tensor.type, stored.reshape(stop - start, -1))


def is_layer(tensor: TensorInfo) -> bool:
    return tensor.name.startswith("blk.") and len(tensor.shape) > 1


def layer_bytes(model: Path) -> int:
    return sum(tensor.n_bytes for tensor in GgufFile.open(model).tensors if is_layer(tensor))


def make(
    name: str, python: Path, source: Path, calibration: Path, out: Path, n_threads: int
) -> None:
    """Let the rival work, unless it has; raises CalledProcessError with what it said."""
    if (out / "made.json").exists():
        return
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    script = ROOT / "tests" / "bench" / "rivals.py"
    command = [python, script, name, source, calibration, out]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": str(n_threads)}
    subprocess.run(
        list(map(str, command)), env=environment, check=True, capture_output=True, text=True
    )


def measure(name: str, out: Path, source: Path, reference: Path) -> Rival:
    """Weigh what the rival left in `out`, and write its weights as F32."""
    metadata = dict(GgufFile.open(reference).metadata)
    model = out / "f32.gguf"
    view: ModelSource
    if files := sorted(file for file in out.rglob("*.gguf") if file != model):
        view = DecodedGguf.open(files[0])
        n_bytes, n_layer_bytes = files[0].stat().st_size, layer_bytes(files[0])
    else:
        saved = next(file.parent for file in sorted(out.rglob("model*.safetensors"), key=depth))
        stored = [t for file in saved.glob("*.safetensors") for t in read_safetensors_header(file)]
        stored = [t for t in stored if not TABLES.search(t.name)]
        n_layer_bytes = sum(t.end - t.begin for t in stored if not PLAIN.search(t.name))
        n_bytes = n_layer_bytes + sum(2 * prod(t.shape) for t in stored if PLAIN.search(t.name))
        folder = out / "decoded" if (out / "decoded").exists() else saved
        for file in source.glob("tokenizer*"):
            shutil.copyfile(file, folder / file.name)
        view = open_source(folder)
    try:
        tensors = tuple(msgspec.structs.replace(t, type=GgmlType.F32) for t in view.tensors)
        plan = Plan(metadata, tensors, tuple(view.tensors), only_finite=True)
        finish(write_model(view, plan, str(model), "Decoding", overwrite=True))
    finally:
        view.close()
    made = json.loads((out / "made.json").read_text())
    settings = f"{made['library']} {made['version']}: {made['settings']}"
    return Rival(name, settings, n_bytes, n_layer_bytes, model)


def depth(path: Path) -> int:
    return len(path.parts)


def environment() -> Path:
    """The Python of an environment with what can be installed of the rivals."""
    sys.path.insert(0, str(ROOT / "packaging"))
    import setup

    python, stamp = HOME / "venv" / "bin" / "python", HOME / "packages.done"
    if not stamp.exists():
        venv.create(HOME / "venv", clear=True, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, *(f"{n}=={setup.pinned(n)}" for n in PINNED)], check=True)
        for library in ("gguf", *sorted({library for library, _ in RIVALS.values()})):
            subprocess.run([*install, library], check=False)
        stamp.touch()
    return python
