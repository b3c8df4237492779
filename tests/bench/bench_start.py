"""First paint of Snug, with the chat page, against a bare window with a label; and idle CPU.

Separate processes, taken in turn; the time runs from before the interpreter's start of the script
to the end of the first paint. Bytecode is cached, as it is from the second start on: one run of
each is not counted. Run: python tests/bench/bench_start.py [RUNS]
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

# The rounds after the first paint show that nothing to be seen is put off.
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


def output_of(program: str, bytecode: str) -> tuple[float, str]:
    """Run `program` in a fresh interpreter and home; the start time and what it printed last."""
    with tempfile.TemporaryDirectory() as home:
        environment = os.environ | {
            "SNUG_HOME": home,
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": bytecode,
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


def times_ms(program: str, bytecode: str) -> tuple[float, float]:
    """Milliseconds to the first paint, and until nothing is left to do."""
    started, painted = output_of(program + TIMED, bytecode)
    first, full = (float(when) - started for when in painted.split())
    return first * 1000, full * 1000


def main(runs: int) -> None:
    bare, first, full = [], [], []
    with tempfile.TemporaryDirectory() as bytecode:
        for program in (BARE, SNUG):
            times_ms(program, bytecode)
        for _ in range(runs):
            bare.append(times_ms(BARE, bytecode)[0])
            painted, settled = times_ms(SNUG, bytecode)
            first.append(painted)
            full.append(settled)
        _, busy = output_of(SNUG + IDLE.format(seconds=IDLE_SECONDS), bytecode)
    bare_ms, first_ms, full_ms = map(statistics.median, (bare, first, full))
    report = {
        "bare_first_paint_ms": round(bare_ms),
        "snug_first_paint_ms": round(first_ms),
        "snug_settled_ms": round(full_ms),
        "ratio_first_paint": round(first_ms / bare_ms, 2),
        "ratio_settled": round(full_ms / bare_ms, 2),
        "runs": runs,
        "idle_cpu_fraction": round(float(busy) / IDLE_SECONDS, 4),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
