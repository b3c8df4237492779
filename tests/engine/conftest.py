"""What several tests of the engine share."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.convert.job import Convert
from engine.jobs import finish


@pytest.fixture(params=["one disk", "another disk"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A place that is not there yet, on the disk of `tmp_path` and on another one."""
    if request.param == "one disk":
        yield tmp_path / "elsewhere"
        return
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder) / "elsewhere"


@pytest.fixture
def stories(shared: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """TinyStories-656K, text to calibrate with, and other text."""
    model = tmp_path / "stories.gguf"
    finish(Convert(str(shared / "models" / "TinyStories-656K"), str(model), "f32").run())
    words = (shared / "text" / "tinystories_val.txt").read_text(encoding="utf-8")
    text, other = tmp_path / "text.txt", tmp_path / "other.txt"
    text.write_text(words[:120_000])
    other.write_text(words[200_000:230_000])
    return model, text, other
