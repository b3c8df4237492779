"""The stock recipes of Snug against llama-quantize: whole processes in turns, and the same tensors.

    python tests/bench/bench_stock.py --llama-quantize PROGRAM [--size 100M] [--threads 2]

A Llama of random BF16 weights. Each of both goes first every other time; medians, and the median of
the ratios of the turns.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.gguf import GgufFile
from tests.bench.bench_shrink import SHAPES, write_random

RECIPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K")


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def require_same_tensors(ours: Path, theirs: Path) -> None:
    with GgufFile.open(ours) as a, GgufFile.open(theirs) as b:
        of_theirs = {tensor.name: tensor for tensor in b.tensors}
        for tensor in a.tensors:
            other = of_theirs[tensor.name]
            if tensor.type is not other.type or a.raw(tensor, 0, tensor.n_rows) != b.raw(
                other, 0, other.n_rows
            ):
                raise SystemExit(f"{tensor.name} is another one")


def main() -> None:
    parser = argparse.ArgumentParser(description="Stock recipes against llama-quantize.")
    parser.add_argument("--llama-quantize", type=Path, required=True)
    parser.add_argument("--size", choices=list(SHAPES), default="100M")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=4)
    args = parser.parse_args()
    n_threads = str(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "random.gguf"
        ours, theirs = Path(folder) / "ours.gguf", Path(folder) / "theirs.gguf"
        write_random(SHAPES[args.size], model)
        print(f"{model.stat().st_size / 1e6:.0f} MB, {n_threads} threads\n")
        print("| recipe | llama-quantize, s | Snug, s | ratio |\n|---|---|---|---|")
        for recipe in RECIPES:
            engine = [sys.executable, "-m", "engine", "shrink", str(model), "--type", recipe]
            engine += ["--effort", "stock", "-t", n_threads, "--overwrite", "--out", str(ours)]
            stock = [str(args.llama_quantize), str(model), str(theirs), recipe, n_threads]
            times: list[tuple[float, float]] = []
            for turn in range(args.rounds):
                if turn % 2:
                    of_ours = seconds(engine)
                    times.append((seconds(stock), of_ours))
                else:
                    of_theirs = seconds(stock)
                    times.append((of_theirs, seconds(engine)))
            require_same_tensors(ours, theirs)
            llama, snug = (statistics.median(column) for column in zip(*times, strict=True))
            ratio = statistics.median(b / a for a, b in times)
            print(f"| {recipe} | {llama:.2f} | {snug:.2f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
