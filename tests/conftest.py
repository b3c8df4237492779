"""What every test gets: its own folders, the shared models if they are there, and no leftovers."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PySide6.QtWidgets import QApplication

from app import theme
from app.garbage import GarbageCollector

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models and texts beside the checkout; without it the test is skipped."""
    folder = Path(__file__).parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder of shared models beside the checkout")
    return folder


@pytest.fixture(scope="session")
def qapp(qapp: QApplication) -> QApplication:
    """The application, dressed and kept clean as `python -m app` does it."""
    theme.apply(qapp, "light")
    GarbageCollector(qapp)
    return qapp


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh place for settings, conversations, models and logs."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("SNUG_HOME", str(home))
    return home


@pytest.fixture(autouse=True)
def garbage_of_this_thread() -> Iterator[None]:
    """Where the window's collector is in charge, collect also after tests without an event loop."""
    yield
    if not gc.isenabled():
        gc.collect(1)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Fail a test that leaves a child process or a thread of ours running."""
    children = set(psutil.Process().children(recursive=True))
    threads = set(threading.enumerate())
    yield
    new_children = set(psutil.Process().children(recursive=True)) - children
    _gone, alive = psutil.wait_procs(new_children, timeout=10)
    for process in alive:
        process.kill()
    new_threads = [t for t in threading.enumerate() if t not in threads]
    for thread in new_threads:
        thread.join(10)
    still = [
        t.name for t in new_threads if t.is_alive() and not t.name.startswith("pytest_timeout")
    ]
    assert not alive, f"processes left behind: {alive}"
    assert not still, f"threads left behind: {still}"


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded random Llama checkpoint in the shape of a real one."""
    from tests.helpers.checkpoints import write_tiny_checkpoint

    folder = tmp_path_factory.mktemp("checkpoint") / "Tiny"
    write_tiny_checkpoint(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_gguf(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_checkpoint`, converted to F16."""
    from engine.convert.job import Convert
    from engine.jobs import finish

    out = tmp_path_factory.mktemp("gguf") / "Tiny-F16.gguf"
    finish(Convert(str(tiny_checkpoint), str(out), "f16").run())
    return out


@pytest.fixture(scope="session")
def endless_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that never ends an answer by itself, so that a test has all the time to stop it.

    The embeddings of its special tokens are zero: with tied weights so are their logits, which
    are then never among the forty largest that are sampled from.
    """
    from engine.convert.job import Convert
    from engine.jobs import finish
    from tests.helpers import checkpoints

    folder = tmp_path_factory.mktemp("endless") / "Endless"
    checkpoints.write_tiny_checkpoint(folder, n_ctx=8192)
    tensors = checkpoints.random_tensors(
        0, len(checkpoints.vocabulary()[0]), 256, 512, 2, 4, 2, tied=True
    )
    tensors["model.embed_tokens.weight"][: len(checkpoints.SPECIAL)] = 0
    checkpoints.write_safetensors(folder / "model.safetensors", tensors, "BF16")
    out = folder.parent / "Endless-F16.gguf"
    finish(Convert(str(folder), str(out), "f16").run())
    return out
