"""The workbench of a shrink: what is left on it, and what is refused before one is made."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from engine.cli.unfinished import unfinished_to_size
from engine.errors import (
    CorruptFile,
    DiskFull,
    FormatError,
    InferenceError,
    OutOfMemory,
    TooSmall,
    UnsupportedTensor,
)
from engine.jobs import Paused, Step, finish
from engine.partial import Note
from engine.quantize.choice import Pin
from engine.quantize.gate import OFF
from engine.quantize.shrink_to_size import Key, ShrinkToSize
from engine.quantize.workbench import folder_of, read_key, workbench
from engine.source import source_marks

KEY = Key("study", "texts", "result")


def note_of(out: Path) -> Note | None:
    return Note.of(ShrinkToSize("model.gguf", str(out)), {}, 0)


def end_with(out: Path, error: BaseException) -> None:
    """A shrink to `out` that finds something out, and ends with `error`."""
    with suppress(type(error)), workbench(out, note_of(out), KEY) as bench:
        bench.save("found.json", 1.5)
        raise error


def found_of(out: Path) -> float | None:
    """What the next one finds of that."""
    if not folder_of(out).exists():
        return None
    with workbench(out, note_of(out), KEY) as bench:
        return bench.load("found.json", float)


@pytest.mark.parametrize(
    "error",
    [DiskFull("Full."), OutOfMemory("No memory."), MemoryError(), ValueError("a bug"), Paused()],
)
def test_what_was_found_out_outlives_what_the_computer_does(
    tmp_path: Path, error: BaseException
) -> None:
    end_with(tmp_path / "out.gguf", error)
    assert found_of(tmp_path / "out.gguf") == 1.5


@pytest.mark.parametrize(
    "error",
    [CorruptFile("Damaged."), TooSmall("Too small."), InferenceError("Short."), GeneratorExit()],
)
def test_nothing_stays_of_what_was_cancelled_or_refused(
    tmp_path: Path, error: BaseException
) -> None:
    end_with(tmp_path / "out.gguf", error)
    assert not list(tmp_path.iterdir())


def test_that_it_stays_is_told(tmp_path: Path) -> None:
    error = DiskFull("Full.", hint="Free some space.")
    end_with(tmp_path / "out.gguf", error)
    assert error.hint.startswith("Free some space. What was found out so far is kept")


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"size_bytes": 3_000}, TooSmall, r"as small as .*: the least is "),
        ({"bits_per_weight": 1.0}, TooSmall, r"as small as .*: the least is "),
        (
            {"bits_per_weight": 5.0, "pins": (Pin("attn_k", "Q8_0"), Pin("atn_v", "Q8_0"))},
            UnsupportedTensor,
            "called like atn_v",
        ),
        (
            {"bits_per_weight": 5.0, "pins": (Pin("ffn_down", "F32"),)},
            UnsupportedTensor,
            "blk.0.ffn_down.weight cannot have the type F32",
        ),
        ({"bits_per_weight": 4.0, "pins": (Pin(".", "Q8_0"),)}, TooSmall, "the least is "),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(
    tiny_gguf: Path,
    tmp_path: Path,
    settings: dict[str, object],
    error: type[Exception],
    words: str,
) -> None:
    """And an unfinished shrink to that name stays as it is."""
    out = tmp_path / "out.gguf"
    end_with(out, Paused())
    steps: list[Step] = []
    job = ShrinkToSize(str(tiny_gguf), str(out), **settings)  # type: ignore[arg-type]
    with pytest.raises(error, match=words):
        finish(job.run(), steps.append)
    assert {getattr(step, "stage", "") for step in steps} == {"Reading the model"}
    assert found_of(out) == 1.5


def test_texts_are_told_apart_by_what_they_say(tiny_gguf: Path, tmp_path: Path) -> None:
    """Not by when they were written, nor by where they lie."""
    text, moved = tmp_path / "text.txt", tmp_path / "elsewhere" / "text.txt"
    text.write_text("Once upon a time.")
    os.utime(text, ns=(1, 1))
    job = ShrinkToSize(str(tiny_gguf), "out.gguf", texts=(str(text),))
    key = job.key({})
    text.unlink()
    text.write_text("Once upon a time.")
    moved.parent.mkdir()
    moved.write_text("Once upon a time.")
    assert job.key({}) == key
    assert msgspec.structs.replace(job, texts=(str(moved),)).key({}) == key
    text.write_text("Once upon a tide.")
    changed = job.key({})
    assert changed == key._replace(texts=changed.texts) and changed.texts != key.texts


@pytest.mark.parametrize(
    ("others", "part"),
    [
        ({"effort": "best"}, "study"),
        ({"judge_text": "judge.txt"}, "result"),
        ({"gate": OFF}, "result"),
        ({"profile": "any"}, "result"),
        ({"n_threads": 3, "overwrite": True, "source": "x.gguf", "out": "y.gguf"}, ""),
    ],
)
def test_what_depends_on_which_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: dict[str, object], part: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("judge.txt").write_text("Once upon a time.")
    job = ShrinkToSize("model.gguf", "out.gguf", size_bytes=5)
    key, other = job.key({}), msgspec.structs.replace(job, **others).key({})
    changed = [name for name in Key._fields if getattr(key, name) != getattr(other, name)]
    assert changed == [part] * bool(part)
    assert job.key({"model.gguf": (1, 2)}).study != key.study


RESULTS = (
    "ours.gguf",
    "ours.gguf.partial",
    "ours.gguf.partial.json",
    "stock-Q4_K_M.gguf",
    "ours.judged.json",
    "correction-0123456789abcdef.gguf.partial",
)
FOUND = (
    "source.gguf",
    "reading.gguf",
    "statistics.gguf",
    "statistics.gguf.kept",
    "statistics.gguf.kept-7",
    "own-words.tokens",
    "matters.json",
    "errors.json",
    "correction-0123456789abcdef-0.npy",
)


def test_results_of_other_settings_go_and_what_was_found_out_stays(tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    end_with(out, Paused())
    for name in (*RESULTS, *FOUND):
        (folder_of(out) / name).write_bytes(b"x")
    for key, is_there in ((KEY, True), (KEY._replace(result="other"), False)):
        with suppress(Paused), workbench(out, note_of(out), key) as bench:
            assert not bench.has_new_texts and bench.load("found.json", float) == 1.5
            assert all(bench.path(name).exists() for name in FOUND)
            assert all(bench.path(name).exists() == is_there for name in RESULTS)
            raise Paused
        assert read_key(folder_of(out)) == key
    other_study = KEY._replace(study="other", result="other")
    with workbench(out, note_of(out), other_study) as bench:
        assert {path.name for path in bench.folder.iterdir()} == {"job.json", "key", "lock"}


def test_what_was_of_other_texts_goes_and_that_is_told(tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    end_with(out, Paused())
    with (
        suppress(Paused),
        workbench(out, note_of(out), KEY._replace(texts="others")) as bench,
    ):
        assert bench.has_new_texts and bench.load("found.json", float) is None
        raise Paused
    other = KEY._replace(study="another", texts="others")
    with workbench(out, note_of(out), other) as bench:
        assert not bench.has_new_texts


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("empty.txt", ""),
        ("blank.md", " \n\t\n"),
        ("none.jsonl", "\n"),
        ("silent.jsonl", '{"messages": []}\n{"messages": [{"role": "user", "content": " "}]}\n'),
        ("none.tokens", "[ ]"),
    ],
)
def test_a_text_without_a_word_is_refused(
    tiny_gguf: Path, tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "good.txt").write_text("Once upon a time.")
    (tmp_path / name).write_text(words)
    texts = tuple(str(tmp_path / each) for each in ("good.txt", name))
    job = ShrinkToSize(str(tiny_gguf), str(tmp_path / "o.gguf"), bits_per_weight=6, texts=texts)
    with pytest.raises(FormatError, match=f"not a word in {name}") as caught:
        finish(job.run())
    assert "Choose another text" in caught.value.hint
    assert len(list(tmp_path.iterdir())) == 2


def test_the_command_finds_what_was_begun_to_fit(tiny_gguf: Path, tmp_path: Path) -> None:
    """With the settings that it has; those that are asked for have to be the same."""
    source = Path(shutil.copy(tiny_gguf, tmp_path / "Tiny.gguf"))
    text = tmp_path / "text.txt"
    text.write_text("Once upon a time.")
    out = tmp_path / "Tiny-Q3_K_M.gguf"
    texts = (str(text),)
    job = ShrinkToSize(str(source), str(out), recipe="Q3_K_M", effort="best", texts=texts)
    marks = source_marks(source)

    def found(out: Path | None = None, **asked: object) -> ShrinkToSize | None:
        settings = msgspec.structs.replace(ShrinkToSize(str(source), ""), **asked)
        return unfinished_to_size(source, out, (), settings)

    def leave(job: ShrinkToSize) -> None:
        with suppress(Paused), workbench(Path(job.out), Note.of(job, marks, 0), job.key(marks)):
            raise Paused

    assert found() is None
    by_size = msgspec.structs.replace(job, out=str(tmp_path / "4.gguf"), recipe=None, size_bytes=9)
    named = msgspec.structs.replace(job, out=str(tmp_path / "5.gguf"), keeps_types=True)
    leave(by_size)
    leave(named)
    assert found() is None  # nobody asked for a size or a type
    leave(job)
    assert found() == found(out) == found(effort="best", n_threads=3, texts=texts) == job
    assert found(tmp_path / "other.gguf") is None
    for asked in ({"effort": "fast"}, {"profile": "any"}, {"pins": (Pin("x", "Q8_0"),)}):
        assert found(**asked) is None
    text.write_text("Once upon a tide.")
    assert found() is None
    text.unlink()
    assert found() is None
