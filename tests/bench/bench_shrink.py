"""Processor seconds and memory of a shrink to a size, by model size, and what 8 B would take.

    python tests/bench/bench_shrink.py --size 100M [--bpw 4.5] [--effort balanced] [--folder DIR]
        [--as-8b]

Llama models of random BF16 weights, shrunk by `snug-engine shrink` as a process, with its children.
"Own" memory is what the processes asked for; "all" counts pages of files that they read too, which
the system takes back when it needs room. The gate lets pass what random weights become.

Each stage is then scaled to Llama 3 8B by how its work grows (`STAGES`). On 8 cores it takes an
eighth of its processor seconds, but for what one thread does alone while the others wait, for it or
for the disk: that is how long cores had nothing to do, by how many they were. What one thread does
while others are busy is no such time here, and may be with more of them. With `--as-8b` the
model gets the effort that one of 8 billion weights gets, so that little is left to scale.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil

from engine.calibrate.inputs import Input
from engine.ggml_types import GgmlType
from engine.gguf import write_gguf
from engine.gguf_values import TensorInfo, Value
from engine.quantize.effort import EFFORTS, Effort, effort_for
from engine.source import open_source

SHARED = Path(__file__).parents[3] / "shared"
SAMPLE_S = 0.1
N_CORES = 8
ALL_CHUNKS = 170  # of the texts that come with Snug
COARSE = 2000  # what a weight costs that is made coarse, in operations
ANYTHING = "kld=100,p999=1000,same_top=0,ppl_ratio=1000"  # passes the gate
BASE = 6000  # what a weight costs beside its feedback, in operations: ggml's own search


class Shape(NamedTuple):
    n_layers: int
    n_embd: int
    n_ffn: int
    n_heads: int
    n_kv_heads: int
    vocabulary: str
    n_vocab: int

    @property
    def matrices(self) -> list[tuple[str, int, int]]:
        """Name, columns, rows."""
        n_kv = self.n_embd // self.n_heads * self.n_kv_heads
        found = [("token_embd", self.n_embd, self.n_vocab), ("output", self.n_embd, self.n_vocab)]
        for i in range(self.n_layers):
            found += [
                (f"blk.{i}.attn_q", self.n_embd, self.n_embd),
                (f"blk.{i}.attn_k", self.n_embd, n_kv),
                (f"blk.{i}.attn_v", self.n_embd, n_kv),
                (f"blk.{i}.attn_output", self.n_embd, self.n_embd),
                (f"blk.{i}.ffn_gate", self.n_embd, self.n_ffn),
                (f"blk.{i}.ffn_up", self.n_embd, self.n_ffn),
                (f"blk.{i}.ffn_down", self.n_ffn, self.n_embd),
            ]
        return found

    @property
    def n_parameters(self) -> int:
        return sum(n_cols * n_rows for _, n_cols, n_rows in self.matrices)


SHAPES = {
    "7M": Shape(8, 256, 768, 4, 2, "models/measure-7m", 4096),
    "100M": Shape(12, 768, 2048, 12, 4, "vocab/ggml-vocab-llama-spm.gguf", 32_000),
    "1B": Shape(16, 2048, 8192, 32, 8, "vocab/ggml-vocab-llama-spm.gguf", 32_000),
    "8B": Shape(32, 4096, 14_336, 32, 8, "vocab/ggml-vocab-llama-bpe.gguf", 128_256),
}


class Stage(NamedTuple):
    """What a stage took; `idle_seconds` are those of all cores that its threads could have used."""

    seconds: float
    processor_seconds: float
    idle_seconds: float
    own_bytes: int
    all_bytes: int


AS_8B = """
import sys
from engine.cli.progress import ProgressBar
from engine.jobs import finish
from engine.quantize import effort
from engine.quantize.gate import OFF
from engine.quantize.shrink_to_size import ShrinkToSize
source, out, bpw, name, n_threads, n_parameters = sys.argv[1:]
effort.EFFORTS[name] = effort.effort_for(name, int(n_parameters))
job = ShrinkToSize(source, out, bits_per_weight=float(bpw), effort=name, gate=OFF,
    n_threads=int(n_threads))
