"""The probes: what counts as right, and what the starter keeps of them when it is shrunk."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine import starter
from engine.gguf import GgufFile, write_gguf
from engine.jobs import Progress, Step, finish
from engine.llama.ggml import quantize_rows
from engine.quantize.probes.ask import Answered, ask
from engine.quantize.probes.checks import (
    MAX_CHARS,
    Check,
    EndsTurn,
    JsonObject,
    Number,
    PythonFunction,
    Says,
    passes_check,
)
from engine.quantize.probes.compare import KindResult, compare_answers
from engine.quantize.probes.probe import Probe, load_probes
from engine.quantize.quality import Quality
from engine.quantize.shrink import Shrink


@pytest.mark.parametrize(
    ("check", "text", "is_right"),
    [
        (Number("19"), "12 + 7 = 19.", True),
        (Number("1250"), "The result is 1,250", True),
        (Number("-3"), "That makes -3.", True),
        (Number("19"), "It is 19, not 20.", False),
        (Number("19"), "nineteen", False),
        (Number("9"), "19", False),
        (Number("5"), "<think>2 + 3 is 6? No.</think>5", True),
        (Number("6"), "<think>2 + 3 is 6? No.</think>", False),
        (Says("Ottilie"), "It is called OTTILIE.", True),
        (Says("Ottilie"), "It is called Otto.", False),
        (JsonObject(("a",)), '{"a": 1, "b": [2]}', True),
        (JsonObject(("a",)), 'Here it is:\n```json\n{"a": 1}\n```\nDone.', True),
        (JsonObject(("a",)), '```json\n{"a": 1}', True),
        (JsonObject(("a",)), '{"b": 1}', False),
        (JsonObject(("a",)), '{"a": 1', False),
        (JsonObject(("a",)), '{"a": 1,}', False),
        (JsonObject(), "{}", False),
        (JsonObject(), "[1]", False),
        (JsonObject(), "[" * 7000, False),
        (JsonObject(), '{"a": ' + "9" * 7000 + "}", False),
        (PythonFunction(), "def f(x):\n    return x", True),
        (PythonFunction("f"), "```python\nasync = 1\n```", False),
        (PythonFunction("f"), "Sure!\n```python\ndef f(x):\n    return x\n```", True),
        (PythonFunction("f"), "```python\ndef g(x):\n    return x\n```", False),
        (PythonFunction("f"), "```python\ndef f(x):\nreturn x\n```", False),
        (PythonFunction("f"), "return 1\ndef f(x): pass", False),
        (PythonFunction(), "print(1)", False),
        (PythonFunction(), "def f(): 1 is 1", True),
        (PythonFunction(), "def f():\0 pass", False),
        (PythonFunction(), "(" * 7000, False),
        (PythonFunction(), "-" * 7000 + "1", False),
        (PythonFunction(), "x = " + "f(" * 90 + ")" * 90, False),
        (EndsTurn(), "Good morning!", True),
        (EndsTurn(), "  ", False),
        (EndsTurn(), "Good morning!\nuser\nHow are you?", False),
        (EndsTurn(), "Good morning!<|im_start|>user", False),
    ],
)
def test_what_is_right(check: Check, text: str, is_right: bool) -> None:
    assert passes_check(check, text, has_ended=True) is is_right


def test_the_code_in_an_answer_is_never_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    code = f"open({str(canary)!r}, 'w').close()\ndef f():\n    pass"
    assert passes_check(PythonFunction("f"), code, has_ended=True)
    assert not canary.exists()


def test_a_turn_that_a_limit_ended_has_not_ended() -> None:
    assert passes_check(EndsTurn(), "And so on", has_ended=True)
    assert not passes_check(EndsTurn(), "And so on", has_ended=False)
    assert passes_check(Number("5"), "5 and so on", has_ended=False)


def test_an_endless_answer_is_not_parsed() -> None:
    assert not passes_check(Number("7"), "1 " * MAX_CHARS + "7", has_ended=True)


def test_every_probe_is_well_formed() -> None:
    probes = load_probes()
    assert len({probe.name for probe in probes}) == len(probes) > 30
    assert {probe.kind for probe in probes} == {"arithmetic", "json", "code", "recall", "turn"}
    for probe in probes:
        assert probe.messages[-1].role == "user" and probe.max_tokens > 0
        is_for_chat = isinstance(probe.check, EndsTurn)
        assert (probe.text is None) == is_for_chat
        if isinstance(probe.check, Says):  # the fact is there once, and the question has it not
            fact, question = probe.messages[-1].content.rsplit("\n\n", 1)
            assert fact.count(probe.check.words) == 1 and probe.check.words not in question


def test_answers_are_counted() -> None:
    probes = [
        Probe("arithmetic", "one", (), "", Number("1"), 8),
        Probe("arithmetic", "two", (), "", Number("2"), 8),
        Probe("arithmetic", "three", (), "", Number("3"), 8),
        Probe("recall", "far", (), "", Says("x"), 8),
        Probe("turn", "end", (), None, EndsTurn(), 8),
    ]
    said = [Answered(text, True) for text in ("1", "2", "what?", "x")]
    heard = [Answered(text, True) for text in ("1", "5", "3", "xx")]
    report = compare_answers(probes, [*said, None], [*heard[:3], None, heard[3]])
    assert report.kinds == (KindResult("arithmetic", 3, 2, 1, 1), KindResult("recall", 1, 1, 0, 0))
    assert report.lost == ("two", "far")
    assert (report.n_asked, report.n_passed, report.n_kept, report.n_identical) == (4, 3, 1, 1)
    assert report.lost_fraction == pytest.approx(2 / 3)
    assert compare_answers(probes, [None] * 5, [None] * 5).lost_fraction == 0


@pytest.fixture(scope="module")
def shrunk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shrunk") / "starter-Q8_0.gguf"
    finish(Shrink(str(starter.MODEL), str(out), "Q8_0").run())
    return out


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory, shrunk: Path) -> Path:
    """The same with noise in every matrix, as strong as the weights themselves."""
    out = tmp_path_factory.mktemp("spoilt") / "spoilt.gguf"
    source, random = GgufFile.open(starter.MODEL), np.random.default_rng(1)
    with write_gguf(out, source.metadata, source.tensors) as writer:
        for tensor in source.tensors:
            rows = source.rows(tensor, 0, tensor.n_rows)
            if tensor.n_rows > 1:
                noise = random.standard_normal(rows.shape, dtype=np.float32)
                rows = rows + rows.std() * noise
            writer.write(quantize_rows(tensor.type, rows).tobytes())
    return out


def test_a_wide_type_keeps_the_probes_and_a_spoilt_model_loses_them(
    shrunk: Path, spoilt: Path
) -> None:
    probes = load_probes()
    original = finish(ask(str(starter.MODEL), probes, "Asking"))
    again = finish(ask(str(starter.MODEL), probes, "Asking"))
    assert compare_answers(probes, original, again).n_identical == 39  # four have no room
    kept = compare_answers(probes, original, finish(ask(str(shrunk), probes, "Asking")))
    by_kind = {kind.kind: kind for kind in kept.kinds}
    for kind, n_passed in (("arithmetic", 8), ("json", 4), ("code", 4), ("turn", 6)):
        assert by_kind[kind].n_passed >= n_passed
        assert by_kind[kind].n_kept == by_kind[kind].n_passed
    assert by_kind["recall"].n_asked == 1
    assert kept.n_identical > 30
    lost = compare_answers(probes, original, finish(ask(str(spoilt), probes, "Asking")))
    assert lost.n_passed == kept.n_passed
    # It babbles and ends, so it keeps its turns.
    assert not any(kind.n_kept for kind in lost.kinds if kind.kind != "turn")
    assert lost.n_identical == 0


def test_a_model_without_a_template_continues_examples(shrunk: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.gguf"
    source = GgufFile.open(shrunk)
    metadata = {k: v for k, v in source.metadata.items() if k != "tokenizer.chat_template"}
    with write_gguf(plain, metadata, source.tensors) as writer:
        for tensor in source.tensors:
            writer.write(bytes(source.raw(tensor, 0, tensor.n_rows)))
    few = [probe for probe in load_probes() if probe.name in ("arithmetic 1", "json 1", "turn 1")]
    few[0] = msgspec.structs.replace(few[0], max_tokens=8)
    sums, json, turn = finish(ask(str(plain), few, "Asking"))
    assert sums and sums.text and "Question:" not in sums.text
    assert json
    assert turn is None


def test_the_job_asks_when_told_to_and_says_how_far_it_is(shrunk: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(starter.TEXT.read_text(encoding="utf-8")[:4000], encoding="utf-8")
    steps: list[Step] = []
    job = Quality(str(shrunk), str(starter.MODEL), str(text), 2, 64, probes=True)
    report = finish(job.run(), steps.append)
    assert report.probes and report.probes.n_asked == 39
    for stage in ("Asking the original", "Asking the result"):
        last = [s for s in steps if isinstance(s, Progress) and s.stage == stage][-1]
        assert (last.done, last.total, last.unit) == (43, 43, "steps")
