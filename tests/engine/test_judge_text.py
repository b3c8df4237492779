"""The text that a result is judged on has nothing of what a model is calibrated with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from engine import starter
from engine.calibrate.texts import CONVERSATIONS, Conversation, bundled_texts
from engine.chat import plain_text
from engine.cli import main
from engine.errors import EngineError, NotFound
from engine.quantize.judge_text import BUNDLED, judge_text

LONG = 25  # letters; shorter lines, such as "return None", are in many texts


def lines(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == CONVERSATIONS:
        for line in text.splitlines():
            told = msgspec.json.decode(line, type=Conversation)
            yield from plain_text(told.messages).splitlines()
    yield from text.splitlines()


def long_lines(path: Path) -> set[str]:
    return {line.strip() for line in lines(path) if len(line.strip()) > LONG}


def test_no_line_is_in_a_bundled_calibration_text() -> None:
    judged = long_lines(BUNDLED)
    assert len(judged) > 300
    assert BUNDLED.stat().st_size <= 100_000
    for text in bundled_texts():
        assert long_lines(Path(text))
        assert not judged & long_lines(Path(text))


@pytest.mark.parametrize("calibrated", [(), (str(starter.TEXT),)])
def test_own_texts_to_calibrate_with_leave_the_bundled_one(calibrated: tuple[str, ...]) -> None:
    assert judge_text("", calibrated) == BUNDLED


def test_what_a_model_is_calibrated_with_is_refused_by_any_name(tmp_path: Path) -> None:
    own, copy = tmp_path / "own.txt", tmp_path / "copy.txt"
    own.write_text("All that was said at the table.\n" * 99, encoding="utf-8")
    shutil.copy(own, copy)
    assert judge_text(str(own), ()) == own
    for wanted, calibrated in (
        (str(own), (str(starter.TEXT), str(own))),
        (str(copy), (str(own),)),
        (bundled_texts()[0], ()),
        ("", (str(BUNDLED),)),
    ):
        with pytest.raises(EngineError, match="among the texts to calibrate with") as raised:
            judge_text(wanted, calibrated)
        assert raised.value.hint


def test_a_text_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        judge_text(str(tmp_path / "none.txt"), ())


def test_the_command_line_refuses_before_any_work(
    tiny_gguf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, out = str(starter.TEXT), tmp_path / "small.gguf"
    words = ["shrink", str(tiny_gguf), "-o", str(out), "--bpw", "8"]
    assert main([*words, "--calibration", text, "--judge", text]) == 1
    assert "among the texts to calibrate with" in capsys.readouterr().err
    assert list(tmp_path.glob("*small*")) == []
