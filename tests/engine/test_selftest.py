"""An installation that tries itself, as installers and bug reports have it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine import __version__, processes

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("program", [["engine", "selftest", "--json"], ["app", "--selftest"]])
def test_tells_what_is_here(program: list[str]) -> None:
    command = [sys.executable, "-m", *program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    if program[0] == "app":
        assert report["window"]["has_icons"]
        report = report["engine"]
    assert report["snug"] == __version__
    assert report["kernels"] == "host"  # what is compiled here is for this computer
    assert report["answer"].startswith("Snug is")
    cpu = next(backend for backend in report["backends"] if backend["name"] == "CPU")
    assert Path(cpu["file"]).name.startswith(("libggml-cpu", "ggml-cpu"))
    if sys.platform == "linux":
        assert [path for path in report["libraries"] if "libllama" in path]


def test_a_package_has_its_worker_beside_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/opt/snug/snug")
    assert processes.command("worker") == [str(Path("/opt/snug/snug-engine")), "worker"]
    monkeypatch.setattr(sys, "executable", "/c/Snug/snug.exe")
    assert processes.command("worker") == [str(Path("/c/Snug/snug-engine.exe")), "worker"]
