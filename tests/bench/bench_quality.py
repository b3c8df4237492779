"""Snug's files against those of llama-quantize with an imatrix, of the same bytes or fewer.

    python tests/bench/bench_quality.py --tools FOLDER [SOURCE ...] [--chunks 120] [--threads 2]

Run by `make bench-quality`. llama.cpp's own tools judge: both are calibrated with cdv3.txt, Snug
also with what the model writes by itself, which takes no other text, and measured by
`llama-perplexity --kl-divergence` on text that neither has seen. A size is what a stock recipe
takes. Ratios of KL divergence are ours by llama-quantize's:

    rounding    the stock types, rounded by Snug
    folding     the stock types and ggml's rounding, after scales have moved
    allocation  types chosen within the size, ggml's rounding
    all         what `snug-engine shrink --size BYTES --effort best` does

Ends with 1 if a file is larger than its size, or less good than it is to be (`LIMITS`): each
shortfall is told below its row.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, get_args

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.calibrate.statistics import Statistics
from engine.ggml_types import FileType
from engine.gguf import GgufFile
from engine.jobs import finish
from engine.model_writer import write_model
from engine.quantize.budget import Budget, choosable, plan_within
from engine.quantize.candidates import Profile
from engine.quantize.choice import Chooser, Chosen
from engine.quantize.effort import EffortName, effort_of
from engine.quantize.encode import Care, Encoder
from engine.quantize.fold import FoldedSource, FoldedStatistics
from engine.quantize.plan import plan_types
from engine.quantize.study import FOLDED_ERRORS, FOLDS, Study
from engine.quantize.workbench import Workbench
from engine.source import ModelSource, open_source
from tests.helpers.llama_perplexity import Figures, printed_figures

SHARED = Path(__file__).parents[3] / "shared"
K_QUANTS = ("Q2_K", "Q3_K_M", "IQ4_XS", "Q4_K_M", "Q5_K_M")
SMALL_BLOCKS = ("Q4_0", "IQ4_NL", "Q5_0", "Q4_K_M")
"""For rows that hold no k-quants."""
LIMITS = {
    "measure-7m": {"Q2_K": 0.38, "Q3_K_M": 0.38, "IQ4_XS": 0.50, "Q4_K_M": 0.43, "Q5_K_M": 0.55},
    "TinyStories-656K": dict.fromkeys(SMALL_BLOCKS, 0.70),
}
"""The most that the mean KL divergence may be of stock's. All other figures are to be better too,
and the perplexity not worse."""
BY_GGML = Care(feedback=False)
ATTEMPTS = 30


class Tools:
    """llama.cpp's tools in a folder, with their libraries beside them."""

    def __init__(self, folder: Path, n_threads: int) -> None:
        self._folder = folder.resolve()
        self._threads = ["-t", str(n_threads)]
        libraries = str(self._folder)
        self._environment = {**os.environ, "LD_LIBRARY_PATH": libraries, "OMP_NUM_THREADS": "2"}

    def imatrix(self, model: Path, text: Path, out: Path) -> None:
        self._run("llama-imatrix", "-m", model, "-f", text, "-o", out, *self._threads)

    def quantize(self, model: Path, imatrix: Path, recipe: str, out: Path) -> None:
        self._run("llama-quantize", "--imatrix", imatrix, model, out, recipe)

    def write_base(self, model: Path, text: Path, chunks: int, base: Path) -> None:
        arguments = ("-m", model, "-f", text, "--chunks", chunks, "--kl-divergence-base", base)
        self._run("llama-perplexity", *arguments, *self._threads)

    def compare(self, model: Path, base: Path) -> Figures:
        """At times the tool ends before its summary; it is then asked again."""
        arguments = ("-m", model, "--kl-divergence", "--kl-divergence-base", base)
        for _ in range(ATTEMPTS):
            told = self._run("llama-perplexity", *arguments, *self._threads, may_fail=True)
            figures = printed_figures(told)
            if "same_top_fraction" in figures:  # the last of them
                return figures
        sys.exit(f"llama-perplexity gave no figures for {model}")

    def _run(self, tool: str, *arguments: object, may_fail: bool = False) -> str:
        command = [str(self._folder / tool), *map(str, arguments)]
        done = subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=False
        )
        if done.returncode and not may_fail:
            sys.exit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        return done.stdout


