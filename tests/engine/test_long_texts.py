"""Long texts reach llama.cpp's regular expressions in pieces, and have the tokens of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import engine.convert.tokenizer
from engine.convert.pretokenizers import QWEN2
from engine.convert.tokenizer import read_vocabulary
from engine.llama.long_texts import BEAR_ANY_LENGTH, LONGEST, short_pieces
from engine.llama.model import Vocabulary
from tests.helpers import trained
from tests.helpers.texts import random_texts
from tests.helpers.vocabularies import LlamaTokenizer, in_llama

# Names whose expressions go to std::regex.
GUARDED = (
    "default", "minicpm5", "deepseek-llm", "deepseek-coder", "deepseek-v3", "spark2_5", "youtu",
    "falcon", "jais-2", "poro-chat", "viking", "bloom", "gpt3-finnish", "tekken", "exaone-moe",
    "chameleon", "gpt-4o", "llama4", "kanana2", "granite-embed-multi-97m", "tiny_aya", "superbpe",
    "bailingmoe", "bailingmoe2", "llada-moe", "seed-coder", "hunyuan-dense", "hy_v4", "joyai-llm",
    "ufakzeka", "afmoe", "minimax-m2",
)  # fmt: skip
TEXT = "".join(trained.training_texts())[: 3 * LONGEST]


@pytest.fixture(scope="module")
def trained_vocabulary(
    tmp_path_factory: pytest.TempPathFactory,
) -> engine.convert.tokenizer.Vocabulary:
    folder = tmp_path_factory.mktemp("vocabulary")
    tokenizer = trained.train_byte_level([QWEN2])
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    return read_vocabulary(folder, {}, tokenizer.get_vocab_size())


@pytest.fixture
def in_both(
    trained_vocabulary: engine.convert.tokenizer.Vocabulary,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> Iterator[tuple[LlamaTokenizer, Vocabulary]]:
    """llama.cpp's tokenizer with the pre-tokenizer `request.param`, and Snug's use of it."""
    pieces = msgspec.structs.replace(trained_vocabulary.pieces, pre=request.param)
    vocabulary = msgspec.structs.replace(trained_vocabulary, pieces=pieces)
    with in_llama(vocabulary, tmp_path / "a.gguf") as llama:
        yield llama, Vocabulary(llama.vocabulary, request.param)


@pytest.mark.parametrize("in_both", GUARDED, indirect=True)
def test_pieces_have_the_tokens_of_the_whole(in_both: tuple[LlamaTokenizer, Vocabulary]) -> None:
    llama, vocabulary = in_both
    assert len(list(short_pieces(TEXT))) > 2
    tokens = vocabulary.tokenize(TEXT, special=False)
    assert tokens[vocabulary.adds_bos :] == llama.encode(TEXT)


@pytest.mark.parametrize(
    "in_both", ["minicpm5", "deepseek-v3", "gpt-4o", "tekken", "exaone-moe"], indirect=True
)
@pytest.mark.parametrize("run", ["A", "!", "a b "])
def test_no_text_ends_the_process(in_both: tuple[LlamaTokenizer, Vocabulary], run: str) -> None:
    _, vocabulary = in_both
    text = (run * 200_000)[:200_000]
    assert vocabulary.detokenize(vocabulary.tokenize(text)[vocabulary.adds_bos :]) == text


@pytest.mark.parametrize("in_both", ["llama-bpe", "qwen2", "gpt-2", "smollm"], indirect=True)
def test_what_bears_any_length_is_not_cut(in_both: tuple[LlamaTokenizer, Vocabulary]) -> None:
    llama, vocabulary = in_both
    text = "a" * 300_000
    assert vocabulary.tokenize(text)[vocabulary.adds_bos :] == llama.encode(text)


def test_pieces_are_the_text() -> None:
    for text in ("", "a" * LONGEST, "a" * (LONGEST + 1), TEXT, " " * 20_000, *random_texts(1, 50)):
        pieces = list(short_pieces(text))
        assert "".join(pieces) == text
        assert all(0 < len(piece) <= LONGEST for piece in pieces) or not text
    words = "word, " * 5000
    assert all(piece.startswith((",", "w")) for piece in short_pieces(words))
    assert BEAR_ANY_LENGTH.isdisjoint(GUARDED)
