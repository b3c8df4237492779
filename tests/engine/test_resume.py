"""A shrink or a conversion that was broken off goes on, to the same bytes, or starts anew."""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.convert.job import Convert
from engine.ggml_types import GgmlType
from engine.jobs import Paused, finish
from engine.output import new_file
from engine.partial import MAX_NOTE_BYTES, Note, note_of, partial_of, read_note, remove_partial
from engine.quantize.shrink import Shrink
from tests.engine.quantized_cases import write_source
from tests.helpers.checkpoints import write_tiny_checkpoint
from tests.helpers.kills import kill_when
from tests.helpers.pauses import gone_on, is_writing, pause, run

Resumable = Shrink | Convert


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source.gguf", GgmlType.F16)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "out.gguf"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def straight(job: Resumable, out: Path) -> str:
    """The digest of what `job` writes if nothing comes between."""
    finish(msgspec.structs.replace(job, out=str(out)).run())
    return digest(out)


def is_alone(out: Path) -> bool:
    return list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_a_paused_shrink_goes_on_to_the_same_bytes(
    source: Path, out: Path, part: float, n_threads: int
) -> None:
    job = Shrink(str(source), str(out), "Q4_K_M", 2)
    expected = straight(job, source.with_name("straight.gguf"))
    pause(job, part)

    steps = run(Shrink(str(source), str(out), "Q4_K_M", n_threads))

    assert digest(out) == expected and is_alone(out)
    total = steps[-1].total
    assert total and gone_on(steps) >= 0.7 * part * total
    assert all(step.done >= gone_on(steps) for step in steps if is_writing(step))


@pytest.mark.parametrize("float_type", ["auto", "f32", "f16", "bf16"])
def test_a_paused_conversion_goes_on_to_the_same_bytes(
    tiny_checkpoint: Path, tmp_path: Path, out: Path, float_type: str
) -> None:
    job = Convert(str(tiny_checkpoint), str(out), float_type)
    expected = straight(job, tmp_path / "straight.gguf")
    pause(job, 0.6)
    assert gone_on(run(job)) > 0
    assert digest(out) == expected and is_alone(out)


def test_it_can_be_paused_again_and_again(source: Path, out: Path) -> None:
    job = Shrink(str(source), str(out), "Q6_K", 1)
    expected = straight(job, source.with_name("straight.gguf"))
    done = [pause(job, part / 10).done_bytes for part in range(1, 10)]
    assert done == sorted(done)
    run(job)
    assert digest(out) == expected and is_alone(out)


def test_one_that_is_stopped_while_it_looks_at_what_is_there_keeps_it(
    source: Path, out: Path
) -> None:
    job = Shrink(str(source), str(out), "Q8_0", 1)
    before = pause(job, 0.5)
    steps = job.run()
    while next(steps).stage != "Going on":
        pass
    with pytest.raises(Paused):
        steps.throw(Paused())
    assert read_note(partial_of(out)) == before


def test_a_cancel_takes_away_what_was_gone_on_from(source: Path, out: Path) -> None:
    job = Shrink(str(source), str(out), "Q8_0", 1)
    pause(job, 0.5)
    steps = job.run()
    while next(steps).stage != "Shrinking":
        pass
    steps.close()
    assert not list(out.parent.iterdir())


def test_a_real_process_killed_at_random_moments(tmp_path: Path, out: Path) -> None:
    source = write_tiny_checkpoint(tmp_path / "Big", hidden=1024, ffn=2048, n_layers=1)
    job = Shrink(str(source), str(out), "Q5_K_M", 1)
    expected = straight(job, tmp_path / "straight.gguf")
    n_kills, certain = 12, [0]
    for number in range(n_kills):
        part = random.uniform(number, number + 1) / (n_kills + 1)
        kill_shrink(job, part * (tmp_path / "straight.gguf").stat().st_size)
        if out.exists():  # it was quicker
            break
        note = read_note(partial_of(out))
        certain.append(note.done_bytes if note else 0)
    assert certain == sorted(certain) and certain[-1] > 1 << 20
    if not out.exists():
        assert gone_on(run(job)) > 0
    assert digest(out) == expected and is_alone(out)


def kill_shrink(job: Shrink, n_bytes: float) -> None:
    """Run `snug-engine shrink`; kill it and its worker when so many bytes are written, or soon."""
    partial = partial_of(Path(job.out))
    command = ["shrink", job.source, "-o", job.out, "--type", job.recipe or "", "-t", "1", "--json"]
    command += ["--effort", "stock"]
    kill_when(
        [sys.executable, "-m", "engine", *command],
        lambda: partial.exists() and partial.stat().st_size >= n_bytes,
        within_s=0.05,
    )


def test_what_was_not_certain_is_made_anew(source: Path, out: Path) -> None:
    """As after a power cut: the file is longer, but what it holds there is anything."""
    job = Shrink(str(source), str(out), "Q8_0", 1)
    expected = straight(job, source.with_name("straight.gguf"))
    note = pause(job, 0.4)
    with partial_of(out).open("ab") as file:
        file.write(random.randbytes(300_000))
    assert read_note(partial_of(out)) == note
    assert gone_on(run(job)) > 0
    assert digest(out) == expected