class Case:
    """A source, calibrated and measured once for all sizes."""

    def __init__(self, path: Path, effort: EffortName, n_threads: int):
        self._n_threads = n_threads
        self._path = path
        self.name = path.stem
        self.source: ModelSource = open_source(path)
        self._effort = effort_of(effort, self.source)
        shape = next(tensor for tensor in self.source.tensors if len(tensor.shape) > 1)
        has_k_quants = shape.n_cols % 256 == 0
        self.recipes = K_QUANTS if has_k_quants else SMALL_BLOCKS
        self.text_name = "wiki.valid.raw" if has_k_quants else "tinystories_val.txt"

    def prepare(self, folder: Path, calibration: Path, profile: Profile) -> Path:
        """Measure everything; returns the source as a GGUF file."""
        require_alike(folder, [self._path.name, self._effort, calibration.read_text(), profile])
        self._bench = Workbench(folder, None)
        self._profile = profile
        self._study = Study(self.source, self._bench, self._effort, self._n_threads)
        self._care = Care(sweeps=self._effort.sweeps, refits=self._effort.refits)
        self._statistics: Statistics = finish(
            self._study.calibrate(str(self._path), (str(calibration),))
        )
        tensors = choosable(self.source)
        matters = finish(self._study.matters(tensors, self._statistics))
        (folder / "by-ggml").mkdir(exist_ok=True)
        apart = Workbench(folder / "by-ggml", None)
        study = Study(self.source, apart, self._effort, self._n_threads)
        self._items_by_ggml = finish(
            study.items(self.source, tensors, self._statistics, BY_GGML, matters, profile)
        )
        return self._study.model

    def versions(self, stock: Path) -> Iterator[tuple[str, Chosen, Care]]:
        """What is made in the bytes of the file `stock`, part by part and together."""
        file = GgufFile.open(stock)
        types = {tensor.name: tensor.type for tensor in file.tensors}
        file_type = FileType(file.get("general.file_type", 0))
        budget, statistics = Budget(stock.stat().st_size), self._statistics

        plain = Chosen(self.source, statistics, plan_types(self.source, types, file_type))
        yield "rounding", plain, self._care

        moved = finish(self._study.search_folds(statistics, types))
        folded = FoldedSource(self.source, moved)
        seen = FoldedStatistics(statistics, self.source.tensors, moved)
        yield "folding", Chosen(folded, seen, plan_types(folded, types, file_type)), BY_GGML

        laid_out, _ = plan_within(self.source, self._items_by_ggml, budget)
        yield "allocation", Chosen(self.source, statistics, laid_out), BY_GGML

        for name in (FOLDS, FOLDED_ERRORS):  # those of another size
            self._bench.path(name).unlink(missing_ok=True)
        chooser = finish(
            Chooser.measure(
                self._study,
                self.source,
                statistics,
                self._care,
                self._profile,
                (),
                budget,
                folds=self._effort.folds,
            )
        )
        chosen = chooser.within(budget)
        if self._effort.correct_chunks:
            chosen = finish(self._study.corrected(chosen, self._care))
        yield "all", chosen, self._care

    def write(self, chosen: Chosen, care: Care, out: Path) -> None:
        write_chosen(chosen, care, out, self._n_threads)


def require_alike(folder: Path, made_from: Sequence[object]) -> None:
    """Note what the figures in `folder` are of, or refuse one that has those of something else."""
    note, told = folder / "made-from", hashlib.sha256(repr(made_from).encode()).hexdigest()
    if note.exists() and note.read_text() != told:
        sys.exit(f"{folder} holds figures of another source, text or effort.")
    note.write_text(told)


def write_chosen(chosen: Chosen, care: Care, out: Path, n_threads: int) -> None:
    encode = Encoder(chosen.statistics, care, n_threads).encode
    steps = write_model(
        chosen.source, chosen.plan, str(out), "Shrinking", n_threads, overwrite=True, encode=encode
    )
    finish(steps)


def readable(text: Path, source: ModelSource, folder: Path) -> Path:
    """`text`, or a copy in `folder` without what llama.cpp's tools end at.

    A vocabulary without byte tokens has no token for the letters that it does not know; llama.cpp
    looks for one nevertheless (`std::out_of_range`).
    """
    tokens = set(source.metadata["tokenizer.ggml.tokens"].value)
    if source.metadata["tokenizer.ggml.model"].value != "llama" or "<0x0A>" in tokens:
        return text
    known = {token for token in tokens if len(token) == 1} | {" "}
    copy = folder / text.name
    copy.write_text("".join(letter for letter in text.read_text() if letter in known))
    return copy


class Row(NamedTuple):
    """A size: the stock file's figures and ours, by name of the version."""

    recipe: str
    size_bytes: int
    stock: Figures
    ours: dict[str, Figures]


