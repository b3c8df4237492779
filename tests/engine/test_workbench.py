"""The workbench of a shrink: what is left on it, and what is refused before one is made."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from engine.errors import (
    CorruptFile,
    DiskFull,
    InferenceError,
    OutOfMemory,
    TooSmall,
    UnsupportedTensor,
)
from engine.jobs import Paused, Step, finish
from engine.partial import Note
from engine.quantize.choice import Pin
from engine.quantize.shrink_to_size import ShrinkToSize
from engine.quantize.workbench import folder_of, workbench


def note_of(out: Path) -> Note | None:
    return Note.of(ShrinkToSize("model.gguf", str(out)), {}, 0)


def end_with(out: Path, error: BaseException) -> None:
    """A shrink to `out` that finds something out, and ends with `error`."""
    with suppress(type(error)), workbench(out, note_of(out), "key") as bench:
        bench.save("found.json", 1.5)
        raise error


def found_of(out: Path) -> float | None:
    """What the next one finds of that."""
    if not folder_of(out).exists():
        return None
    with workbench(out, note_of(out), "key") as bench:
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
