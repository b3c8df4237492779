"""Snug's files against what other quantizers make, at the same bits or fewer.

    python tests/bench/bench_rivals.py [SOURCE] [--python PYTHON] [--rivals A,B] [--folder FOLDER]

Run by `make bench-rivals`. The rivals get an environment of their own below build/, made the first
time (gigabytes); `--python` names one that is there already. `--folder` keeps what they made and
goes on from it. All calibrate with the same text, if at all, and Snug's quality job judges.

A rival's weights are decoded to F32, so that it loses nothing to rounded activations; Snug's run in
the types that they have. There are two comparisons:

    whole files  Snug's file, vocabulary and all, has at most the bytes of the rival's tensors (of
                 its file, where that is a GGUF)
    layers       the embeddings stay in F16, as most rivals leave them, and the other matrices have
                 together at most the rival's bits

Tables that do not grow with a weight (NF4's values, GPTQ's order of columns) count nothing for the
rivals, and what they do not quantize counts in 16 bits, also where it is stored in 32. Ends with 1
if a file of Snug's is larger than that.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.convert.job import Convert
from engine.errors import EngineError
from engine.ggml_types import GgmlType
from engine.gguf import gguf_size_bytes
from engine.jobs import finish
from engine.quantize.budget import Budget
from engine.quantize.choice import Chooser, Pin
from engine.quantize.effort import EffortName, effort_of
from engine.quantize.encode import Care
from engine.quantize.figures import QualityReport
from engine.quantize.reference import Reference
from engine.quantize.study import FOLDED_ERRORS, FOLDS, Study
from engine.quantize.workbench import Workbench
from engine.source import ModelSource, open_source
from tests.bench.bench_quality import write_chosen
from tests.bench.rivals import RIVALS
from tests.helpers.rival_files import Rival, environment, is_layer, layer_bytes, make, measure

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared"
EMBEDDINGS = (Pin(r"^(token_embd|output)\.weight$", "F16"),)


class Row(NamedTuple):
    """A file in a table; `n_layer_bytes` are those of the matrices but the embeddings."""

    n_bytes: int
    n_layer_bytes: int
    quality: QualityReport


class Judge:
    """The original in F32, and how far others are from it."""

    def __init__(self, model: Path, text: Path, chunks: int) -> None:
        self.model = model
        self._reference: Reference = finish(Reference.open(str(model), str(text), chunks))

    def row(self, model: Path, n_bytes: int, n_layer_bytes: int) -> Row:
        return Row(n_bytes, n_layer_bytes, finish(self._reference.compare(str(model))))

    def close(self) -> None:
        self._reference.close()


class Snug:
    """What Snug makes of `model` in any size, measured once."""

    def __init__(self, model: Path, text: Path, effort: EffortName, folder: Path, n_threads: int):
        self._source: ModelSource = open_source(model)
        self._n_threads = n_threads
        self._effort = effort_of(effort, self._source)
        folder.mkdir(exist_ok=True)
        self._bench = Workbench(folder, None)
        self._study = Study(self._source, self._bench, self._effort, n_threads)
        self._statistics = finish(self._study.calibrate(str(model), (str(text),)))

    @property
    def n_layer_weights(self) -> int:
        return sum(t.n_elements for t in self._source.tensors if is_layer(t))

    def bytes_around(self, n_layer_bytes: int) -> int:
        """The size of a file with so many bytes in its layers, and the embeddings in F16."""
        tensors = [
            msgspec.structs.replace(t, type=GgmlType.F16) if len(t.shape) > 1 else t
            for t in self._source.tensors
        ]
        now = sum(t.n_bytes for t in tensors if is_layer(t))
        return gguf_size_bytes(self._source.metadata, tensors) - now + n_layer_bytes

    def shrink(self, size_bytes: int, pins: Sequence[Pin]) -> Path:
        """As `snug-engine shrink --size`, with `--pin`, of the same effort does it."""
        for name in (FOLDS, FOLDED_ERRORS):  # those of another size
            self._bench.path(name).unlink(missing_ok=True)
        care = Care(sweeps=self._effort.sweeps, refits=self._effort.refits)
        budget = Budget(size_bytes)
        measured: Chooser = finish(
            Chooser.measure(
                self._study,
                self._source,
                self._statistics,
                care,
                "fast",
                pins,
                budget,
                folds=self._effort.folds,
            )
        )
        chosen = measured.within(budget)
        if self._effort.correct_chunks:
            chosen = finish(self._study.corrected(chosen, care))
        out = self._bench.path("out.gguf")
        write_chosen(chosen, care, out, self._n_threads)
        return out


def compare(rival: Rival, judge: Judge, snug: Snug) -> tuple[Row, Row, Row]:
    """The rival's row, Snug's of its whole size, and Snug's of the bits of its layers."""

    def ours(size_bytes: int, pins: Sequence[Pin] = ()) -> Row:
        model = snug.shrink(size_bytes, pins)
        return judge.row(model, model.stat().st_size, layer_bytes(model))

    return (
        judge.row(rival.model, rival.n_bytes, rival.n_layer_bytes),
        ours(rival.n_bytes),
        ours(snug.bytes_around(rival.n_layer_bytes), EMBEDDINGS),
    )


