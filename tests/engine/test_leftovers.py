"""What interrupted jobs left is found, told from what is being written, and discarded."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from engine.convert.job import Convert
from engine.hub.download import BETWEEN_FILES_S, STAGING
from engine.leftovers import MOVING, discard, find_leftovers
from engine.library import Library
from engine.output import new_file
from engine.partial import Note, note_of, partial_of
from engine.quantize.shrink import Shrink
from engine.quantize.shrink_to_size import Key, ShrinkToSize
from engine.quantize.workbench import NOTE, folder_of, workbench

HOUR_S = 3600.0


def left_behind(path: Path, seconds: float = HOUR_S) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 1000)
    long_ago = time.time() - 2 * seconds
    for made in (path, path.parent):
        os.utime(made, (long_ago, long_ago))
    return path


def left_by(job: Shrink | Convert, out: Path | None = None) -> Path:
    """What a killed `job` has left, or such a file somewhere else."""
    partial = left_behind(partial_of(out or Path(job.out)))
    note = Note.of(job, {}, 5000)
    assert note
    note_of(partial).write_bytes(msgspec.json.encode(msgspec.structs.replace(note, done_bytes=900)))
    return partial


def test_a_partial_file_is_left_as_soon_as_nobody_writes_it(tmp_path: Path) -> None:
    with new_file(tmp_path / "New.gguf", size_bytes=3) as file:
        file.write(b"one")
        assert not find_leftovers(tmp_path)
        (tmp_path / "Left.gguf.partial").write_bytes(b"x" * 1000)
        (leftover,) = find_leftovers(tmp_path)
    assert leftover.path == str(tmp_path / "Left.gguf.partial")
    assert (leftover.size_bytes, leftover.job) == (1000, None)
    assert [Path(entry.path).name for entry in Library(tmp_path).scan()] == ["New.gguf"]


def test_a_shrink_and_a_conversion_can_go_on_or_be_discarded(tmp_path: Path) -> None:
    shrink = Shrink("/far/Tiny-F16.gguf", str(tmp_path / "a" / "x.gguf"), "Q4_K_M", 3)
    convert = Convert("/far/Tiny", str(tmp_path / "y.gguf"), "bf16")
    plain = Convert("/far/Tiny", str(tmp_path / "z.gguf"))
    for job in (shrink, convert, plain):
        left_by(job)

    first, second, third = find_leftovers(tmp_path)

    assert (first.job, first.title) == (shrink, "Tiny-F16.gguf to Q4_K_M")
    assert (second.job, second.title) == (convert, "Tiny to BF16")
    assert (first.size_bytes, first.total_bytes) == (1000, 5000)
    assert (third.job, third.title) == (plain, "Tiny to GGUF")
    discard((first, second, third))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_runs_again_is_not_discarded(tmp_path: Path) -> None:
    job = Shrink("a", str(tmp_path / "x.gguf"), "Q8_0")
    left_by(job)
    found = find_leftovers(tmp_path)
    with new_file(tmp_path / "x.gguf", size_bytes=5000, note=Note.of(job, {}, 5000)) as file:
        assert file.n_kept == 900
        discard(found)
        file.keep(900)
        file.write(bytes(4100))
    assert [path.name for path in tmp_path.iterdir()] == ["x.gguf"]


def test_where_a_file_lies_now_counts_and_not_what_its_note_says(tmp_path: Path) -> None:
    """A note may come from anywhere: it neither names another place nor replaces what is there."""
    job = Shrink("/far/Tiny.gguf", "/etc/passwd", "Q8_0", overwrite=True)
    left_by(job, tmp_path / "x.gguf")
    (leftover,) = find_leftovers(tmp_path)
    assert leftover.job == Shrink("/far/Tiny.gguf", str(tmp_path / "x.gguf"), "Q8_0")


def test_a_source_that_moved_along_is_found(tmp_path: Path) -> None:
    old, new = Path("/nowhere/models"), tmp_path / "models"
    job = Shrink(str(old / "ann" / "Tiny.gguf"), str(old / "x" / "y.gguf"), "Q8_0")
    left_by(job, new / "x" / "y.gguf")
    left_behind(new / "ann" / "Tiny.gguf")
    (leftover,) = find_leftovers(new)
    assert leftover.job == Shrink(str(new / "ann/Tiny.gguf"), str(new / "x/y.gguf"), "Q8_0")
    (new / "ann" / "Tiny.gguf").unlink()
    (leftover,) = find_leftovers(new)
    assert leftover.job == Shrink(job.source, str(new / "x/y.gguf"), "Q8_0")


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "no note": lambda _: b"?",
    "deep": lambda note: note.replace(b'"job":', b'"job":' + b"[" * 5000 + b"]" * 5000 + b',"x":'),
    "no job": lambda note: note.replace(b'"Shrink"', b'"Download"'),
    "no recipe": lambda note: note.replace(b'"Q8_0"', b"null"),
    "no such recipe": lambda note: note.replace(b'"Q8_0"', b'"<b>Q8_0"'),
    "wrong types": lambda note: note.replace(b'"out":', b'"n_threads":"all","out":'),
    "huge": lambda note: note + b" " * (2 << 20),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=list(HOSTILE))
def test_a_note_that_makes_no_sense_leaves_a_file_to_discard(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    note = note_of(left_by(Shrink("a", str(tmp_path / "x.gguf"), "Q8_0")))
    note.write_bytes(change(note.read_bytes()))
    (leftover,) = find_leftovers(tmp_path)
    assert (leftover.job, leftover.title) == (None, "")
    discard((leftover,))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("source", ["", "a" * 5000, "/\0", "//evil/share", "../../.."])
def test_a_source_that_cannot_be_is_told_when_it_is_asked_for(tmp_path: Path, source: str) -> None:
    left_by(Shrink(source, "", "Q8_0"), tmp_path / "x.gguf")
    (leftover,) = find_leftovers(tmp_path)
    assert leftover.job and len(leftover.title) < 100


def test_hidden_folders_of_jobs_are_discarded_unless_they_are_at_work_again(tmp_path: Path) -> None:
    model = left_behind(tmp_path / "ann" / "big" / "m.gguf")
    download = left_behind(tmp_path / "ann" / "big" / f"{STAGING}m" / "m.gguf", BETWEEN_FILES_S)
    move = left_behind(tmp_path / MOVING / "bob" / "m.gguf", BETWEEN_FILES_S)
    found = find_leftovers(tmp_path)
    assert {Path(leftover.path) for leftover in found} == {download.parent, move.parents[1]}

    download.touch()
    discard(found)

    assert download.exists() and model.exists()
    assert not (tmp_path / MOVING).exists()


def left_on_a_workbench(job: ShrinkToSize, out: Path | None = None) -> Path:
    """What a killed shrink to a size has left, with a copy of the model that is none of the user's.

    As if it had been made for `out`.
    """
    bench = folder_of(out or Path(job.out))
    left_behind(bench / "source.gguf")
    note = Note.of(job, {}, 5000)
    assert note
    (bench / NOTE).write_bytes(msgspec.json.encode(note))
    return bench


def test_a_shrink_to_a_size_can_go_on_or_be_discarded(tmp_path: Path) -> None:
    out = tmp_path / "x.gguf"
    by_size = ShrinkToSize("/far/Tiny", str(out), size_bytes=700_000_000, effort="best")
    bench = left_on_a_workbench(by_size)
    left_behind(bench / "ours.gguf.partial")

    (leftover,) = find_leftovers(tmp_path)

    assert leftover.path == str(bench)
    assert (leftover.job, leftover.title) == (by_size, "Tiny to 700 MB")
    assert leftover.size_bytes > 2000 and leftover.total_bytes == 0
    assert not Library(tmp_path).scan()
    for changes, title in ((STOCK, "Tiny to Q4_K_M"), (BITS, "Tiny to 4.5 bits per weight")):
        left_on_a_workbench(msgspec.structs.replace(by_size, size_bytes=0, **changes))
        assert [left.title for left in find_leftovers(tmp_path)] == [title]
    with workbench(out, None, Key("study", "texts", "result")):
        assert not find_leftovers(tmp_path)
        discard((leftover,))
        assert bench.exists()
    left_on_a_workbench(by_size)
    discard(find_leftovers(tmp_path))
    assert not list(tmp_path.iterdir())


STOCK = {"recipe": "Q4_K_M"}
BITS = {"bits_per_weight": 4.5}


def test_where_a_workbench_lies_counts_and_not_what_its_note_says(tmp_path: Path) -> None:
    job = ShrinkToSize("/far/Tiny.gguf", "/etc/passwd", recipe="Q8_0", overwrite=True)
    for name in ("x.gguf", "n" * 230 + ".gguf"):
        bench = left_on_a_workbench(job, tmp_path / name)
        (leftover,) = find_leftovers(tmp_path)
        expected = msgspec.structs.replace(job, out=str(tmp_path / name), overwrite=False)
        assert leftover.job == (expected if name == "x.gguf" else None)  # a hash tells no name
        discard((leftover,))
        assert not bench.exists()


@pytest.mark.parametrize("change", [*HOSTILE.values(), lambda _: b"{}"], ids=[*HOSTILE, "empty"])
def test_a_note_on_a_workbench_that_makes_no_sense(
    tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    bench = left_on_a_workbench(ShrinkToSize("a", str(tmp_path / "x.gguf"), recipe="Q8_0"))
    note = (bench / NOTE).read_bytes().replace(b'"ShrinkToSize"', b'"Shrink"')
    (bench / NOTE).write_bytes(change(note))
    (leftover,) = find_leftovers(tmp_path)
    assert (leftover.job, leftover.title) == (None, "")
    discard((leftover,))
    assert not list(tmp_path.iterdir())
