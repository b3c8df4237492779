"""Output that is whole or not there, when several jobs and people meet at one name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from engine import output
from engine.errors import AlreadyExists, StorageError


def unfinished(target: Path) -> Generator[None, None, None]:
    with output.new_file(target, size_bytes=3, overwrite=True) as file:
        file.write(b"one")
        yield


def test_a_job_that_was_refused_takes_nothing_away(tmp_path: Path) -> None:
    code = (
        "import sys; from engine import output\n"
        "with output.new_file(sys.argv[1], size_bytes=3) as file:\n"
        "    print('open', flush=True); sys.stdin.readline(); file.write(b'one')\n"
    )
    target = tmp_path / "a.bin"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdout
    assert other.stdout.readline() == b"open\n"
    for overwrite in (False, True):
        with (
            pytest.raises(AlreadyExists, match="being written by another job"),
            output.new_file(target, size_bytes=3, overwrite=overwrite),
        ):
            pass
    other.communicate(b"go on\n", timeout=30)
    assert other.returncode == 0
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    assert target.read_bytes() == b"one"


def test_a_job_killed_while_it_gave_the_file_its_name_costs_nothing(tmp_path: Path) -> None:
    target, partial = tmp_path / "a.bin", tmp_path / "a.bin.partial"
    target.write_bytes(b"a finished model")
    os.link(target, partial)
    steps = unfinished(target)
    next(steps)
    assert target.read_bytes() == b"a finished model"
    steps.close()
    assert target.read_bytes() == b"a finished model"
    assert not partial.exists()


def test_a_partial_file_of_somebody_else_is_not_removed(tmp_path: Path) -> None:
    target, partial = tmp_path / "a.bin", tmp_path / "a.bin.partial"
    steps = unfinished(target)
    next(steps)
    partial.unlink()
    partial.write_bytes(b"of somebody else")
    steps.close()
    assert partial.read_bytes() == b"of somebody else"


def test_a_partial_file_that_was_discarded_meanwhile_is_told(tmp_path: Path) -> None:
    def make() -> None:
        with output.new_file(tmp_path / "a.bin", size_bytes=3) as file:
            file.write(b"one")
            (tmp_path / "a.bin.partial").unlink()

    with pytest.raises(StorageError, match=r"a\.bin was removed while") as caught:
        make()
    assert caught.value.hint
    assert not list(tmp_path.iterdir())