finish(job.run(), ProgressBar(sys.stderr).show)
"""
"""A shrink with the effort that another number of weights gets."""


def write_random(shape: Shape, path: Path) -> None:
    vocabulary = open_source(SHARED / shape.vocabulary)
    metadata = {
        "general.architecture": Value.string("llama"),
        "general.name": Value.string("Random"),
        "llama.block_count": Value.u32(shape.n_layers),
        "llama.context_length": Value.u32(4096),
        "llama.embedding_length": Value.u32(shape.n_embd),
        "llama.feed_forward_length": Value.u32(shape.n_ffn),
        "llama.attention.head_count": Value.u32(shape.n_heads),
        "llama.attention.head_count_kv": Value.u32(shape.n_kv_heads),
        "llama.attention.layer_norm_rms_epsilon": Value.f32(1e-5),
        "llama.rope.dimension_count": Value.u32(shape.n_embd // shape.n_heads),
        "llama.vocab_size": Value.u32(shape.n_vocab),
    }
    words = vocabulary.metadata.items()
    metadata |= {key: value for key, value in words if key.startswith("tokenizer.")}
    tensors = [
        TensorInfo(f"{name}.weight", (n_cols, n_rows), GgmlType.BF16)
        for name, n_cols, n_rows in shape.matrices
    ]
    norms = [f"blk.{i}.{name}_norm" for i in range(shape.n_layers) for name in ("attn", "ffn")]
    tensors += [
        TensorInfo(f"{name}.weight", (shape.n_embd,), GgmlType.F32)
        for name in (*norms, "output_norm")
    ]
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(1 << 24, np.float32)
    with write_gguf(path, metadata, tensors) as writer:
        for tensor in tensors:
            if tensor.type is GgmlType.F32:
                writer.write(np.ones(tensor.n_elements, np.float32).tobytes())
                continue
            unit = np.float32(1 / math.sqrt(tensor.n_cols))
            for start in range(0, tensor.n_elements, len(normal)):
                part = normal[: tensor.n_elements - start] * unit
                writer.write((part.view(np.uint32) >> 16).astype("<u2").tobytes())
            normal = np.roll(normal, 4099)


def run(command: list[str], n_threads: int) -> dict[str, Stage]:
    """Each stage that the process names on its standard error, with what it took."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    watch = Watch(psutil.Process(process.pid), n_threads)
    for line in process.stderr:
        if line.strip() in STAGES:
            watch.begin(line.strip())
    if process.wait():
        raise SystemExit(f"{command} ended with {process.returncode}")
    return watch.end()


class Watch:
    """Samples a process and its children in a thread of its own."""

    def __init__(self, process: psutil.Process, n_threads: int) -> None:
        self._process = process
        self._n_spare = max(0, (psutil.cpu_count() or 1) - n_threads)
        self._stages: dict[str, Stage] = {}
        self._lock = threading.Lock()
        self._peak = (0, 0)
        self._processor_s = 0.0
        self._begun = "Starting", *self._clocks()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def begin(self, stage: str) -> None:
        with self._lock:
            self._note()
            self._begun = stage, *self._clocks()
            self._peak = (0, 0)

    def end(self) -> dict[str, Stage]:
        self._thread.join()
        self.begin("")
        return self._stages

    def _clocks(self) -> tuple[float, float, float]:
        """Seconds: the time, those of the processes, and those in which a core did nothing."""
        cores = psutil.cpu_times()
        return time.monotonic(), self._processor_s, cores.idle + getattr(cores, "iowait", 0.0)

    def _note(self) -> None:
        name, *began = self._begun
        took, processor_s, idle_s = (b - a for a, b in zip(began, self._clocks(), strict=True))
        idle_s = max(0.0, idle_s - self._n_spare * took)
        own, everything = self._peak
        stage = Stage(took, processor_s, idle_s, own, everything)
        print(f"{name}: {took:.1f} s, {processor_s:.1f} processor s, {own / 1e6:.0f} MB")
        self._stages[name] = together(self._stages.get(name, NOTHING), stage)

    def _sample(self) -> None:
        while self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE:
            try:
                own = everything = 0
                processor_s = 0.0
                for one in (self._process, *self._process.children(recursive=True)):
                    memory, times = one.memory_info(), one.cpu_times()
                    own += memory.rss - memory.shared
                    everything += memory.rss
                    processor_s += times.user + times.system
            except psutil.NoSuchProcess:
                continue
            with self._lock:
                self._processor_s = max(self._processor_s, processor_s)
                self._peak = max(self._peak[0], own), max(self._peak[1], everything)
            time.sleep(SAMPLE_S)


