"""A calibration that was broken off goes on from what it had read, to the same bytes."""

from __future__ import annotations

import os
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from engine.calibrate import snapshots
from engine.calibrate.job import Calibrate, Calibrated
from engine.jobs import Paused, Progress, Step, finish
from engine.partial import partial_of
from tests.engine.test_calibrate import write_mixture

N_CTX, N_CHUNKS = 64, 8
WORDS = "Once upon a time there was a little boy who loved to play with his friend in the day. "


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each chunk is kept."""
    monkeypatch.setattr(snapshots, "EVERY_S", 0.0)
    monkeypatch.setattr(snapshots, "MOST_SHARE", 0)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(WORDS * 60, encoding="utf-8")
    return path


def job(model: Path, out: Path, text: Path, **others: bool) -> Calibrate:
    return Calibrate(
        str(model), str(out), (str(text),), N_CHUNKS, N_CTX, 1, n_held_out=16, **others
    )


def until(steps: Generator[Step, None, Calibrated], n_chunks: int) -> int:
    """Run until so many chunks are read; returns how many there were when reading began."""
    first = None
    for step in steps:
        assert isinstance(step, Progress)
        if step.stage == "Calibrating":
            first = step.done // N_CTX if first is None else first
            if step.done >= n_chunks * N_CTX:
                break
    assert first is not None
    return first


@pytest.mark.parametrize("is_mixture", [False, True])
def test_it_goes_on_where_it_was_broken_off(
    tiny_gguf: Path, tmp_path: Path, text: Path, is_mixture: bool
) -> None:
    model = tiny_gguf
    if is_mixture:
        model = write_mixture(tmp_path / "mixture", n_experts=4, n_used=2)
    straight, out = tmp_path / "straight.gguf", tmp_path / "out" / "out.gguf"
    out.parent.mkdir()
    finish(job(model, straight, text).run())
    for begun, until_chunk in ((0, 3), (3, 5), (5, 5)):
        steps = job(model, out, text, can_go_on=True).run()
        assert until(steps, until_chunk) == begun
        with pytest.raises(Paused):
            steps.throw(Paused())
    assert until(job(model, out, text, can_go_on=True).run(), N_CHUNKS) == 5
    finish(job(model, out, text, can_go_on=True).run())
    assert out.read_bytes() == straight.read_bytes()
    assert list(out.parent.iterdir()) == [out]


def test_what_is_damaged_or_of_another_text_is_not_gone_on_from(
    tiny_gguf: Path, tmp_path: Path, text: Path
) -> None:
    straight, out = tmp_path / "straight.gguf", tmp_path / "out.gguf"
    finish(job(tiny_gguf, straight, text).run())
    other = tmp_path / "other.txt"
    other.write_text(WORDS[::-1] * 60, encoding="utf-8")

    def begin_anew(text: Path) -> None:
        steps = job(tiny_gguf, out, text, can_go_on=True).run()
        assert until(steps, 3) == 0
        with pytest.raises(Paused):
            steps.throw(Paused())

    def cut(path: Path) -> None:
        path.write_bytes(path.read_bytes()[:-1])

    begin_anew(other)
    begin_anew(text)
    for damage in (cut, Path.unlink):
        for name in ("out.gguf.kept-*", "out.gguf.kept"):
            (damaged,) = tmp_path.glob(name)
            damage(damaged)
            begin_anew(text)
    finish(job(tiny_gguf, out, text, can_go_on=True).run())
    assert out.read_bytes() == straight.read_bytes()


def test_alone_it_leaves_nothing(tiny_gguf: Path, tmp_path: Path, text: Path) -> None:
    out = tmp_path / "out" / "out.gguf"
    out.parent.mkdir()
    steps = job(tiny_gguf, out, text).run()
    until(steps, 3)
    with pytest.raises(Paused):
        steps.throw(Paused())
    assert not list(out.parent.iterdir())


def kept(out: Path) -> set[str]:
    return {path.name for path in out.parent.glob("*.kept*")}


def begun(model: Path, out: Path, text: Path) -> None:
    """Three chunks are read, and kept."""
    steps = job(model, out, text, can_go_on=True).run()
    until(steps, 3)
    with pytest.raises(Paused):
        steps.throw(Paused())
    assert kept(out) == {"out.gguf.kept", "out.gguf.kept-3"}


def goes_on(model: Path, out: Path, text: Path) -> None:
    """From the three chunks, to the bytes that it gives at once."""
    straight = out.with_name("straight.gguf")
    finish(job(model, straight, text).run())
    assert until(job(model, out, text, can_go_on=True).run(), 3) == 3
    finish(job(model, out, text, can_go_on=True).run())
    assert out.read_bytes() == straight.read_bytes() and not kept(out)


def test_a_stop_does_not_wait_for_a_slow_disk(
    tiny_gguf: Path, tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy that is being made is given up; the one before it stays."""
    out = tmp_path / "out.gguf"
    begun(tiny_gguf, out, text)
    with monkeypatch.context() as slowly:
        slowly.setattr(snapshots, "PIECE_BYTES", 1 << 16)
        slowly.setattr(os, "fsync", lambda _file: time.sleep(0.2))
        steps = job(tiny_gguf, out, text, can_go_on=True).run()
        while "out.gguf.kept-4" not in kept(out):
            next(steps)
        n_pieces = partial_of(out).stat().st_size >> 16
        started = time.monotonic()
        with pytest.raises(Paused):
            steps.throw(Paused())
        assert time.monotonic() - started < 0.2 * n_pieces / 3
    assert kept(out) == {"out.gguf.kept", "out.gguf.kept-3"}
    goes_on(tiny_gguf, out, text)


def test_a_full_disk_costs_nothing_that_was_kept(
    tiny_gguf: Path, tmp_path: Path, text: Path
) -> None:
    """And the calibration itself goes on: its file has its room already."""
    resource = pytest.importorskip("resource")
    out = tmp_path / "out.gguf"
    begun(tiny_gguf, out, text)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    steps = job(tiny_gguf, out, text, can_go_on=True).run()
    until(steps, 3)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        until(steps, 6)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with pytest.raises(Paused):
        steps.throw(Paused())
    assert kept(out) == {"out.gguf.kept", "out.gguf.kept-3"}
    goes_on(tiny_gguf, out, text)
