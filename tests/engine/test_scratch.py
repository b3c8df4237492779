"""Scratch folders go, and those that a killed process left go with time."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import pytest

from engine.scratch import OLD_S, PREFIX, scratch_folder


def test_what_was_left_long_ago_is_taken_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    old, fresh, foreign = (tmp_path / name for name in (f"{PREFIX}a", f"{PREFIX}b", "other"))
    for folder in (old, fresh, foreign):
        folder.mkdir()
        (folder / "file").touch()
    long_ago = time.time() - OLD_S - 60
    for folder in (old, foreign):
        os.utime(folder, (long_ago, long_ago))
    with scratch_folder() as mine:
        assert mine.is_dir() and mine.parent == tmp_path
        assert {path.name for path in tmp_path.iterdir()} == {fresh.name, "other", mine.name}
    assert not mine.exists()
