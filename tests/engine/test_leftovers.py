"""What interrupted jobs left is found, told from what is being written, and discarded."""

from __future__ import annotations

import os
import time
from pathlib import Path

from engine.hub.download import BETWEEN_FILES_S, STAGING
from engine.leftovers import IN_USE_SECONDS, MOVING, discard, find_leftovers
from engine.library import Library


def left_behind(path: Path, seconds: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 1000)
    long_ago = time.time() - 2 * seconds
    for made in (path, path.parent):
        os.utime(made, (long_ago, long_ago))
    return path


def test_leftovers_are_old_partial_files_only(tmp_path: Path) -> None:
    old = left_behind(tmp_path / "Old.gguf.partial", IN_USE_SECONDS)
    (tmp_path / "New.gguf.partial").write_bytes(b"x")

    (leftover,) = find_leftovers(tmp_path)

    assert leftover.path == str(old)
    assert leftover.size_bytes == 1000
    assert not Library(tmp_path).scan()


def test_hidden_folders_of_jobs_are_discarded_unless_they_are_at_work_again(tmp_path: Path) -> None:
    model = left_behind(tmp_path / "ann" / "big" / "m.gguf", IN_USE_SECONDS)
    download = left_behind(tmp_path / "ann" / "big" / f"{STAGING}m" / "m.gguf", BETWEEN_FILES_S)
    move = left_behind(tmp_path / MOVING / "bob" / "m.gguf", BETWEEN_FILES_S)
    found = find_leftovers(tmp_path)
    assert {Path(leftover.path) for leftover in found} == {download.parent, move.parents[1]}

    download.touch()
    discard(found)

    assert download.exists() and model.exists()
    assert not (tmp_path / MOVING).exists()