def measure(case: Case, tools: Tools, args: argparse.Namespace, folder: Path) -> bool:
    """Print a row for each size; returns whether all files are as small and as good as is due."""
    text = readable(args.text or SHARED / "text" / case.text_name, case.source, folder)
    calibration = readable(args.calibration, case.source, folder)
    model = case.prepare(folder, calibration, args.profile)
    imatrix, base = folder / "imatrix.gguf", folder / "base.bin"
    if not imatrix.exists():
        begun = folder / "begun.gguf"  # it is written again and again
        tools.imatrix(model, calibration, begun)
        begun.replace(imatrix)
    tools.write_base(model, text, args.chunks, base)
    is_due = True
    for number, recipe in enumerate(args.recipes or case.recipes):
        stock, out = folder / "stock.gguf", folder / "out.gguf"
        tools.quantize(model, imatrix, recipe, stock)
        ours = {}
        for name, chosen, care in case.versions(stock):
            case.write(chosen, care, out)
            if out.stat().st_size > stock.stat().st_size:
                print(f"{recipe}, {name}: {out.stat().st_size:,} bytes are too many")
                is_due = False
            ours[name] = tools.compare(out, base)
        row = Row(recipe, stock.stat().st_size, tools.compare(stock, base), ours)
        print("\n".join(lines(row, with_head=number == 0)), flush=True)
        for shortfall in shortfalls(row, LIMITS.get(case.name, {}).get(recipe, 1.0)):
            print(f"{recipe}: {shortfall}", flush=True)
            is_due = False
    return is_due


def shortfalls(row: Row, most: float) -> list[str]:
    """What of `row` is not as good as is due; `most` is the limit of the mean KL divergence."""
    stock, ours = row.stock, row.ours["all"]
    ratio = ours["kld_mean"] / stock["kld_mean"]
    found = (
        [f"the mean KL divergence is {ratio:.3f} of stock's, not {most}"] if ratio > most else []
    )
    if ours["kld_p999"] >= stock["kld_p999"]:
        found.append("the 99.9 % KL divergence is not better")
    if ours["same_top_fraction"] <= stock["same_top_fraction"]:
        found.append("the same top token is not better")
    if ours["perplexity"] > stock["perplexity"]:
        found.append(f"the perplexity is {ours['perplexity'] / stock['perplexity'] - 1:.2%} more")
    return found


def lines(row: Row, *, with_head: bool) -> list[str]:
    """Rows of a Markdown table."""
    stock, ours = row.stock, row.ours["all"]
    names = list(row.ours)
    ratios = [f"{row.ours[name]['kld_mean'] / stock['kld_mean']:.3f}" for name in names]
    cells = [
        row.recipe,
        f"{row.size_bytes:,}",
        f"{stock['kld_mean']:.6f}",
        *ratios,
        f"{ours['kld_p999'] / stock['kld_p999']:.3f}",
        f"{stock['same_top_fraction']:.2%} -> {ours['same_top_fraction']:.2%}",
        f"{stock['perplexity']:.4f} -> {ours['perplexity']:.4f}",
        f"{ours['perplexity_reference']:.4f}",
    ]
    head = [
        "size of",
        "bytes",
        "mean KLD, stock",
        *names,
        "99.9 %",
        "same top",
        "perplexity",
        "source's",
    ]
    table = [head, ["---"] * len(head), cells] if with_head else [cells]
    return [f"| {' | '.join(columns)} |" for columns in table]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Snug against llama-quantize at equal bytes.")
    models = [SHARED / "models" / name for name in ("measure-7m", "TinyStories-656K")]
    parser.add_argument("sources", type=Path, nargs="*", default=models, metavar="SOURCE")
    tools = os.environ.get("LLAMA_TOOLS")
    parser.add_argument("--tools", type=Path, default=tools, help="or in LLAMA_TOOLS")
    parser.add_argument("--recipes", type=lambda text: text.split(","), help="stock ones, for size")
    parser.add_argument("--text", type=Path, help="to judge on")
    cdv3 = SHARED / "text" / "calibration" / "cdv3.txt"
    parser.add_argument("--calibration", type=Path, default=cdv3)
    parser.add_argument("--chunks", type=int, default=-1, help="to judge on; default: all")
    parser.add_argument("--effort", choices=get_args(EffortName), default="best")
    parser.add_argument("--profile", choices=get_args(Profile), default="fast")
    parser.add_argument("--folder", type=Path, help="to keep what is found out, and go on from it")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args(arguments)
    if not args.tools:
        parser.error("name the folder with llama-quantize and its kin: --tools, or LLAMA_TOOLS")
    return args


def main() -> int:
    args = parse()
    tools, is_due = Tools(args.tools, args.threads), True
    for path in args.sources:
        print(f"\n{path.name}, calibrated with {args.calibration.name}\n", flush=True)
        case = Case(path, args.effort, args.threads)
        with tempfile.TemporaryDirectory() as scratch:
            folder = args.folder / path.name if args.folder else Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            is_due &= measure(case, tools, args, folder)
    return 0 if is_due else 1


if __name__ == "__main__":
    sys.exit(main())
