"""Writing speed beside a busy program: all cores, one fewer, and Snug's own choice, in turns.

The neighbour keeps one core busy. Medians; makes a model of random weights when none is given.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from engine.client import Worker  # noqa: E402
from engine.inference import Generate, Load, LoadSettings  # noqa: E402
from engine.llama.threads import default_n_threads  # noqa: E402
from tests.bench.bench_inference import random_model  # noqa: E402

N_GENERATE = 256


def measure(model: Path, n_threads: int) -> float:
    """Tokens per second of a first answer; 0 threads is Snug's choice."""
    worker = Worker.start()
    try:
        worker.finish(Load(str(model), LoadSettings(n_ctx=2048, n_threads=n_threads)))
        answer = worker.finish(Generate(prompt="Once upon a time", max_tokens=N_GENERATE))
    finally:
        worker.stop()
    return float(answer.generation_tokens_per_second)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", help="a GGUF; default: random weights")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    model = (args.model or random_model(ROOT / "build" / "bench")).resolve()
    most = default_n_threads()
    counts = {"all cores": most, "one fewer": max(1, most - 1), "Snug's choice": 0}
    speeds: dict[str, list[float]] = {name: [] for name in counts}
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as neighbour:
        try:
            for _ in range(args.rounds):
                for name, n_threads in counts.items():
                    speeds[name].append(measure(model, n_threads))
        finally:
            neighbour.kill()
    for name, values in speeds.items():
        print(f"{name}: {statistics.median(values):.1f} tokens/s")


if __name__ == "__main__":
    main()
