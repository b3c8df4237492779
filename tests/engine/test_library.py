"""What the library lists, and that nothing on a disk makes it stumble."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import msgspec
import pytest

from engine.contents import Index
from engine.duplicates import comparable
from engine.gguf import GgufFile
from engine.leftovers import find_leftovers
from engine.library import Entry, Library, find_models
from engine.other_apps import Place
from engine.walk import MAX_DEPTH


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def named(entries: tuple[Entry, ...]) -> dict[str, Entry]:
    return {Path(entry.path).name: entry for entry in entries}


def test_lists_files_and_checkpoints_at_any_depth(
    models: Path, tiny_gguf: Path, tiny_checkpoint: Path
) -> None:
    (models / "a" / "b").mkdir(parents=True)
    shutil.copy(tiny_gguf, models / "a" / "b" / "Deep.gguf")
    shutil.copytree(tiny_checkpoint, models / "Checkpoint")
    (models / "notes.txt").write_text("not a model")

    entries = named(Library(models).scan())

    assert set(entries) == {"Deep.gguf", "Checkpoint"}
    deep, checkpoint = entries["Deep.gguf"].summary, entries["Checkpoint"].summary
    assert deep and deep.kind == "gguf" and deep.type == "F16"
    assert deep.size_bytes == tiny_gguf.stat().st_size
    assert checkpoint and checkpoint.kind == "checkpoint"
    assert checkpoint.n_params == deep.n_params > 0
    assert all(entry.own and not entry.problem for entry in entries.values())


def test_added_paths_are_listed_where_they_lie(
    models: Path, tiny_gguf: Path, tiny_checkpoint: Path
) -> None:
    entries = Library(models, (str(tiny_gguf), str(tiny_checkpoint))).scan()

    assert {entry.path for entry in entries} == {str(tiny_gguf), str(tiny_checkpoint)}
    assert not any(entry.own for entry in entries)
    assert not list(models.iterdir())


def test_each_model_is_listed_once(models: Path, tiny_gguf: Path) -> None:
    own = models / "Tiny.gguf"
    shutil.copy(tiny_gguf, own)
    (models / "link.gguf").symlink_to(own)
    (models / "loop").symlink_to(models, target_is_directory=True)
    (models / "knot.gguf").symlink_to(models / "knot.gguf")

    entries = Library(models, (str(own), str(own))).scan()

    assert len(entries) == 1
    assert entries[0].own


def test_models_of_other_apps_are_listed_with_their_names(
    models: Path, tmp_path: Path, tiny_gguf: Path
) -> None:
    studio, ollama = tmp_path / "studio", tmp_path / "ollama"
    (studio / "ann" / "tiny").mkdir(parents=True)
    shutil.copy(tiny_gguf, studio / "ann" / "tiny" / "Tiny-F16.gguf")
    (studio / "broken.gguf").write_bytes(b"GGUF")
    digest = "cd" * 32
    (ollama / "blobs").mkdir(parents=True)
    shutil.copy(tiny_gguf, ollama / "blobs" / f"sha256-{digest}")
    manifest = ollama / "manifests" / "registry" / "library" / "tiny" / "1b"
    manifest.parent.mkdir(parents=True)
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}"}
    manifest.write_text(json.dumps({"layers": [layer]}))

    places = (Place("LM Studio", str(studio)), Place("Ollama", str(ollama)))
    entries = {entry.origin: entry for entry in Library(models, (), places).scan()}

    assert set(entries) == {"LM Studio", "Ollama"}, "broken ones are their app's business"
    assert entries["Ollama"].name == "tiny:1b"
    assert not any(entry.own for entry in entries.values())
    assert not list(models.iterdir())


@pytest.mark.parametrize(
    ("content", "word"),
    [(b"", "gguf"), (b"<html>not found</html>" * 20, "gguf"), (b"GGUF\x03\0\0\0", "gguf")],
)
def test_a_broken_file_is_an_entry_with_a_sentence(models: Path, content: bytes, word: str) -> None:
    (models / "broken.gguf").write_bytes(content)

    (entry,) = Library(models).scan()

    assert entry.summary is None
    assert word in entry.problem.lower()
    assert entry.problem.endswith(".")


def test_a_truncated_file_is_an_entry_with_a_sentence(models: Path, tiny_gguf: Path) -> None:
    data = tiny_gguf.read_bytes()
    (models / "cut.gguf").write_bytes(data[: len(data) // 2])

    (entry,) = Library(models).scan()

    assert entry.summary is None and entry.problem and entry.hint


def test_broken_checkpoints_say_why(models: Path, tiny_checkpoint: Path) -> None:
    pickled = models / "Pickled"
    pickled.mkdir()
    shutil.copy(tiny_checkpoint / "config.json", pickled)
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    cut = models / "Cut"
    shutil.copytree(tiny_checkpoint, cut)
    weights = next(cut.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    gone = models.parent / "unplugged" / "Gone.gguf"

    entries = named(Library(models, (str(gone),)).scan())

    assert set(entries) == {"Pickled", "Cut", "Gone.gguf"}
    for entry in entries.values():
        assert entry.summary is None and entry.problem
    assert "not there" in entries["Gone.gguf"].problem


def test_a_split_model_is_one_entry(models: Path, tiny_gguf: Path) -> None:
    for part in (1, 2, 3):
        shutil.copy(tiny_gguf, models / f"Big-{part:05}-of-00003.gguf")

    (entry,) = Library(models).scan()

    assert Path(entry.path).name == "Big-00001-of-00003.gguf"
    assert [Path(file).name for file in entry.files] == [
        f"Big-{part:05}-of-00003.gguf" for part in (1, 2, 3)
    ]


def test_a_part_that_was_added_stands_for_its_model(models: Path, tiny_gguf: Path) -> None:
    for part in (1, 2):
        shutil.copy(tiny_gguf, models.parent / f"Big-{part:05}-of-00002.gguf")
    added = tuple(str(models.parent / f"Big-0000{part}-of-00002.gguf") for part in (2, 1))

    (entry,) = Library(models, added).scan()

    assert entry.path == added[0]  # as it was added, so that it can be removed


@pytest.mark.parametrize("name", ["\0.gguf", "x" * 300 + ".gguf", "\ud800.gguf", ""])
def test_a_name_that_no_disk_can_hold_is_an_entry(models: Path, tiny_gguf: Path, name: str) -> None:
    shutil.copy(tiny_gguf, models / "Tiny.gguf")

    good, broken = Library(models, (str(models / "no" / name) if name else "",)).scan()

    assert good.summary
    assert broken.summary is None and broken.problem


@pytest.mark.parametrize("failure", [RecursionError("deep"), OverflowError("wide"), MemoryError()])
def test_a_bug_that_one_file_brings_out_does_not_hide_the_others(
    models: Path,
    tiny_gguf: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failure: Exception,
) -> None:
    """No file is known to bring one out, so it is planted here."""
    real_open = GgufFile.open.__func__  # type: ignore[attr-defined]

    def open_or_fail(cls: type[GgufFile], path: Path) -> GgufFile:
        if path.name == "Odd.gguf":
            raise failure
        opened: GgufFile = real_open(cls, path)
        return opened

    monkeypatch.setattr(GgufFile, "open", classmethod(open_or_fail))
    shutil.copy(tiny_gguf, models / "Tiny.gguf")
    shutil.copy(tiny_gguf, models / "Odd.gguf")

    good, odd = Library(models).scan()

    assert good.summary
    assert odd.summary is None and odd.problem.endswith(".") and odd.hint
    assert type(failure).__name__ in caplog.text


def test_broken_files_come_last(models: Path, tiny_gguf: Path) -> None:
    shutil.copy(tiny_gguf, models / "Tiny.gguf")
    (models / "Broken.gguf").write_bytes(b"GGUF")

    names = [Path(entry.path).name for entry in Library(models).scan()]

    assert names == ["Tiny.gguf", "Broken.gguf"]


def test_a_file_is_read_again_only_after_it_changed(
    models: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real_open = GgufFile.open.__func__  # type: ignore[attr-defined]

    def counting(cls: type[GgufFile], path: str) -> GgufFile:
        opened.append(str(path))
        opened_file: GgufFile = real_open(cls, path)
        return opened_file

    monkeypatch.setattr(GgufFile, "open", classmethod(counting))
    model = models / "Tiny.gguf"
    shutil.copy(tiny_gguf, model)
    library = Library(models)

    first = library.scan()
    assert library.scan() == first
    assert len(opened) == 1

    os.utime(model, (1, 1))
    library.scan()
    assert len(opened) == 2


def test_depth_is_bounded_and_hidden_folders_are_left_alone(models: Path, tiny_gguf: Path) -> None:
    deepest = models.joinpath(*"abcdefgh"[:MAX_DEPTH])
    too_deep = deepest / "too deep"
    hidden = models / ".cache"
    too_deep.mkdir(parents=True)
    hidden.mkdir()
    for folder in (deepest, too_deep, hidden):
        shutil.copy(tiny_gguf, folder / "Tiny.gguf")

    assert list(find_models(models)) == [deepest / "Tiny.gguf"]


def test_no_models_folder_is_an_empty_library(tmp_path: Path) -> None:
    assert Library(tmp_path / "not made yet").scan() == ()
    assert find_leftovers(tmp_path / "not made yet") == ()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere every name is text")
def test_a_name_that_is_no_text_hides_no_other(tmp_path: Path, tiny_gguf: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    odd = os.fsdecode(os.fsencode(models) + b"/mod\xe8le.gguf")
    for target in (odd, models / "plain.gguf"):
        shutil.copy(tiny_gguf, target)
    file = tmp_path / "cache" / "models.msgpack"
    for _ in range(2):
        entries = Library(models, index=Index(file)).scan()
        assert {entry.path for entry in entries} == {odd, str(models / "plain.gguf")}
        assert all(entry.summary for entry in entries)
    assert file.is_file()
    assert list(comparable(entries)) == [str(models / "plain.gguf")]


def test_what_was_found_is_remembered_until_it_changes(tmp_path: Path, tiny_gguf: Path) -> None:
    models, file = tmp_path / "models", tmp_path / "models.msgpack"
    models.mkdir()
    copy = Path(shutil.copy(tiny_gguf, models))
    (known,) = Library(models, index=Index(file)).scan()
    # The same size and time: only what was remembered can still know what it was.
    stat = copy.stat()
    copy.write_bytes(bytes(stat.st_size))
    os.utime(copy, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    library = Library(models, index=Index(file))
    assert library.scan() == (known,)
    estimate = library.estimate(known)
    assert estimate and estimate.n_layers == known.summary.n_layers  # type: ignore[union-attr]
    os.utime(copy, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    (broken,) = Library(models, index=Index(file)).scan()
    assert broken.summary is None and "not a GGUF" in broken.problem


def test_a_broken_index_counts_as_empty(tmp_path: Path, tiny_gguf: Path) -> None:
    models, file = tmp_path / "models", tmp_path / "models.msgpack"
    models.mkdir()
    shutil.copy(tiny_gguf, models)
    for garbage in (b"", b"\xff" * 100, b"\x91" * 100_000, msgspec.msgpack.encode({"known": 1})):
        file.write_bytes(garbage)
        (entry,) = Library(models, index=Index(file)).scan()
        assert entry.summary
