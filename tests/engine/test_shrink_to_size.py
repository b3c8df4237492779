"""A shrink to a size goes on from where it was, by other threads too, and tells what is wrong."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest

from engine.errors import AlreadyExists, CorruptFile, DiskFull, UnsupportedTensor
from engine.gguf import GgufFile, write_gguf
from engine.jobs import Paused, Progress, Step, finish
from engine.leftovers import discard, find_leftovers
from engine.library import Library
from engine.partial import partial_of
from engine.quantize import effort
from engine.quantize.effort import Effort
from engine.quantize.report import report_path
from engine.quantize.shrink import Shrink
from engine.quantize.shrink_to_size import ShrinkToSize, ShrunkToSize
from engine.quantize.workbench import folder_of, is_busy

WORDS = "Once upon a time there was a little boy who loved to play with his friend in the day. "
LITTLE = Effort(
    chunks=2,
    own_chunks=2,
    most_runs=4,
    run_chunks=1,
    sample_rows=48,
    held_out=64,
    sweeps=1,
    refits=0,
    folds=False,
    judge_chunks=1,
)
STAGES = (
    "Letting it write",
    "Calibrating",
    "Finding out what matters",
    "Trying types",
    "Shrinking",
)


@pytest.fixture(autouse=True)
def little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """What "balanced" does, but less of it."""
    monkeypatch.setitem(effort.EFFORTS, "balanced", LITTLE)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(WORDS * 40, encoding="utf-8")
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "out.gguf"


@pytest.fixture
def job(tiny_gguf: Path, out: Path, text: Path) -> ShrinkToSize:
    return ShrinkToSize(
        source=str(tiny_gguf),
        out=str(out),
        bits_per_weight=5,
        texts=(str(text),),
        judges=False,
        n_threads=1,
    )


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def straight(job: ShrinkToSize, folder: Path) -> str:
    """The digest of what `job` makes if nothing comes between."""
    out = folder / "straight.gguf"
    finish(msgspec.structs.replace(job, out=str(out)).run())
    return digest(out)


def is_alone(out: Path) -> bool:
    return sorted(out.parent.iterdir()) == sorted([out, report_path(out)])


def partial(out: Path) -> Path:
    return partial_of(folder_of(out) / "ours.gguf")


def begin(job: ShrinkToSize, stage: str, part: float = 0.0) -> Generator[Step, None, ShrunkToSize]:
    """Run `job` to `part` of `stage`."""
    steps = job.run()
    while True:
        step = next(steps)
        assert isinstance(step, Progress)
        if step.stage == stage and step.done >= part * (step.total or 0):
            return steps


def pause(job: ShrinkToSize, stage: str, part: float = 0.0) -> None:
    with pytest.raises(Paused):
        begin(job, stage, part).throw(Paused())


def stages(job: ShrinkToSize) -> list[str]:
    """Run `job` to its end; returns its stages."""
    seen: dict[str, None] = {}
    finish(job.run(), lambda step: seen.update({getattr(step, "stage", ""): None}))
    return list(seen)


def test_paused_in_each_stage_it_goes_on_to_the_same_bytes(
    job: ShrinkToSize, out: Path, tmp_path: Path
) -> None:
    expected = straight(job, tmp_path)
    for stage in STAGES:
        pause(job, stage, 0.5)
        assert [path.name for path in out.parent.iterdir()] == [folder_of(out).name]
        assert not is_busy(folder_of(out))
    assert partial(out).exists()
    seen = stages(msgspec.structs.replace(job, n_threads=2, overwrite=True))
    assert not set(seen) & {*STAGES} - {"Shrinking"}
    assert "Going on" in seen
    assert digest(out) == expected and is_alone(out)


def test_one_that_is_quantized_already_is_refused(
    job: ShrinkToSize, out: Path, tmp_path: Path
) -> None:
    q8 = tmp_path / "q8.gguf"
    finish(Shrink(job.source, str(q8), "Q8_0", 1).run())
    with pytest.raises(UnsupportedTensor, match="quantized already"):
        finish(msgspec.structs.replace(job, source=str(q8)).run())
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize(
    ("tensor", "row"), [("blk.1.ffn_down.weight", 0), ("token_embd.weight", 1)]
)
def test_a_damaged_model_is_told(
    job: ShrinkToSize, out: Path, tmp_path: Path, tensor: str, row: int
) -> None:
    """Be it that what it computes is no number, or that a row does which no text comes by."""
    broken = tmp_path / "broken.gguf"
    with (
        GgufFile.open(Path(job.source)) as source,
        write_gguf(broken, source.metadata, source.tensors) as writer,
    ):
        for one in source.tensors:
            data = bytearray(source.raw(one, 0, one.n_rows))
            if one.name == tensor:
                data[row * one.row_bytes : row * one.row_bytes + 2] = b"\xff\x7f"
            writer.write(bytes(data))
    with pytest.raises(CorruptFile) as caught:
        finish(msgspec.structs.replace(job, source=str(broken), effort="fast").run())
    assert caught.value.hint and not list(out.parent.iterdir())


def test_a_full_disk_is_told(job: ShrinkToSize, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(out.parent)._replace(free=10_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    with pytest.raises(DiskFull):
        finish(job.run())
    assert not list(out.parent.iterdir())


def test_two_at_once_do_not_share_a_workbench(job: ShrinkToSize, out: Path) -> None:
    steps = begin(job, "Calibrating")
    with pytest.raises(AlreadyExists, match="being made by another job"):
        finish(job.run())
    assert is_busy(folder_of(out)) and not find_leftovers(out.parent)
    finish(steps)
    assert is_alone(out)


def test_a_link_is_no_workbench(job: ShrinkToSize, out: Path, tmp_path: Path) -> None:
    """What it leads to is somebody's."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "letter.txt").write_text("Dear Ann")
    folder_of(out).symlink_to(theirs, target_is_directory=True)
    with pytest.raises(AlreadyExists, match="is a link"):
        finish(job.run())
    assert not find_leftovers(out.parent)
    assert (theirs / "letter.txt").exists()


def test_what_is_left_is_one_thing_to_resume_or_discard(job: ShrinkToSize, out: Path) -> None:
    pause(job, "Shrinking", 0.5)
    (left,) = find_leftovers(out.parent)
    assert left.path == str(folder_of(out))
    assert left.title == f"{Path(job.source).name} to 5 bits per weight"
    assert left.job == job
    assert left.size_bytes > partial(out).stat().st_size
    assert not Library(out.parent).scan()
    discard((left,))
    assert not list(out.parent.iterdir())
