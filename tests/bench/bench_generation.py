"""Speed of a file that Snug shrank next to one that llama-quantize made in the same types.

    python tests/bench/bench_generation.py SOURCE SHRUNK --tools FOLDER [--rounds 7] [--threads 2]

SOURCE and SHRUNK are GGUF files, of which one was shrunk from the other by any method. llama-bench
measures both in turns: what is told are medians, and those of the ratios of each turn.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.ggml_types import GgmlType
from engine.gguf import GgufFile
from tests.bench.bench_inference import measure_llama_bench


def write_stock(tools: Path, source: Path, shrunk: Path, out: Path) -> None:
    """Let llama-quantize make `out` of `source` in the types that the tensors of `shrunk` have."""
    made = {tensor.name: tensor.type for tensor in GgufFile.open(shrunk).tensors}
    rules = [
        f"^{name.replace('.', '[.]')}$={type_.name}"
        for name, type_ in made.items()
        if type_ is not GgmlType.F32
    ]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(rules).lower())
        file.flush()
        options = ["--tensor-type-file", file.name]
        for option, name in (("output-tensor", "output"), ("token-embedding", "token_embd")):
            if f"{name}.weight" in made:
                options += [f"--{option}-type", made[f"{name}.weight"].name.lower()]
        command = [str(tools / "llama-quantize"), *options, str(source), str(out), "Q4_K_M"]
        subprocess.run(command, check=True, capture_output=True)
    stock = {tensor.name: tensor.type for tensor in GgufFile.open(out).tensors}
    assert stock == made, [name for name in made if stock[name] is not made[name]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("shrunk", type=Path)
    parser.add_argument("--tools", type=Path, default=os.environ.get("LLAMA_TOOLS"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if not args.tools:
        parser.error("name the folder with llama-quantize and llama-bench: --tools, or LLAMA_TOOLS")
    os.environ["LD_LIBRARY_PATH"] = str(args.tools.resolve())
    with tempfile.TemporaryDirectory(dir=args.shrunk.parent) as folder:
        stock = Path(folder) / "stock.gguf"
        write_stock(args.tools, args.source, args.shrunk, stock)
        bench = args.tools / "llama-bench"
        rounds = []
        for number in range(args.rounds):  # each of them first every other time
            pair = (stock, args.shrunk)[:: -1 if number % 2 else 1]
            speeds = [measure_llama_bench(bench, file, args.threads) for file in pair]
            rounds.append(speeds[:: -1 if number % 2 else 1])
    print("| llama-bench, tokens/s | llama-quantize's file | Snug's | ratio |\n|---|---|---|---|")
    for test in rounds[0][0]:
        theirs, ours = (statistics.median(turn[i][test] for turn in rounds) for i in (0, 1))
        ratio = statistics.median(turn[1][test] / turn[0][test] for turn in rounds)
        print(f"| {test.removeprefix('llama-bench ')} | {theirs:.1f} | {ours:.1f} | {ratio:.3f} |")


if __name__ == "__main__":
    main()