def other_recipe(job: Shrink) -> Shrink:
    return Shrink(job.source, job.out, "Q6_K", 1)


def other_file(job: Shrink) -> Shrink:
    write_source(Path(job.source), GgmlType.BF16)
    return job


def same_look(job: Shrink) -> Shrink:
    """A source of other numbers, which size and time do not tell."""
    source = Path(job.source)
    before = source.stat()
    data = bytearray(source.read_bytes())
    for at in range(len(data) // 2, len(data), 1000):
        data[at] ^= 1
    source.write_bytes(data)
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    return job


def new_time(job: Shrink) -> Shrink:
    os.utime(job.source)
    return job


def cut_short(job: Shrink) -> Shrink:
    partial = partial_of(Path(job.out))
    os.truncate(partial, partial.stat().st_size - 1)
    return job


def rotten(job: Shrink) -> Shrink:
    with partial_of(Path(job.out)).open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"\xff\x00\xff\x00\xff")
    return job


@pytest.mark.parametrize(
    "change", [other_recipe, other_file, same_look, new_time, cut_short, rotten]
)
def test_what_has_changed_starts_anew(
    source: Path, out: Path, change: Callable[[Shrink], Shrink]
) -> None:
    job = Shrink(str(source), str(out), "Q5_K_M", 1)
    pause(job, 0.9)
    job = change(job)
    steps = run(job)
    assert digest(out) == straight(job, source.with_name("straight.gguf")) and is_alone(out)
    first = next(filter(is_writing, steps))
    assert first.total and first.done < 0.5 * first.total


def changed(**fields: Any) -> Callable[[bytes], bytes]:
    return lambda note: json.dumps({**json.loads(note), **fields}).encode()


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "no JSON": lambda _: b"\xff\xfe{",
    "cut short": lambda note: note[:-20],
    "a list": lambda _: b"[1, 2]",
    "deep": lambda _: b"[" * 100_000,
    "deep job": changed(job=json.loads("[" * 500 + "]" * 500)),
    "huge": lambda note: note + b" " * MAX_NOTE_BYTES,
    "wrong types": changed(done_bytes="all", sources=3),
    "done below zero": changed(done_bytes=-1),
    "more done than there is": changed(done_bytes=10**9, size_bytes=10**10),
    "more done than all": changed(size_bytes=10),
    "no number of a file": changed(size_bytes=10**400),
    "other sources": changed(sources={"'a.gguf'": [1, 2]}),
}


@pytest.mark.parametrize("note", HOSTILE.values(), ids=list(HOSTILE))
def test_a_note_that_makes_no_sense_is_not_gone_by(
    source: Path, out: Path, note: Callable[[bytes], bytes]
) -> None:
    job = Shrink(str(source), str(out), "Q4_K_M", 1)
    pause(job, 0.5)
    path = note_of(partial_of(out))
    path.write_bytes(note(path.read_bytes()))
    expected = straight(job, source.with_name("straight.gguf"))
    assert gone_on(run(job)) == 0 or note is HOSTILE["deep job"]  # of the job no byte depends
    assert digest(out) == expected and is_alone(out)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_another_name_of_a_file_is_never_written_through(
    source: Path, out: Path, kind: str
) -> None:
    job = Shrink(str(source), str(out), "Q4_K_M", 1)
    pause(job, 0.5)
    partial, other = partial_of(out), source.with_name("other")
    if kind == "hard":
        os.link(partial, other)
    else:
        partial.rename(other)
        partial.symlink_to(other)
    before = other.read_bytes()
    assert read_note(partial) is None
    assert gone_on(run(job)) == 0
    assert other.read_bytes() == before and is_alone(out)


def test_a_note_without_its_file_is_of_no_use(source: Path, out: Path) -> None:
    job = Shrink(str(source), str(out), "Q4_K_M", 1)
    pause(job, 0.5)
    partial_of(out).unlink()
    assert gone_on(run(job)) == 0
    assert is_alone(out)


def test_without_a_recipe_the_one_it_was_begun_with_is_taken(source: Path, out: Path) -> None:
    pause(Shrink(str(source), str(out), "Q4_K_M", 1), 0.5)
    done = finish(Shrink(str(source), str(out), None, 1).run())
    assert done.recipe == "Q4_K_M" and is_alone(out)


def test_what_is_left_counts_as_room(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    job = Shrink(str(source), str(out), "Q8_0", 1)
    note = pause(job, 0.6)
    missing = note.size_bytes - note.done_bytes
    usage = type(shutil.disk_usage(out.parent))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, missing + 4096))
    assert gone_on(run(job)) > 0


def test_a_left_file_goes_with_its_note_unless_it_is_written(tmp_path: Path) -> None:
    out = tmp_path / "a.gguf"
    note = Note.of(Shrink("a", "b"), {}, 3)
    with new_file(out, size_bytes=3, note=note) as file:
        file.keep(0)
        assert read_note(partial_of(out)) and not remove_partial(partial_of(out))
        file.write(b"one")
    assert is_alone(out)
    partial_of(out).write_bytes(b"left")
    note_of(partial_of(out)).write_bytes(b"{}")
    assert remove_partial(partial_of(out)) and remove_partial(partial_of(out))
    assert is_alone(out)
