"""Looking through the library as a job: what it finds, what it sends, what it remembers."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import msgspec
import pytest

from engine.hardware import detect
from engine.jobs import Progress, Step, finish
from engine.library import Library
from engine.other_apps import Place
from engine.scan import FILE, Found, Model, ScanLibrary, pack, recall, unpack


@pytest.fixture
def models(tmp_path: Path, tiny_gguf: Path, tiny_checkpoint: Path) -> Path:
    """A model, a checkpoint, a broken file, and something that was left."""
    folder = tmp_path / "models"
    shutil.copytree(tiny_checkpoint, folder / "Checkpoint")
    shutil.copy(tiny_gguf, folder / "Tiny.gguf")
    (folder / "broken.gguf").write_bytes(b"GGUF")
    left = folder / "Half.gguf.partial"
    left.write_bytes(b"x" * 5000)
    os.utime(left, (1, 1))
    return folder


def job(models: Path, known: tuple[str, ...] = (), added: tuple[str, ...] = ()) -> ScanLibrary:
    return ScanLibrary(str(models), pack(added), (), str(models.parent / "cache"), known=known)


def sent(found: Found) -> Found:
    """What arrives of `found`."""
    return msgspec.json.decode(msgspec.json.encode(found), type=Found)


def told(found: Found) -> list[Model]:
    """All models of a scan that knew none."""
    return [unpack(found.new[digest], Model) for digest in found.digests]


def test_it_finds_what_the_library_lists(models: Path, tmp_path: Path, tiny_gguf: Path) -> None:
    studio = tmp_path / "studio"
    studio.mkdir()
    shutil.copy(tiny_gguf, studio / "Studio.gguf")
    with (studio / "Studio.gguf").open("ab") as file:
        file.write(bytes(32))
    added, places = (str(tmp_path / "gone.gguf"),), (Place("LM Studio", str(studio)),)
    library = Library(models, added, places)
    entries = library.scan()
    scan = ScanLibrary(str(models), pack(added), places, str(tmp_path / "cache"))

    found = sent(finish(scan.run()))

    arrived = told(found)
    assert tuple(model.entry for model in arrived) == entries
    assert [model.estimate for model in arrived] == [library.estimate(x) for x in entries]
    assert any(model.estimate for model in arrived)
    assert [Path(left.path).name for left in found.leftovers] == ["Half.gguf.partial"]
    assert found.disk.used_bytes > tiny_gguf.stat().st_size
    assert found.computer.memory_total_bytes == detect().memory_total_bytes


def test_only_what_is_new_is_sent(models: Path, tiny_gguf: Path) -> None:
    first = finish(job(models).run())
    assert tuple(first.new) and set(first.new) == set(first.digests)
    again = finish(job(models, known=first.digests).run())
    assert again.digests == first.digests and again.new == {}
    assert again.leftovers == first.leftovers

    (models / "Tiny.gguf").rename(models / "Other.gguf")
    changed = finish(job(models, known=first.digests).run())
    (new,) = changed.new.values()
    assert Path(unpack(new, Model).entry.path).name == "Other.gguf"
    assert len(changed.digests) == 3 and set(changed.digests) - set(changed.new) < set(
        first.digests
    )


def test_the_next_start_recalls_what_was_found(models: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert recall(cache) == {}
    found = finish(job(models).run())
    recalled = recall(cache)
    assert tuple(recalled) == found.digests and list(recalled.values()) == told(found)
    known = tuple(recalled)
    (models / "broken.gguf").unlink()
    assert finish(job(models, known=known).run()).digests == tuple(recall(cache)) == known[:-1]


@pytest.mark.parametrize(
    "garbage",
    [b"", b"0.1.0", b"9.9.9\n{}", b"\n\n", b"\xff" * 100, b'{"entry":1}', b"[" * 100_000, b'"["'],
)
def test_what_is_no_use_is_not_recalled(tmp_path: Path, models: Path, garbage: bytes) -> None:
    found = finish(job(models).run())
    file = tmp_path / "cache" / FILE
    version = file.read_bytes().split(b"\n")[0]
    for content in (garbage, version + b"\n" + garbage):
        file.write_bytes(content)
        assert recall(tmp_path / "cache") == {}
    assert finish(job(models).run()).digests == found.digests, "and it hinders no scan"


def test_a_step_names_what_is_read_and_a_cancel_keeps_what_was(models: Path) -> None:
    steps = job(models).run()
    assert [next(steps).stage, next(steps).stage] == ["Reading Tiny.gguf", "Reading broken.gguf"]
    steps.close()
    later: list[Step] = []
    finish(job(models).run(), later.append)
    stages = [step.stage for step in later if isinstance(step, Progress)]
    assert stages == ["Reading broken.gguf", "Reading Checkpoint"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every name is text")
def test_names_that_are_no_text_arrive_as_they_are(models: Path, tiny_gguf: Path) -> None:
    odd = os.fsdecode(os.fsencode(models) + b"/mod\xe8le.gguf")
    shutil.copy(tiny_gguf, odd)
    half = os.fsdecode(os.fsencode(models) + b"/h\xe8lf.gguf.partial")
    Path(half).write_bytes(b"x")
    os.utime(half, (1, 1))
    lone = "/nowhere/\ud800.gguf"
    scan = msgspec.json.decode(msgspec.json.encode(job(models, added=(lone,))), type=ScanLibrary)

    found = sent(finish(scan.run()))

    entries = {model.entry.path: model.entry for model in told(found)}
    assert entries[odd].summary and entries[odd].files == (odd,)
    assert entries[lone].problem
    assert list(recall(models.parent / "cache").values()) == told(found)
    assert unpack(pack((odd, lone)), tuple[str, ...]) == (odd, lone)
