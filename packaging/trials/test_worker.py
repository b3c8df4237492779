"""The engine of a bundle dies as it does in a checkout: told in words, and the next one works."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from engine.client import Worker
from engine.errors import OutOfMemory, WorkerCrashed
from engine.inference import Load, LoadSettings
from engine.selftest import SelfTest


def worker_of(bundle: Path, *before: str) -> Worker:
    return Worker.start(command=[*before, str(bundle / "snug-engine"), "worker"])


@pytest.fixture
def starter(bundle: Path) -> str:
    return str(bundle / "_internal" / "resources" / "starter" / "starter.gguf")


@pytest.mark.parametrize("death", [signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV])
def test_a_death_is_told(bundle: Path, starter: str, death: signal.Signals) -> None:
    worker = worker_of(bundle)
    try:
        worker.finish(Load(starter))
        ends: list[Any] = []
        worker.run(SelfTest(), ends.append)
        os.kill(worker.pid, death)
        with pytest.raises(WorkerCrashed) as told:
            worker.finish(SelfTest())
        assert f"exit status {-death}" in told.value.details
    finally:
        worker.stop()
    again = worker_of(bundle)
    try:
        assert again.finish(SelfTest()).answer.startswith("Snug is")
    finally:
        again.stop()


def test_out_of_memory_is_told(bundle: Path, starter: str) -> None:
    """With room for the model, and none for a context of some gigabyte."""
    worker = worker_of(bundle, "prlimit", f"--data={400 << 20}")
    try:
        with pytest.raises(OutOfMemory):
            worker.finish(Load(starter, LoadSettings(n_ctx=1 << 18, anyway=True)))
        worker.finish(Load(starter))  # it lives on
    finally:
        worker.stop()
