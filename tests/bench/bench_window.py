"""Writing speed of a chat in the window (default samplers, painted offscreen) next to llama-bench.

The answer streams from the worker to the transcript, which paints it; counted are the tokens
between two paints of the window's own clock. In turns; medians. Needs a model whose answers are
longer than 160 tokens: one of random weights is made when none is given.
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
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from tests.bench.bench_inference import random_model  # noqa: E402

SKIPPED, COUNTED = 8, 128


def measure_window(model: Path, n_threads: int) -> float:
    """Tokens per second of the words that appear in a real window in a process of its own."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, __file__, str(model), "--once", "-t", str(n_threads)]
        environment = os.environ | {"SNUG_HOME": home, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def once(model: Path, n_threads: int) -> float:
    """Open the window, say something, and time the answer as it is shown."""
    from PySide6.QtCore import Qt

    import app.__main__ as snug
    from app.chat.session import State

    application, window, context = snug.start([])
    context.settings.update(n_threads=n_threads)
    window.show()
    window.chat_with(str(model))
    page = window.page("chat")

    while page.session.state != State.READY:
        application.processEvents()
        time.sleep(0.002)
    marks: list[tuple[float, int]] = []

    def has_enough() -> bool:
        return bool(marks) and marks[-1][1] - marks[0][1] >= SKIPPED + COUNTED

    def mark() -> None:
        marks.append((time.perf_counter(), page.session.context_used))
        if has_enough():
            application.quit()

    def ask() -> None:
        """Ask; anew when an answer ended too early, which random weights may do at any token."""
        if has_enough():
            return
        marks.clear()
        page.new_chat()
        page.composer.text.setPlainText("Once upon a time")
        page.composer.button.click()

    page.session.answer_grew.connect(mark)
    # Queued: the session tells that an answer ended before it is ready for the next.
    page.session.answer_ended.connect(ask, Qt.ConnectionType.QueuedConnection)
    ask()
    # The event loop itself, not processEvents in a loop: that is what a person's window runs.
    application.exec()
    page.session.stop()
    window.close()
    t0, n0 = next(mark for mark in marks if mark[1] - marks[0][1] >= SKIPPED)
    t1, n1 = marks[-1]
    return (n1 - n0) / (t1 - t0)


def measure_llama_bench(program: Path, model: Path, n_threads: int) -> float:
    command = [str(program), "-m", str(model), "-p", "0", "-n", str(COUNTED), "-r", "2"]
    command += ["-t", str(n_threads), "-o", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)[0]["avg_ts"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", help="a GGUF; default: random weights")
    parser.add_argument("--llama-bench", type=Path, help="compare with this program")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--once", action="store_true", help="one window, one answer, one figure")
    parser.add_argument("-t", "--threads", type=int, default=0)
    args = parser.parse_args()
    model = (args.model or random_model(ROOT / "build" / "bench")).resolve()
    if args.once:
        print(once(model, args.threads))
        return
    from engine.llama.threads import default_n_threads

    n_threads = args.threads or default_n_threads()
    windows, peers = [], []
    for number in range(1, args.rounds + 1):
        if args.llama_bench:
            peers.append(measure_llama_bench(args.llama_bench, model, n_threads))
        windows.append(measure_window(model, n_threads))
        print(f"{number}: window {windows[-1]:.1f}  llama-bench {peers[-1:]}", flush=True)
    print(f"{model.name}, {n_threads} threads: window {statistics.median(windows):.1f} tokens/s")
    if peers:
        ratio = statistics.median(w / p for w, p in zip(windows, peers, strict=True))
        print(f"{ratio:.3f} of llama-bench ({statistics.median(peers):.1f})")


if __name__ == "__main__":
    main()