def told(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said = (error.stdout + error.stderr).strip().splitlines()
        return said[-1] if said else f"ended with {error.returncode}"
    return str(error)


def head(*columns: str) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"


def line(name: str, theirs: Row, ours: Row, sizes: Sequence[str]) -> str:
    a, b = theirs.quality, ours.quality
    cells = [
        name,
        *sizes,
        f"{a.kld_mean:.6f} -> {b.kld_mean:.6f}",
        f"{b.kld_mean / a.kld_mean:.3f}",
        f"{a.kld_p999:.4f} -> {b.kld_p999:.4f}",
        f"{a.same_top_fraction:.2%} -> {b.same_top_fraction:.2%}",
    ]
    return f"| {' | '.join(cells)} |"


def report(rows: dict[Rival, tuple[Row, Row, Row]], n: int) -> None:
    """Print both tables; `n` is the number of weights in the layers."""
    figures = ("mean KLD", "ratio", "99.9 % KLD", "same top")
    print("\nWhole files, rival's -> Snug's:\n")
    print(*head("rival", "settings", "bytes", *figures), sep="\n")
    for rival, (theirs, whole, _) in rows.items():
        sizes = (rival.settings, f"{theirs.n_bytes:,} -> {whole.n_bytes:,}")
        print(line(rival.name, theirs, whole, sizes))
    print("\nLayers alone, embeddings in F16:\n")
    print(*head("rival", "bits per weight", *figures), sep="\n")
    for rival, (theirs, _, layers) in rows.items():
        bits = [f"{8 * row.n_layer_bytes / n:.3f}" for row in (theirs, layers)]
        print(line(rival.name, theirs, layers, (" -> ".join(bits),)))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Snug against other quantizers at equal bits.")
    parser.add_argument("source", type=Path, nargs="?", default=SHARED / "models" / "measure-7m")
    parser.add_argument("--python", type=Path, help="of an environment with the rivals")
    parser.add_argument("--rivals", type=lambda text: text.split(","), default=list(RIVALS))
    parser.add_argument("--text", type=Path, default=SHARED / "text" / "wiki.valid.raw")
    cdv3 = SHARED / "text" / "calibration" / "cdv3.txt"
    parser.add_argument("--calibration", type=Path, default=cdv3)
    parser.add_argument("--chunks", type=int, default=40, help="to judge on; 0: all")
    parser.add_argument("--effort", choices=get_args(EffortName), default="balanced")
    parser.add_argument("--folder", type=Path, help="to keep what is made, and go on from it")
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def run(args: argparse.Namespace, python: Path, folder: Path) -> int:
    original = folder / "original.gguf"
    finish(Convert(str(args.source), str(original), "f32", overwrite=True).run())
    snug = Snug(original, args.calibration, args.effort, folder / "snug", args.threads)
    judge = Judge(original, args.text, args.chunks)
    rows: dict[Rival, tuple[Row, Row, Row]] = {}
    status = 0
    for name in args.rivals:
        out = folder / name.replace(" ", "-")
        try:
            make(name, python, args.source, args.calibration, out, args.threads)
            rival = measure(name, out, args.source, original)
        except (subprocess.CalledProcessError, EngineError) as error:
            print(f"{name}: skipped: {told(error)}", flush=True)
            continue
        rows[rival] = compare(rival, judge, snug)
        _, whole, layers = rows[rival]
        if whole.n_bytes > rival.n_bytes or layers.n_layer_bytes > rival.n_layer_bytes:
            print(f"{name}: Snug's file is too large")
            status = 1
        print(f"{name}: {rows[rival][0].quality.kld_mean:.6f}", flush=True)
    judge.close()
    report(rows, snug.n_layer_weights)
    return status


def main() -> int:
    args = parse()
    python = args.python or environment()
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        return run(args, python, folder.absolute())


if __name__ == "__main__":
    sys.exit(main())
