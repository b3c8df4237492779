"""First paint of a packaged Snug against the source tree's, taken in turn on an Xvfb.

    .venv/bin/python packaging/linux/first_paint.py PROGRAM [RUNS]

Prints medians in milliseconds as JSON: from the start of the process to the first pixels on the
screen, each start in a fresh home, after one start that is not counted.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from display import first_paint_s

ROOT = Path(__file__).resolve().parents[2]


def start_ms(command: list[str]) -> float:
    with tempfile.TemporaryDirectory() as home:
        environment = {
            **os.environ,
            "SNUG_HOME": home,
            "PYTHONPATH": str(ROOT),
            "QT_QPA_PLATFORM": "xcb",
        }
        return first_paint_s(command, environment) * 1000


def main(program: str, runs: int) -> None:
    commands = {"package": [program], "source tree": [sys.executable, "-m", "app"]}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for run in range(runs + 1):
        for name, command in commands.items():
            took = start_ms(command)
            times[name] += [took] if run else []
    medians = {name: statistics.median(values) for name, values in times.items()}
    report = {f"{name}, ms": round(median) for name, median in medians.items()}
    ratio = round(medians["package"] / medians["source tree"], 2)
    print(json.dumps({**report, "ratio": ratio, "runs": runs}, indent=1))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 10)
