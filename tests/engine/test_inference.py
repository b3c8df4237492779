"""A real model in this process: load, answer, stop, remember, measure, and say what is wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.chat import Message
from engine.convert.job import Convert
from engine.errors import (
    ContextOverflow,
    CorruptFile,
    InferenceError,
    NotFound,
    OutOfMemory,
    UnsupportedArchitecture,
)
from engine.ggml_types import GgmlType
from engine.gguf import GgufFile, write_gguf
from engine.gguf_values import Value
from engine.inference import Answer, Bench, Generate, Load, LoadSettings
from engine.jobs import Piece, Progress, Step, finish
from engine.llama.evaluate import Evaluator
from engine.llama.model import StreamDecoder
from engine.llama.session import Session
from engine.quantize.shrink import Shrink
from engine.sampling import SamplingParams

GREEDY = SamplingParams(temperature=0)
LONG = "The dog and the cat went to play. " * 400


@pytest.fixture(scope="module")
def session(tiny_gguf: Path) -> Iterator[Session]:
    loaded = load(tiny_gguf, n_ctx=8192)
    yield loaded
    loaded.close()


def load(path: Path, **settings: Any) -> Session:
    return finish(Load(str(path), LoadSettings(n_threads=1, **settings)).run())


def answer(session: Session, request: Generate) -> tuple[Answer, list[Step]]:
    steps: list[Step] = []
    return finish(request.run(session), steps.append), steps


def ask(prompt: str, n: int = 16, sampling: SamplingParams = GREEDY) -> Generate:
    return Generate(prompt=prompt, sampling=sampling, max_tokens=n)


Change = Callable[[dict[str, Value], dict[str, Any]], None]


def rewrite(source: Path, out: Path, change: Change) -> Path:
    """Copy a GGUF after `change` was made to its metadata and its tensors (name -> info, data)."""
    file = GgufFile.open(source)
    metadata = dict(file.metadata)
    tensors = {t.name: (t, bytes(file.raw(t, 0, t.n_rows))) for t in file.tensors}
    change(metadata, tensors)
    with write_gguf(out, metadata, [info for info, _ in tensors.values()]) as writer:
        for _, data in tensors.values():
            writer.write(data)
    return out


# Loading


def test_load_tells_how_far_it_is_and_what_it_loaded(tiny_gguf: Path) -> None:
    steps: list[Step] = []
    session = finish(Load(str(tiny_gguf), LoadSettings()).run(), steps.append)
    try:
        info = session.info
        assert info.path == str(tiny_gguf)
        assert (info.architecture, info.type) == ("llama", "F16")
        assert info.has_chat_template
        assert info.n_ctx == info.n_ctx_train == 512
        assert info.predicted_bytes == info.taken_bytes > info.size_bytes * 0.9
        assert info.n_threads >= 1
        assert info.size_bytes == tiny_gguf.stat().st_size
    finally:
        session.close()
    assert all(isinstance(step, Progress) and step.unit == "bytes" for step in steps)


def test_load_can_be_cancelled(tiny_gguf: Path) -> None:
    steps = Load(str(tiny_gguf)).run()
    next(steps)
    steps.close()


def test_sessions_can_follow_each_other(tiny_gguf: Path) -> None:
    texts = set()
    for _ in range(3):
        session = load(tiny_gguf)
        texts.add(answer(session, ask("Once"))[0].text)
        session.close()
        session.close()
    assert len(texts) == 1


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        load(tmp_path / "none.gguf")


def test_not_a_gguf_and_a_truncated_one(tmp_path: Path, tiny_gguf: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"PK\x03\x04" + bytes(1000))
    with pytest.raises(CorruptFile):
        load(other)
    data = tiny_gguf.read_bytes()
    for size in (10, len(data) // 2, len(data) - 1):
        other.write_bytes(data[:size])
        with pytest.raises(CorruptFile):
            load(other)


def test_unknown_architecture(tmp_path: Path, tiny_gguf: Path) -> None:
    def change(metadata: dict[str, Value], _tensors: dict[str, Any]) -> None:
        metadata["general.architecture"] = Value.string("zebra")

    with pytest.raises(UnsupportedArchitecture, match="zebra"):
        load(rewrite(tiny_gguf, tmp_path / "zebra.gguf", change))


def test_missing_tensor_is_named(tmp_path: Path, tiny_gguf: Path) -> None:
    def change(_metadata: dict[str, Value], tensors: dict[str, Any]) -> None:
        del tensors["blk.1.ffn_up.weight"]

    with pytest.raises(CorruptFile, match=r"blk\.1\.ffn_up\.weight"):
        load(rewrite(tiny_gguf, tmp_path / "part.gguf", change))


def test_vocabulary_without_a_model(tmp_path: Path, tiny_gguf: Path) -> None:
    def change(_metadata: dict[str, Value], tensors: dict[str, Any]) -> None:
        tensors.clear()

    with pytest.raises(CorruptFile, match="vocabulary"):
        load(rewrite(tiny_gguf, tmp_path / "vocab.gguf", change))


def test_context_that_does_not_fit(tiny_gguf: Path) -> None:
    with pytest.raises(OutOfMemory, match=r"may be used") as caught:
        load(tiny_gguf, n_ctx=2**31 - 256)
    assert caught.value.hint


def test_model_of_nan(tmp_path: Path, tiny_gguf: Path) -> None:
    def change(_metadata: dict[str, Value], tensors: dict[str, Any]) -> None:
        info, data = tensors["output_norm.weight"]
        assert info.type is GgmlType.F32
        tensors["output_norm.weight"] = (info, b"\xff\xff\xff\x7f" * (len(data) // 4))

    session = load(rewrite(tiny_gguf, tmp_path / "nan.gguf", change))
    try:
        with pytest.raises(InferenceError, match="not a number"):
            answer(session, ask("Once"))
    finally:
        session.close()


# Answering


def test_answer_and_its_figures(session: Session) -> None:
    result, steps = answer(session, ask("Once upon a time", 20))
    pieces = [step for step in steps if isinstance(step, Piece)]
    assert "".join(piece.text for piece in pieces) == result.text
    assert [piece.n_tokens for piece in pieces] == sorted(piece.n_tokens for piece in pieces)
    assert (result.generation_tokens, result.finish_reason) == (20, "length")
    assert result.generation_tokens_per_second > 0
    assert result.prompt_tokens_per_second > 0
    assert result.time_to_first_token_seconds > 0
    assert result.n_ctx == session.info.n_ctx
    # The last token is not read, only written.
    assert result.n_ctx_used == result.prompt_tokens + 19


def test_seed_decides(session: Session) -> None:
    texts = [
        answer(session, ask("Once", 24, SamplingParams(seed=seed)))[0].text for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]
    unseeded = [answer(session, ask("Once", 4, SamplingParams()))[0].seed for _ in range(2)]
    assert unseeded[0] != unseeded[1]


def test_greedy_is_the_likeliest(session: Session) -> None:
    greedy = answer(session, ask("Once upon", 24))[0].text
    top_1 = answer(session, ask("Once upon", 24, SamplingParams(top_k=1, seed=7)))[0].text
    assert greedy == top_1


def test_repeat_penalty_counts_the_prompt_too(session: Session) -> None:
    prompt = "Once upon a time"
    plain, _ = answer(session, ask(prompt, 40))
    strict = SamplingParams(temperature=0, repeat_penalty=1e6)
    result, _ = answer(session, ask(prompt, 40, strict))
    assert result.text != plain.text
    tokens = session._context.tokens
    assert len(set(tokens)) == len(tokens) == result.n_ctx_used


def test_second_turn_reads_only_what_is_new(session: Session) -> None:
    talk: tuple[Message, ...] = (Message("user", "Tell me about the dog, please."),)
    first, _ = answer(session, Generate(talk, sampling=GREEDY, max_tokens=12))
    talk += (Message("assistant", first.text), Message("user", "And then?"))
    cached = list(session._context.tokens)
    second, steps = answer(session, Generate(talk, sampling=GREEDY, max_tokens=4))
    assert second.prompt_tokens > first.prompt_tokens + first.generation_tokens
    assert second.prompt_tokens_evaluated <= second.prompt_tokens - first.prompt_tokens
    assert session._context.tokens[: first.prompt_tokens] == cached[: first.prompt_tokens]
    assert isinstance(steps[0], Progress)
    assert steps[0].done == second.prompt_tokens - second.prompt_tokens_evaluated
    # The same again reads one token, for its logits.
    assert answer(session, Generate(talk, sampling=GREEDY))[0].prompt_tokens_evaluated == 1


def test_another_conversation_is_not_confused(session: Session, tiny_gguf: Path) -> None:
    answer(session, ask("The cat went to the park and", 8))
    got = answer(session, ask("The dog saw a big red", 8))[0].text
    fresh = load(tiny_gguf)
    expected = answer(fresh, ask("The dog saw a big red", 8))[0].text
    fresh.close()
    assert got == expected


def test_prompt_longer_than_the_context(session: Session) -> None:
    n_ctx = session.info.n_ctx
    with pytest.raises(ContextOverflow, match=f"{n_ctx:,}") as caught:
        answer(session, ask("dog " * 9000))
    assert caught.value.hint
    assert answer(session, ask("Once", 4))[0].generation_tokens == 4


def test_full_context_ends_the_answer(tiny_gguf: Path) -> None:
    session = load(tiny_gguf, n_ctx=256)
    result, _ = answer(session, Generate(prompt="Once upon a time", sampling=GREEDY))
    session.close()
    assert result.finish_reason in ("length", "stop")
    if result.finish_reason == "length":
        assert result.prompt_tokens + result.generation_tokens == 256


def test_empty_prompt(session: Session) -> None:
    assert answer(session, ask("", 4))[0].generation_tokens == 4


def test_characters_come_whole(session: Session) -> None:
    text = "é ü 漢字 😀 👩‍👩‍👧 x"
    vocabulary = session._model.vocabulary
    decoder = StreamDecoder(vocabulary)
    tokens = vocabulary.tokenize(text)
    pieces = [decoder.feed(token) for token in tokens]
    assert "".join(pieces) + decoder.flush() == vocabulary.detokenize(tokens) == text
    assert "\ufffd" not in "".join(pieces)
    assert "" in pieces  # held back


# Stopping


def test_stop_between_pieces_keeps_the_cache_true(session: Session) -> None:
    steps = ask("Once upon a time", 200, SamplingParams(seed=1)).run(session)
    while not isinstance(next(steps), Piece):
        pass
    session.interrupt()
    assert isinstance(next(steps), Piece)
    with pytest.raises(StopIteration) as stop:
        next(steps)
    assert stop.value.value.finish_reason == "cancelled"
    assert stop.value.value.n_ctx_used == len(session._context.tokens)
    assert answer(session, ask("Once upon a time", 8))[0].finish_reason == "length"


def test_stop_while_a_long_prompt_is_read(session: Session) -> None:
    expected = answer(session, ask("A happy day", 8))[0].text
    session._context.clear()
    steps = ask(LONG).run(session)
    first = next(steps)
    assert isinstance(first, Progress)
    timer = threading.Timer(0.02, session.interrupt)
    timer.start()
    seen = list(steps)
    timer.join()
    assert all(not isinstance(step, Piece) or step.text == "" for step in seen)
    assert len(session._context.tokens) < (first.total or 0)
    assert answer(session, ask("A happy day", 8))[0].text == expected


def test_closing_the_generator_stops(session: Session) -> None:
    steps = ask("Once upon a time", 200).run(session)
    for _ in range(3):
        next(steps)
    steps.close()
    assert answer(session, ask("Once", 4))[0].generation_tokens == 4


def test_late_stop_does_not_hit_the_next_answer(session: Session) -> None:
    session.interrupt()
    assert answer(session, ask("Once", 4))[0].finish_reason == "length"


# Trained models


@pytest.mark.parametrize("name", ["TinyStories-656K", "stories260K-hf"])
@pytest.mark.parametrize("recipe", ["F32", "Q8_0", "Q4_K_M"])
def test_trained_model_tells_a_story(shared: Path, tmp_path: Path, name: str, recipe: str) -> None:
    path = tmp_path / f"{name}.gguf"
    checkpoint = str(shared / "models" / name)
    job: Any = Convert(checkpoint, str(path), "f32")
    if recipe != "F32":
        job = Shrink(checkpoint, str(path), recipe)
    finish(job.run())
    session = load(path)
    try:
        result, _ = answer(session, ask("Once upon a time", 60))
        vocabulary = session._model.vocabulary
        # A BOS that is written out is not doubled by the one the tokenizer adds.
        bos = vocabulary.text_of(vocabulary.bos)
        tokens = vocabulary.tokenize(bos + "Once upon a time")
        assert tokens.count(vocabulary.bos) <= 1
    finally:
        session.close()
    assert "a little girl named Lily" in result.text
    assert ". " in result.text


def test_letters_that_a_vocabulary_cannot_spell_are_unknown(shared: Path, tmp_path: Path) -> None:
    """TinyStories-656K has no byte tokens; llama.cpp itself would end the process here."""
    path = tmp_path / "stories.gguf"
    finish(Convert(str(shared / "models" / "TinyStories-656K"), str(path), "f16").run())
    session = load(path)
    try:
        result, _ = answer(session, ask("Once upon a time, \N{CJK UNIFIED IDEOGRAPH-65E5} é", 8))
        assert result.generation_tokens > 0
        vocabulary = session._model.vocabulary
        assert (
            "<unk>"
            in b"".join(
                vocabulary.piece(token, special=True) for token in vocabulary.tokenize("a é dog")
            ).decode()
        )
    finally:
        session.close()


# Measuring


def test_evaluator_sees_what_a_session_sees(tiny_gguf: Path, session: Session) -> None:
    evaluator = finish(Evaluator.load(tiny_gguf, 128, 1))
    try:
        chunk = evaluator.tokenize(LONG)[:128]
        logits = evaluator.logits(chunk)
        assert logits is not None
        assert logits.shape == (63, session.info.n_vocab)
        assert len(evaluator.targets(chunk)) == 63
        for row in (0, 62):
            session._context.clear()
            assert session._context.decode(chunk[: 64 + row + 1])
            np.testing.assert_allclose(logits[row], session._context.logits()[0], atol=0.05)
        with pytest.raises(ValueError, match="128"):
            evaluator.logits(chunk[:-1])
    finally:
        evaluator.close()
        session._context.clear()


def test_what_is_special_in_a_prompt_is_text_in_a_measurement(tiny_gguf: Path) -> None:
    text = "<|endoftext|>Once<|im_end|>"
    evaluator = finish(Evaluator.load(tiny_gguf, 128, 1))
    try:
        vocabulary = evaluator._model.vocabulary
        assert vocabulary.detokenize(vocabulary.tokenize(text)) == "Once"
        assert vocabulary.detokenize(evaluator.tokenize(text)) == text
    finally:
        evaluator.close()


def test_bench_measures(tiny_gguf: Path) -> None:
    steps: list[Step] = []
    result = finish(Bench(str(tiny_gguf), 64, 16, 1, 2).run(), steps.append)
    assert result.pp_tokens_per_second > 0
    assert result.tg_tokens_per_second > 0
    assert (result.n_prompt, result.n_generate, result.n_threads) == (64, 16, 1)
    assert {step.stage for step in steps if isinstance(step, Progress)} >= {"Reading", "Writing"}


def test_bench_of_one_thing_only(tiny_gguf: Path) -> None:
    result = finish(Bench(str(tiny_gguf), 0, 4, 1, 1).run())
    assert (result.pp_tokens_per_second, result.tg_tokens_per_second > 0) == (0.0, True)
