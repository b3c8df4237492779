"""Speed of reading and writing through the worker process, next to llama-bench, in turns; medians.

`bench` is the engine's own measurement, which must tell what llama-bench tells; `chat` is an answer
with the default samplers that arrives here piece by piece. Without a model it makes one of random
weights in build/bench and keeps it there; without llama-bench only our own figures are shown.
A round in which other programs took more than 3 % of the processor is measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from engine.client import Failed, Stepped, Succeeded, Worker  # noqa: E402
from engine.inference import Bench, Generate, Load, LoadSettings  # noqa: E402
from engine.jobs import finish  # noqa: E402
from engine.sampling import SamplingParams  # noqa: E402

N_PROMPT, N_GENERATE = 512, 128
MOST_OTHERS = 0.03
MOST_TRIES = 4


def random_model(folder: Path) -> Path:
    """Return a Llama of half a billion random weights as Q4_K_M, some 320 MB."""
    from engine.quantize.shrink import Shrink
    from tests.helpers.checkpoints import write_tiny_checkpoint

    out = folder / "random-Q4_K_M.gguf"
    if not out.exists():
        folder.mkdir(parents=True, exist_ok=True)
        print("Making a model of random weights, once (about a minute) ...")
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            checkpoint = write_tiny_checkpoint(
                Path(scratch) / "random",
                hidden=1536,
                ffn=4608,
                n_layers=16,
                n_heads=24,
                n_kv_heads=8,
                n_ctx=8192,
                n_pad=32_000,
                tied=False,
            )
            finish(Shrink(str(checkpoint), str(out), "Q4_K_M").run())
    return out


def run(worker: Worker, job: Any) -> tuple[Any, int]:
    """Run `job` to its end; return its result and how many pieces of text came."""
    ended = threading.Event()
    outcome: list[Any] = []
    n_pieces = 0

    def hear(event: Any) -> None:
        nonlocal n_pieces
        if isinstance(event, Stepped):
            n_pieces += hasattr(event.step, "text")
            return
        outcome.append(event)
        ended.set()

    worker.run(job, hear)
    ended.wait()
    if isinstance(outcome[0], Failed):
        raise outcome[0].error
    assert isinstance(outcome[0], Succeeded)
    return outcome[0].result, n_pieces


def measure_bench(model: Path, n_threads: int) -> dict[str, float]:
    worker = Worker.start()
    try:
        result, _ = run(worker, Bench(str(model), N_PROMPT, N_GENERATE, n_threads, 2))
    finally:
        worker.stop()
    return {"bench pp": result.pp_tokens_per_second, "bench tg": result.tg_tokens_per_second}


def measure_chat(model: Path, n_threads: int) -> dict[str, float]:
    worker = Worker.start()
    try:
        run(worker, Load(str(model), LoadSettings(n_ctx=2048, n_threads=n_threads)))
        speeds = []
        for seed in range(2):
            ask = Generate(
                prompt="Once upon a time",
                sampling=SamplingParams(seed=seed),
                max_tokens=N_GENERATE,
            )
            answer, n_pieces = run(worker, ask)
            assert n_pieces > 1
            speeds.append(answer.generation_tokens_per_second)
    finally:
        worker.stop()
    return {"chat tg": statistics.mean(speeds)}


def measure_llama_bench(program: Path, model: Path, n_threads: int) -> dict[str, float]:
    sizes = ["-p", str(N_PROMPT), "-n", str(N_GENERATE)]
    command = [str(program), "-m", str(model), *sizes, "-t", str(n_threads)]
    done = subprocess.run(
        [*command, "-r", "2", "-o", "json"], capture_output=True, text=True, check=True
    )
    pp, tg = json.loads(done.stdout)
    return {"llama-bench pp": pp["avg_ts"], "llama-bench tg": tg["avg_ts"]}


class Quiet:
    """Sees how much of the processor others used since it was made."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._all, self._ours = self._busy()

    def others(self) -> float:
        """Return their share of the whole machine, 0 to 1; our own children must have ended."""
        everything, ours = self._busy()
        seconds = (time.monotonic() - self._started) * (os.cpu_count() or 1)
        return max(0.0, (everything - self._all) - (ours - self._ours)) / seconds

    @staticmethod
    def _busy() -> tuple[float, float]:
        times = psutil.cpu_times()
        return times.user + times.system, sum(os.times()[:4])


def measure_round(
    model: Path, n_threads: int, llama_bench: Path | None
) -> tuple[dict[str, float], float]:
    """Measure everything once; return the speeds and what others used meanwhile."""
    quiet = Quiet()
    speeds: dict[str, float] = {}
    if llama_bench:
        speeds |= measure_llama_bench(llama_bench, model, n_threads)
    speeds |= measure_bench(model, n_threads)
    speeds |= measure_chat(model, n_threads)
    return speeds, quiet.others()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", help="a GGUF; default: random weights")
    parser.add_argument("--llama-bench", type=Path, help="compare with this program")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("-t", "--threads", type=int, default=0)
    args = parser.parse_args(argv)
    from engine.llama.threads import default_n_threads

    model = (args.model or random_model(ROOT / "build" / "bench")).resolve()
    n_threads = args.threads or default_n_threads()
    rounds: list[dict[str, float]] = []
    for _ in range(MOST_TRIES * args.rounds):
        speeds, others = measure_round(model, n_threads, args.llama_bench)
        figures = "  ".join(f"{name} {speed:.1f}" for name, speed in speeds.items())
        print(f"{figures}  (others {others:.1%})", flush=True)
        if others <= MOST_OTHERS:
            rounds.append(speeds)
        if len(rounds) == args.rounds:
            break
    if not rounds:
        sys.exit("This computer is too busy to measure on.")
    print(f"\n{model.name}, {n_threads} threads, medians of {len(rounds)}, tokens/s")
    for name in rounds[0]:
        line = f"  {name:15}{statistics.median(r[name] for r in rounds):8.1f}"
        peer = f"llama-bench {name[-2:]}"
        if peer in rounds[0] and name != peer:
            line += f"   {statistics.median(r[name] / r[peer] for r in rounds):.3f} of llama-bench"
        print(line)


if __name__ == "__main__":
    main()
