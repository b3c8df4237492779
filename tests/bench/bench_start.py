"""First paint of Snug and of its first page against a bare window with a label, and idle CPU.

Separate processes, taken in turn; the time runs from before the interpreter's start of the script
to the end of the first paint. Run: python tests/bench/bench_start.py [RUNS]
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
IDLE_SECONDS = 10

BARE = """
import sys
from PySide6.QtWidgets import QApplication, QLabel, QMainWindow
app = QApplication(sys.argv)
window = QMainWindow()
window.setCentralWidget(QLabel("Hello"))
window.resize(1180, 760)
"""

SNUG = """
import app.__main__
app, window, context = app.__main__.start([])
"""

# The first round of events paints; the second builds the page, the third paints that.
TIMED = """
import time
window.show()
app.processEvents()
first_paint = time.time()
app.processEvents()
app.processEvents()
print(first_paint, time.time())
"""

IDLE = """
import json, os, time
from PySide6.QtCore import QTimer
window.show()
# Half the seconds pass first: what start-up put off is not idling.
marks = []
QTimer.singleShot(3000, lambda: marks.append(time.process_time()))
QTimer.singleShot(3000 + {seconds} * 1000, app.quit)
app.exec()
print(json.dumps(time.process_time() - marks[0]))
window.close()
"""


def output_of(program: str) -> tuple[float, str]:
    """Run `program` in a fresh interpreter and home; the start time and what it printed last."""
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {
            "SNUG_HOME": home,
            "QT_QPA_PLATFORM": os.environ.get("QT_QPA_PLATFORM", "offscreen"),
            "PYTHONPATH": str(ROOT),
        }
        started = time.time()
        done = subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        )
    return started, done.stdout.splitlines()[-1]


def times_ms(program: str) -> tuple[float, float]:
    """Milliseconds to the first paint, and to the paint with the page."""
    started, painted = output_of(program + TIMED)
    first, full = (float(when) - started for when in painted.split())
    return first * 1000, full * 1000


def main(runs: int) -> None:
    bare, first, full = [], [], []
    for _ in range(runs):
        bare.append(times_ms(BARE)[0])
        painted, shown = times_ms(SNUG)
        first.append(painted)
        full.append(shown)
    _, busy = output_of(SNUG + IDLE.format(seconds=IDLE_SECONDS))
    bare_ms, first_ms, full_ms = map(statistics.median, (bare, first, full))
    report = {
        "bare_first_paint_ms": round(bare_ms),
        "snug_first_paint_ms": round(first_ms),
        "snug_page_shown_ms": round(full_ms),
        "ratio_first_paint": round(first_ms / bare_ms, 2),
        "ratio_page_shown": round(full_ms / bare_ms, 2),
        "runs": runs,
        "idle_cpu_fraction": round(float(busy) / IDLE_SECONDS, 4),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
