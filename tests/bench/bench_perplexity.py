"""Snug's figures beside those of llama.cpp's own tool, on the same files and text.

    python tests/bench/bench_perplexity.py LLAMA-PERPLEXITY REFERENCE MODEL TEXT [--chunks 20]

The third column is the tool's arithmetic with our logits: it should be the first to its last digit
where both compute with the same kernels, and tells that what is left is the tool's rounding of the
reference to 16 bits. Files in F32 are best: llama.cpp is then nearly the same on every processor.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[2]))

from engine.jobs import finish
from engine.quantize.quality import Quality
from tests.helpers.llama_perplexity import Figures, printed_figures, rounded_base_figures

ATTEMPTS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description="Compare the judge with llama-perplexity.")
    for name in ("tool", "reference", "model", "text"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--chunks", type=int, default=20)
    args = parser.parse_args()
    told = ask_tool(args.tool, args.reference, args.model, args.text, args.chunks)
    job = Quality(str(args.model), str(args.reference), str(args.text), args.chunks)
    ours = msgspec.structs.asdict(finish(job.run()))
    text = args.text.read_text(encoding="utf-8")
    rounded = rounded_base_figures(args.reference, args.model, text, args.chunks)
    print(f"{'':28}{'llama-perplexity':>18}{'Snug':>14}{'Snug, rounded':>16}")
    for name, value in told.items():
        print(f"{name:28}{value:18.6f}{ours[name]:14.6f}{rounded[name]:16.6f}")


def ask_tool(tool: Path, reference: Path, model: Path, text: Path, chunks: int) -> Figures:
    """Run the tool on both; it at times ends before its summary, and is then asked again."""
    libraries = {**os.environ, "LD_LIBRARY_PATH": str(tool.parent)}
    with tempfile.TemporaryDirectory() as folder:
        base = str(Path(folder) / "base.bin")
        make = ["-m", str(reference), "-f", str(text), "--chunks", str(chunks)]
        compare = ["-m", str(model), "--kl-divergence"]
        for arguments in (make, compare):
            for _ in range(ATTEMPTS):
                command = [str(tool), *arguments, "--kl-divergence-base", base]
                done = subprocess.run(
                    command, env=libraries, capture_output=True, text=True, check=False
                )
                figures = printed_figures(done.stdout)
                if figures or (arguments is make and done.returncode == 0):
                    break
    if not figures:
        sys.exit(f"llama-perplexity gave no figures:\n{done.stderr[-2000:]}")
    return figures


if __name__ == "__main__":
    main()
