"""Things that go to another place, on this disk and on another one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.copying import move_path
from engine.errors import AlreadyExists


@pytest.fixture(params=["one disk", "another disk"])
def far(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "one disk":
        yield tmp_path / "far"
        return
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second file system at /dev/shm")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder) / "far"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "config.json").write_bytes(b"{}")
    (folder / "deep" / "weights").write_bytes(os.urandom(100_000))
    os.utime(folder / "config.json", (1, 1))
    return folder


def test_a_file_and_a_folder_get_another_place(model: Path, far: Path) -> None:
    weights = (model / "deep" / "weights").read_bytes()
    move_path(model, far / "model")
    assert (far / "model" / "deep" / "weights").read_bytes() == weights
    assert (far / "model" / "config.json").stat().st_mtime == 1
    assert not model.exists()
    move_path(far / "model" / "config.json", model.parent / "back.json")
    assert (model.parent / "back.json").read_bytes() == b"{}"
    assert [path.name for path in far.rglob("*")] == ["model", "deep", "weights"]


def test_a_place_that_is_taken_stays_as_it_is(model: Path, far: Path) -> None:
    far.mkdir()
    (far / "model").symlink_to("nowhere")
    with pytest.raises(AlreadyExists):
        move_path(model, far / "model")
    assert (model / "config.json").exists() and (far / "model").is_symlink()
