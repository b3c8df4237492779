"""Nobody but Snug chooses which libraries run: no variable does, nor the current folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine import processes
from engine.client import Worker
from engine.detect import Detect
from tests.helpers.gpu_modules import compile_library

LEAVES_A_MARK = """
#include <stdio.h>
__attribute__((constructor)) static void planted(void) {{
    FILE *file = fopen("{mark}", "a");
    if (file) {{ fputs("I ran", file); fclose(file); }}
}}
"""
LOADS_ALL = """
import os
from engine.processes import LIBRARY_VARIABLES
from engine.llama.library import library
library()
assert not set(LIBRARY_VARIABLES) & set(os.environ)
"""


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Plant libllama.so, and name it in every variable; what it writes to when it runs."""
    mark, planted = tmp_path / "mark", tmp_path / "planted"
    planted.mkdir()
    library = compile_library(planted / "libllama.so", LEAVES_A_MARK.format(mark=mark))
    compile_library(planted / "libggml-cpu-planted.so", LEAVES_A_MARK.format(mark=mark))
    subprocess.run([sys.executable, "-c", f"import ctypes; ctypes.CDLL({str(library)!r})"])
    assert mark.read_text() == "I ran"  # so it would
    mark.unlink()
    for name in processes.LIBRARY_VARIABLES:
        monkeypatch.setenv(name, str(planted))
    monkeypatch.setenv("GGML_BACKEND_PATH", str(planted / "libggml-cpu-planted.so"))
    return mark


def test_a_planted_library_does_not_run_in_a_process_of_ours(mark: Path) -> None:
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", LOADS_ALL],
        cwd=mark.parent / "planted",
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert not mark.exists()


def test_a_planted_library_does_not_run_in_a_worker(mark: Path) -> None:
    worker = Worker.start()
    try:
        assert worker.finish(Detect()).devices
    finally:
        worker.stop()
    assert not mark.exists()


def test_no_variable_that_names_libraries_is_handed_down(mark: Path) -> None:
    assert not set(processes.LIBRARY_VARIABLES) & set(processes.environment())