NOTHING = Stage(0, 0, 0, 0, 0)


def together(a: Stage, b: Stage) -> Stage:
    """One after the other."""
    return Stage(
        a.seconds + b.seconds,
        a.processor_seconds + b.processor_seconds,
        a.idle_seconds + b.idle_seconds,
        max(a.own_bytes, b.own_bytes),
        max(a.all_bytes, b.all_bytes),
    )


def n_read(shape: Shape, n_chunks: int) -> float:
    """Multiplications to read chunks: each weight but the embedding's with each token."""
    return 512 * n_chunks * (shape.n_parameters - shape.n_embd * shape.n_vocab)


def inputs(shape: Shape) -> list[int]:
    """The widths of the blocks of second moments (`engine.calibrate.inputs`)."""
    n_block = Input(("ffn_down",), shape.n_ffn, 1, 1).n_block
    of_layer = [shape.n_embd] * 3 + [n_block] * math.ceil(shape.n_ffn / n_block)
    return of_layer * shape.n_layers + [shape.n_embd]


def calibrating(shape: Shape, effort: Effort) -> float:
    moments = sum(n * n for n in inputs(shape)) / 2
    n_chunks = effort.chunks or ALL_CHUNKS
    return n_read(shape, n_chunks) + 512 * n_chunks * moments


