"""2,000 models in the library: how soon the Models page shows them, and how smoothly it scrolls.

    python tests/bench/bench_library.py [--models 2000] [--rounds 5] [--home FOLDER]

Each is a file of its own with the header of a real shape and a vocabulary of 152,000 tokens; its
weights are a hole. Every round is a window of its own, started anew; `--home` keeps the models for
another run. A step is one turn of the event loop: what it took by the clock, and of the processor
by the window's thread alone, which neighbours on this machine hardly change.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

N_STEPS = 400
STALL_MS = 16
FRAME_S = 1 / 60


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--window", action="store_true", help="be the window of one round")
    args = parser.parse_args()
    if args.window:
        print(json.dumps(measure(args.models)))
        return
    with nullcontext(args.home) if args.home else tempfile.TemporaryDirectory() as home:
        os.environ["SNUG_HOME"] = str(home)
        # Bytecode is there, as it is from the second start of an installed Snug on.
        os.environ.update(PYTHONDONTWRITEBYTECODE="", PYTHONPYCACHEPREFIX=f"{home}/bytecode")
        make_models(Path(home) / "data" / "models", args.models)
        command = [sys.executable, __file__, "--window", "--models", str(args.models)]
        rounds = []
        for number in range(args.rounds + 1):
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            rounds.append(json.loads(done.stdout))
            if number == 0:
                print("The first start:")
                tell(rounds)
        print(f"Later ones, median and worst of {args.rounds}:")
        tell(rounds[1:])


def make_models(folder: Path, n_models: int) -> None:
    from engine.ggml_types import GgmlType
    from engine.gguf import gguf_size_bytes
    from tests.helpers.headers import header

    folder.mkdir(parents=True, exist_ok=True)
    model = header("qwen3", GgmlType.Q8_0)
    data = b""
    size_bytes = gguf_size_bytes(model.metadata, model.tensors)
    for path in (folder / f"model-{number:04}.gguf" for number in range(n_models)):
        if path.exists():
            continue
        if not data:
            data = model.write_sparse(path).open("rb").read(8 << 20)
        with path.open("wb") as file:
            file.write(data)
            file.truncate(size_bytes)


def tell(rounds: list[dict[str, float]]) -> None:
    for name in rounds[0]:
        values = [found[name] for found in rounds]
        print(f"  {name:58} {statistics.median(values):8.1f} {max(values):8.1f}")


def measure(n_models: int) -> dict[str, float]:
    """What one window took, in ms."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from app.__main__ import start

    app, window, context = start([])
    window.resize(1280, 800)
    window.show()
    while not window._pages:
        app.processEvents()
    steps = Steps(app.processEvents)
    opened = time.perf_counter()
    steps.take(lambda: window.show_page("models"))
    page = window.page("models")
    shown = time.perf_counter() - opened
    while page.shelf.view.model().rowCount() < n_models:
        steps.take(every_s=0.001)
    steps.take()  # paints them
    found = {"page there": shown * 1000, "list there": (time.perf_counter() - opened) * 1000}
    found |= steps.tell("until then")
    while context.scan.is_running:
        steps.take(every_s=0.001)
    found["folders looked through"] = (time.perf_counter() - opened) * 1000
    found |= steps.tell("until then, a step")

    bar = page.shelf.view.verticalScrollBar()

    def scroll(beside: Callable[[], object]) -> Steps:
        scrolled = Steps(app.processEvents)
        for step in range(N_STEPS):
            beside()
            scrolled.take(partial(bar.setValue, bar.maximum() * step // N_STEPS), FRAME_S)
        return scrolled

    extra = Path(context.settings.value.models_folder) / "one-more.gguf"

    def look() -> None:
        if not context.scan.is_running:
            context.scan.start()

    def change() -> None:
        if not context.scan.is_running:
            extra.unlink() if extra.exists() else extra.write_bytes(b"GGUF")
            context.scan.start()

    arrived: list[object] = []
    context.scan.found.connect(arrived.append)
    found |= scroll(lambda: None).tell("a step of scrolling")
    for act, name in ((look, "nothing new is found"), (change, "one comes and goes")):
        arrived.clear()
        found |= scroll(act).tell(f"... while {name}")
        found[f"... while {name}, times"] = len(arrived)
    extra.unlink(missing_ok=True)
    window.close()
    return found


class Steps:
    """Turns of the event loop."""

    def __init__(self, turn: Callable[[], object]) -> None:
        self._turn = turn
        self._walls: list[float] = []
        self._own: list[float] = []

    def take(self, act: Callable[[], object] | None = None, every_s: float = 0.0) -> None:
        wall, own = time.perf_counter(), time.thread_time()
        if act:
            act()
        self._turn()
        self._walls.append((time.perf_counter() - wall) * 1000)
        self._own.append((time.thread_time() - own) * 1000)
        time.sleep(max(0.0, wall + every_s - time.perf_counter()))

    def tell(self, name: str) -> dict[str, float]:
        return {
            f"{name}, median": statistics.median(self._walls),
            f"{name}, longest": max(self._walls),
            f"{name}, median of its own": statistics.median(self._own),
            f"{name}, longest of its own": max(self._own),
            f"{name}, over {STALL_MS} ms": sum(wall > STALL_MS for wall in self._walls),
        }


if __name__ == "__main__":
    main()
