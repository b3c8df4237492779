"""2,000 models in the library: how long the Models page takes to open, and how smoothly it scrolls.

    python tests/bench/bench_library.py [--models 2000]

Each is a file of its own with the header of a real shape and a vocabulary of 152,000 tokens; its
weights are a hole. The first start has to read all headers, the later ones know them. In the app
the chat page looks for models too, a moment after the window is there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

from PySide6.QtWidgets import QApplication

from app import theme
from app.__main__ import SWITCH_S
from app.context import AppContext
from app.garbage import GarbageCollector
from app.models.page import ModelsPage
from engine.ggml_types import GgmlType
from tests.helpers.headers import header

N_STEPS = 400


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=int, default=2000)
    n_models = parser.parse_args().models
    sys.setswitchinterval(SWITCH_S)
    with tempfile.TemporaryDirectory() as home:
        os.environ["SNUG_HOME"] = home
        folder = Path(home) / "data" / "models"
        folder.mkdir(parents=True)
        for number in range(n_models):
            header("qwen3", GgmlType.Q8_0).write_sparse(folder / f"model-{number:04}.gguf")
        app = QApplication([])
        GarbageCollector(app)  # as in the app
        theme.apply(app, "light")
        for start in ("first start", "later start"):
            context = AppContext()
            measure(app, context, start, n_models)
            measure(app, context, f"{start}, when another page has looked already", n_models)
            context.shutdown()


def measure(app: QApplication, context: AppContext, start: str, n_models: int) -> None:
    page = ModelsPage(context)
    page.resize(1280, 800)
    gaps: list[float] = []
    started = time.perf_counter()
    page.show()
    app.processEvents()
    shown = time.perf_counter() - started
    run_until(app, lambda: len(page.rows) >= n_models, gaps)
    listed = time.perf_counter() - started
    bar = page.view.verticalScrollBar()
    steps: list[float] = []
    for step in range(N_STEPS):
        at = time.perf_counter()
        bar.setValue(bar.maximum() * step // N_STEPS)
        app.processEvents()
        steps.append(time.perf_counter() - at)
    page.close()
    print(
        f"{start}: page there after {shown * 1000:.0f} ms, list after {listed * 1000:.0f} ms,"
        f" longest stall meanwhile {max(gaps, default=0) * 1000:.0f} ms;"
        f" a scroll step {statistics.median(steps) * 1000:.1f} ms, the longest"
        f" {max(steps) * 1000:.1f} ms"
    )


def run_until(app: QApplication, is_done: Callable[[], bool], gaps: list[float]) -> None:
    """Run the event loop; `gaps` are the times in which it did not turn."""
    last = time.perf_counter()
    while not is_done():
        app.processEvents()
        now = time.perf_counter()
        gaps.append(now - last)
        last = now
        time.sleep(0.001)
        last = time.perf_counter()


if __name__ == "__main__":
    main()