def finding(shape: Shape, effort: Effort) -> float:
    n_roles = 9
    n_tensors = len(shape.matrices)
    n_runs = n_tensors
    if n_tensors > effort.most_runs:
        n_runs = n_roles * min(shape.n_layers, max(1, effort.most_runs // n_roles))
    return n_read(shape, effort.run_chunks * (n_runs + 1)) + COARSE * shape.n_parameters


def rounding(shape: Shape, effort: Effort, most_rows: float = math.inf) -> float:
    """Weights times what one costs: the columns that its error goes to, in blocks, and a base."""
    passes = 1 + effort.sweeps + 2 * effort.refits
    return sum(
        n_cols * min(n_rows, most_rows) * (BASE + passes * min(n_cols, 4096))
        for _, n_cols, n_rows in shape.matrices
    )


def factoring(shape: Shape) -> float:
    return sum(n**3 for n in inputs(shape)) / 3


def trying(shape: Shape, effort: Effort) -> float:
    return 9 * rounding(shape, effort, effort.sample_rows) + factoring(shape)


def shrinking(shape: Shape, effort: Effort) -> float:
    return rounding(shape, effort) + factoring(shape)


def correcting(shape: Shape, effort: Effort) -> float:
    """Two models read for each input, half of what they are."""
    return n_read(shape, effort.correct_chunks) * (4 * shape.n_layers + 1)


def judging(shape: Shape, effort: Effort) -> float:
    """Each of the two models reads so many."""
    return n_read(shape, effort.judge_chunks)


def alike(_shape: Shape, _effort: Effort) -> float:
    """The same for each model."""
    return 1.0


def weights(shape: Shape, _effort: Effort) -> float:
    return shape.n_parameters


STAGES: dict[str, Callable[[Shape, Effort], float]] = {
    "Starting": alike,
    "Reading the model": weights,
    "Preparing the model": weights,
    "Loading the model": weights,
    "Looking at the model": weights,
    "Reading the texts": alike,
    "Letting it write": lambda shape, effort: n_read(shape, effort.own_chunks),
    "Calibrating": calibrating,
    "Looking at the tensors": lambda shape, _: sum(n_cols for _, n_cols, _ in shape.matrices),
    "Finding out what matters": finding,
    "Trying types": trying,
    "Correcting": correcting,
    "Shrinking": shrinking,
    "Reading the text": judging,
    "Comparing": judging,
}
"""The work of each stage, in operations of some kind."""


def on_8_cores(stage: Stage, n_threads: int) -> float:
    """Seconds: those of one thread alone, and an eighth of the others."""
    n_others = min(n_threads, psutil.cpu_count() or 1) - 1
    alone = min(stage.seconds, stage.idle_seconds / n_others) if n_others else 0.0
    return alone + max(0.0, stage.processor_seconds - alone) / N_CORES


def report(
    shape: Shape,
    efforts: Sequence[Effort],
    n_threads: int,
    source_bytes: int,
    stages: dict[str, Stage],
) -> None:
    """Print what `shape` took with the first of `efforts`, and 8 B would with the second."""
    large = SHAPES["8B"]
    print(
        f"\n{shape.n_parameters / 1e6:,.0f} million parameters, {efforts[0]}\n8 B: {efforts[1]}\n"
    )
    print("| stage | s | processor s | idle | own, MB | all, MB | 8 B, processor s | on 8 cores |")
    print("|---|---|---|---|---|---|---|---|")
    total = NOTHING
    total_of_8b = (0.0, 0.0)
    for name, stage in stages.items():
        work = STAGES[name]
        here = work(shape, efforts[0])
        times = work(large, efforts[1]) / here if here else 0
        of_8b = stage.processor_seconds * times, on_8_cores(stage, n_threads) * times
        total_of_8b = total_of_8b[0] + of_8b[0], total_of_8b[1] + of_8b[1]
        total = together(total, stage)
        row(name, stage, of_8b)
    row("all", total, total_of_8b)
    beyond = total.all_bytes - source_bytes
    print(f"\nMost memory: the {source_bytes / 1e6:,.0f} MB of the source, and {beyond / 1e6:,.0f}")


def row(name: str, stage: Stage, of_8b: tuple[float, float]) -> None:
    own, mapped = (f"{n / 1e6:,.0f}" for n in (stage.own_bytes, stage.all_bytes))
    times = f"{stage.seconds:,.1f} | {stage.processor_seconds:,.1f} | {stage.idle_seconds:,.1f}"
    print(f"| {name} | {times} | {own} | {mapped} | {of_8b[0]:,.0f} | {of_8b[1]:,.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="Shrinking a model of random weights.")
    parser.add_argument("--size", choices=list(SHAPES), default="100M")
    parser.add_argument("--bpw", type=float, default=4.5)
    parser.add_argument("--effort", choices=list(EFFORTS), default="balanced")
    parser.add_argument("--as-8b", action="store_true", help="with the effort that 8 B gets")
    parser.add_argument("--threads", type=int, default=2, help="more than are free only wait")
    parser.add_argument("--folder", type=Path, help="where to work")
    args = parser.parse_args()
    shape = SHAPES[args.size]
    n_of_8b = SHAPES["8B"].n_parameters
    efforts = [effort_for(args.effort, n) for n in (shape.n_parameters, n_of_8b)]
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        model, out = Path(folder) / "random.gguf", Path(folder) / "out.gguf"
        write_random(shape, model)
        source_bytes = model.stat().st_size
        print(f"{args.size}: {source_bytes / 1e6:,.0f} MB")
        settings = [str(args.bpw), args.effort, str(args.threads)]
        if args.as_8b:
            efforts[0] = efforts[1]
            engine = [sys.executable, "-c", AS_8B]
            command = [*engine, str(model), str(out), *settings, str(n_of_8b)]
        else:
            engine = [sys.executable, "-m", "engine"]
            command = [*engine, "shrink", str(model), "--out", str(out), "--gate", ANYTHING]
            for option, value in zip(("--bpw", "--effort", "-t"), settings, strict=True):
                command += [option, value]
        stages = run(command, args.threads)
        print(f"{out.stat().st_size / 1e6:,.0f} MB")
    report(shape, efforts, args.threads, source_bytes, stages)


if __name__ == "__main__":
    main()
