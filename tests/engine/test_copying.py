"""Things that go to another place, on this disk and on another one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest

from engine.copying import move_path
from engine.errors import AlreadyExists, StorageError


@pytest.fixture
def far(elsewhere: Path) -> Path:
    return elsewhere


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


def test_links_and_empty_folders_come_along(model: Path, far: Path) -> None:
    (model / "empty").mkdir()
    (model / "here").symlink_to("deep/weights")
    (model / "gone").symlink_to("/nowhere/blob")
    (model / "folder").symlink_to("deep", target_is_directory=True)
    move_path(model, far / "model")
    assert (far / "model" / "empty").is_dir()
    links = {
        path.name: str(path.readlink()) for path in (far / "model").iterdir() if path.is_symlink()
    }
    assert links == {"here": "deep/weights", "gone": "/nowhere/blob", "folder": "deep"}
    assert not model.exists()

    move_path(far / "model" / "folder", model.parent / "folder")
    assert (model.parent / "folder").readlink() == Path("deep")
    assert not (far / "model" / "folder").is_symlink() and (far / "model" / "deep").is_dir()


@pytest.mark.skipif(os.name == "nt", reason="makes a pipe as POSIX does")
def test_what_cannot_be_copied_stays_with_all_around_it(model: Path, far: Path) -> None:
    os.mkfifo(model / "deep" / "pipe")
    with contextlib.suppress(StorageError):  # on one disk it goes along
        move_path(model, far / "model")
    (place,) = (folder for folder in (model, far / "model") if folder.exists())
    assert len(list(place.rglob("*"))) == 4
    assert not list(far.glob(".*"))


def test_a_place_that_is_taken_stays_as_it_is(model: Path, far: Path) -> None:
    far.mkdir()
    (far / "model").symlink_to("nowhere")
    with pytest.raises(AlreadyExists):
        move_path(model, far / "model")
    assert (model / "config.json").exists() and (far / "model").is_symlink()
