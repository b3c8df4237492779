"""Tokenization: llama.cpp with a converted vocabulary against the libraries that made it.

Every structure that the converter knows is trained here and compared on 10,000 odd texts. Where
llama.cpp does something else, the difference is named, and every text that differs must show it.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from tokenizers import Tokenizer

from engine.convert.options import VocabularyOptions
from engine.convert.pretokenizers import PRE_TOKENIZERS, QWEN2, Name
from engine.convert.tokenizer import Vocabulary, read_vocabulary
from engine.gguf_values import Array
from engine.splits import open_gguf
from tests.helpers import trained
from tests.helpers.checkpoints import write_json
from tests.helpers.texts import random_texts
from tests.helpers.vocabularies import LlamaTokenizer, in_llama

N_TEXTS, N_ALONE = 10_000, 1_000
TEXTS = random_texts(5, N_TEXTS)

Ids = list[int]
Difference = Callable[[str, Ids, Ids], bool]


def compare(
    llama: LlamaTokenizer,
    texts: Sequence[str],
    encode_all: Callable[[Sequence[str]], list[Ids]],
    difference: Difference | None = None,
    normal: Callable[[str], str] = str,
) -> None:
    """A thousand texts alone, the others ten by ten, and alone where ten differ.

    Every text that differs shows the named `difference`, and some do, or it would name nothing.
    (llama.cpp compiles its expressions anew for each text.)
    """
    alone, rest = list(map(normal, texts[:N_ALONE])), texts[N_ALONE:]
    tens = [rest[i : i + 10] for i in range(0, len(rest), 10)]
    differing = []
    for ten, (text, ids, found) in zip(
        tens, _pairs(llama, (normal("".join(ten)) for ten in tens), encode_all), strict=True
    ):
        if ids != found:
            alone += map(normal, ten)
            differing.append((text, ids, found))
    differing += [(text, ids, found) for text, ids, found in _pairs(llama, alone, encode_all)
                  if found != ids]  # fmt: skip
    unexplained = [d for d in differing if difference is None or not difference(*d)]
    assert not unexplained, f"{len(unexplained)}: {unexplained[-3:]!a}"
    assert difference is None or differing, "llama.cpp differs no more: say so in the docs"


def _pairs(
    llama: LlamaTokenizer,
    texts: Iterable[str],
    encode_all: Callable[[Sequence[str]], list[Ids]],
) -> Iterator[tuple[str, Ids, Ids]]:
    texts = list(texts)
    return zip(texts, encode_all(texts), llama.encode_all(texts), strict=True)


def hugging_face(tokenizer: Tokenizer) -> Callable[[Sequence[str]], list[Ids]]:
    return lambda texts: [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]


def converted(
    tokenizer: Tokenizer, folder: Path, options: VocabularyOptions | None = None
) -> Vocabulary:
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    n_vocab = tokenizer.get_vocab_size()
    return read_vocabulary(folder, {}, n_vocab, options or VocabularyOptions())


# Byte-level BPE.


def has_foreign_capital(text: str, _expected: Ids, _found: Ids) -> bool:
    """llama.cpp knows upper from lower case in ASCII only, and takes É for both."""
    return any(c > "\x7f" and unicodedata.category(c) in {"Lu", "Lt"} for c in text)


def has_mark_or_capital(text: str, expected: Ids, found: Ids) -> bool:
    """Its "tekken" also tears combining marks off the letters before them."""
    # A mark that is newer than Python's table is "Cn" in it.
    has_mark = any(unicodedata.category(c) in {"Mn", "Mc", "Me", "Cn"} for c in text)
    return has_mark or has_foreign_capital(text, expected, found)


def has_ideographic_space(text: str, _expected: Ids, _found: Ids) -> bool:
    """It takes U+3000 for a space where DeepSeek's expression takes it for punctuation."""
    return "\u3000" in text


def has_new_punctuation(text: str, _expected: Ids, _found: Ids) -> bool:
    """Hugging Face's "Punctuation" is of Unicode 8, llama.cpp's letters are of Unicode 15."""
    return any(c in text for c in "\u061d\u1c89")


DIFFERENCES: dict[str, Difference] = {
    "granite-embed-multi-97m": has_foreign_capital,
    "tekken": has_mark_or_capital,
    "deepseek-llm": has_ideographic_space,
    "falcon": has_new_punctuation,
}
KNOWN = [
    (steps, name) for steps, names in PRE_TOKENIZERS.items() for name in names if not name.mark
]


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "name"), KNOWN, ids=[name.merging for _, name in KNOWN])
def test_every_pre_tokenizer_is_the_published_one(
    tmp_path: Path, steps: tuple[str, ...], name: Name
) -> None:
    normalizer = {"type": name.normalizer} if name.normalizer else None
    tokenizer = trained.train_byte_level(steps, normalizer=normalizer)
    vocabulary = converted(tokenizer, tmp_path)
    assert vocabulary.pieces.pre == name.merging
    normal = partial(unicodedata.normalize, "NFC") if name.normalizer else str
    with in_llama(vocabulary, tmp_path / "a.gguf") as llama:
        compare(llama, TEXTS, hugging_face(tokenizer), DIFFERENCES.get(name.merging), normal)


def test_a_flag_that_llama_cpp_sets_by_name_makes_no_difference(tmp_path: Path) -> None:
    """ "ignore_merges" matters where merges cannot form a token, which training never makes."""
    steps = next(steps for steps, name in KNOWN if name.merging == "qwen2")
    tokenizer = trained.train_byte_level(steps, ignore_merges=True)
    with in_llama(converted(tokenizer, tmp_path), tmp_path / "a.gguf") as llama:
        compare(llama, TEXTS, hugging_face(tokenizer))


CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s*[\r\n]|\s+(?!\S)|\s+"
)


@pytest.mark.parametrize(
    ("spelling", "known"),
    [(CL100K, "dbrx"), (QWEN2.replace(r"\r", "\r").replace(r"\n", "\n"), "qwen2")],
)
def test_other_spellings_of_an_expression(tmp_path: Path, spelling: str, known: str) -> None:
    tokenizer = trained.train_byte_level([spelling])
    vocabulary = converted(tokenizer, tmp_path)
    assert vocabulary.pieces.pre == known
    with in_llama(vocabulary, tmp_path / "a.gguf") as llama:
        compare(llama, TEXTS[:2000], hugging_face(tokenizer))


# SentencePiece in a tokenizer.json.


def begins_with_space(text: str, _expected: Ids, _found: Ids) -> bool:
    """ "Metaspace" puts no space before a space; llama.cpp always puts one."""
    return text.startswith((" ", "\u2581"))


@pytest.mark.parametrize("name", trained.METASPACES)
def test_ranked_merges_are_scores(tmp_path: Path, name: str) -> None:
    tokenizer = trained.train_metaspace(name)
    vocabulary = converted(tokenizer, tmp_path)
    assert vocabulary.pieces.model == "llama"
    difference = begins_with_space if name in {"always", "first"} else None
    with in_llama(vocabulary, tmp_path / "a.gguf") as llama:
        compare(llama, TEXTS, hugging_face(tokenizer), difference)


def test_gemma_4_goes_by_the_merges_themselves(tmp_path: Path) -> None:
    tokenizer = trained.train_metaspace("Gemma", crosses_lines=False)
    options = VocabularyOptions(metaspace_model="gemma4")
    vocabulary = converted(tokenizer, tmp_path, options)
    assert vocabulary.pieces.model == "gemma4"
    with in_llama(vocabulary, tmp_path / "a.gguf") as llama:
        compare(llama, TEXTS, hugging_face(tokenizer))


def is_a_tie(vocabulary: Vocabulary) -> Difference:
    """Two ways to split a text can have the same sum of scores."""
    scores = vocabulary.pieces.scores or []

    def difference(text: str, expected: Ids, found: Ids) -> bool:
        sums = [sum(scores[i] for i in ids) for ids in (expected, found)]
        return abs(sums[0] - sums[1]) < 1e-3 or (
            vocabulary.pieces.remove_extra_whitespaces is False and begins_with_space(text, [], [])
        )

    return difference


def test_unigram(tmp_path: Path) -> None:
    tokenizer = trained.train_unigram()
    vocabulary = converted(tokenizer, tmp_path)
    assert vocabulary.pieces.model == "t5"
    with in_llama(vocabulary, tmp_path / "a.gguf") as llama:
        compare(llama, TEXTS, hugging_face(tokenizer), is_a_tie(vocabulary))


def test_unigram_with_a_table_of_characters(tmp_path: Path) -> None:
    options: dict[str, Any] = {"normalization_rule_name": "nmt_nfkc",
                               "remove_extra_whitespaces": True}  # fmt: skip
    model = trained.train_sentencepiece(model_type="unigram", **options)
    (tmp_path / "tokenizer.model").write_bytes(model)
    charsmap = read_vocabulary(tmp_path, {}, trained.N_TOKENS).pieces.charsmap
    (tmp_path / "tokenizer.model").unlink()
    tokenizer = trained.train_unigram(charsmap=charsmap)
    vocabulary = converted(tokenizer, tmp_path)
    assert vocabulary.pieces.charsmap == charsmap
    is_tie = is_a_tie(vocabulary)

    def difference(text: str, expected: Ids, found: Ids) -> bool:
        # Hugging Face looks a letter up together with its marks and joiners, and loses these; and
        # it takes U+0085 for a space.
        has_joiner = any(c in text for c in "\x85\u200c\u200d")
        has_cluster = has_joiner or has_mark_or_capital(text, expected, found)
        return has_cluster or is_tie(text, expected, found)

    with in_llama(vocabulary, tmp_path / "a.gguf") as llama:
        compare(llama, TEXTS, hugging_face(tokenizer), difference)


# SentencePiece's own file.


def with_google(
    folder: Path, **options: Any
) -> tuple[Vocabulary, Callable[[Sequence[str]], list[Ids]]]:
    model = trained.train_sentencepiece(**options)
    (folder / "tokenizer.model").write_bytes(model)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    vocabulary = read_vocabulary(folder, {}, processor.get_piece_size())
    return vocabulary, lambda texts: processor.encode(list(texts))


@pytest.mark.parametrize("has_prefix", [True, False])
def test_a_sentencepiece_bpe(tmp_path: Path, has_prefix: bool) -> None:
    options = {"model_type": "bpe", "byte_fallback": True, "add_dummy_prefix": has_prefix}
    vocabulary, encode_all = with_google(tmp_path, **options)
    with in_llama(vocabulary, tmp_path / "a.gguf") as llama:
        compare(llama, TEXTS, encode_all)


def test_gemmas_runs_of_spaces_and_lines(tmp_path: Path) -> None:
    symbols = ["▁▁", "▁▁▁", "▁▁▁▁", "\n", "\n\n", "\n\n\n", "<tool>"]
    vocabulary, encode_all = with_google(
        tmp_path, model_type="bpe", byte_fallback=True, add_dummy_prefix=False,
        user_defined_symbols=symbols,
    )  # fmt: skip
    texts = [*TEXTS, "<tool>   \n\n\n\n a  b<tool>c"]
    with in_llama(vocabulary, tmp_path / "a.gguf") as llama:
        # A "▁" that is written beside a space: llama.cpp finds runs of spaces before it marks them.
        compare(llama, texts, encode_all, lambda text, _expected, _found: "▁" in text)


@pytest.mark.parametrize("rule", ["identity", "nmt_nfkc"])
def test_a_sentencepiece_unigram(tmp_path: Path, rule: str) -> None:
    options = {"normalization_rule_name": rule, "remove_extra_whitespaces": True}
    vocabulary, encode_all = with_google(tmp_path, model_type="unigram", **options)
    assert bool(vocabulary.pieces.charsmap) == (rule != "identity")
    texts = [text.replace("▁", " ") for text in TEXTS]
    with in_llama(vocabulary, tmp_path / "a.gguf") as llama:
        compare(llama, texts, encode_all, is_a_tie(vocabulary))


# Published vocabularies, put back into the files that they came from.


def cases(shared: Path, name: str) -> list[tuple[str, Ids]]:
    """llama.cpp's own test cases for a vocabulary."""
    path = shared / "vocab" / f"ggml-vocab-{name}.gguf"
    texts = Path(f"{path}.inp").read_text("utf-8").split("\n__ggml_vocab_test__\n")
    lines = Path(f"{path}.out").read_text("utf-8").split("\n")
    return [
        (text, [int(i) for i in line.split()]) for text, line in zip(texts, lines, strict=False)
    ]


def published(shared: Path, name: str) -> dict[str, list[Any]]:
    file = open_gguf(shared / "vocab" / f"ggml-vocab-{name}.gguf")
    values = {key: file.get(f"tokenizer.ggml.{key}") for key in
              ("tokens", "token_type", "merges", "scores")}  # fmt: skip
    return {key: list(value) for key, value in values.items() if isinstance(value, Array)}


@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "qwen2"])
def test_published_byte_level_vocabularies(shared: Path, tmp_path: Path, name: str) -> None:
    content = published(shared, name)
    steps = next(steps for steps, n in KNOWN if name in {n.merging, n.whole_words})
    vocabulary = {text: i for i, text in enumerate(content["tokens"])}
    model = {"type": "BPE", "vocab": vocabulary, "ignore_merges": name == "llama-bpe",
             "merges": [merge.split(" ") for merge in content["merges"]]}  # fmt: skip
    write_json(tmp_path / "tokenizer.json", {"version": "1.0", "added_tokens": [], "model": model,
               "pre_tokenizer": trained.pre_tokenizer(steps)})  # fmt: skip
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    converted = read_vocabulary(tmp_path, {}, len(vocabulary))
    assert converted.pieces.pre == name
    check_published(shared, tmp_path, name, converted, hugging_face(tokenizer))


@pytest.mark.parametrize("name", ["llama-spm", "phi-3"])
def test_published_sentencepiece_vocabularies(shared: Path, tmp_path: Path, name: str) -> None:
    content = published(shared, name)
    # Today a vocabulary has one unknown token; these had several, for rows without a token.
    kinds = [
        kind if kind in {1, 6} or i == 0 else 3 for i, kind in enumerate(content["token_type"])
    ]
    kinds[0] = 2
    pieces = (content["tokens"], content["scores"], kinds)
    model = trained.sentencepiece_model(*pieces)
    (tmp_path / "tokenizer.model").write_bytes(model)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    vocabulary = read_vocabulary(tmp_path, {}, len(pieces[0]))
    check_published(shared, tmp_path, name, vocabulary, lambda texts: processor.encode(list(texts)))


def check_published(
    shared: Path,
    folder: Path,
    name: str,
    vocabulary: Vocabulary,
    encode_all: Callable[[Sequence[str]], list[Ids]],
) -> None:
    with in_llama(vocabulary, folder / "a.gguf") as llama:
        for text, ids in cases(shared, name):
            assert llama.encode(text) == ids, text
        compare(llama, [text for text, _ in cases(shared, name)], encode_all)
        compare(llama, TEXTS, encode_all)
        real = (shared / "text" / "calibration" / "multilingual.utf8").read_text("utf-8")
        compare(llama, [real[i : i + 500] for i in range(0, len(real), 500)], encode_all)


def test_published_cases_of_every_shape(shared: Path, tmp_path: Path) -> None:
    """Hugging Face's own answers for the tiny tokenizers of the shared fixtures."""
    folder = shared / "fixtures" / "tokenizers"
    recorded = json.loads((folder / "hf_tokenizer_cases.json").read_text("utf-8"))
    compared = set()
    for case in recorded.values():
        path = folder / case["tokenizer"]
        # What is refused is in test_tokenizer.py; a tokenizer.model did not come with the fixtures.
        if re.search("wordpiece|noregex|o200k_tokenizer", path.name) or not path.is_file():
            continue
        content = path.read_text("utf-8")
        (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
        vocabulary = read_vocabulary(tmp_path, {}, 600)
        with in_llama(vocabulary, tmp_path / "a.gguf") as llama:
            for text, ids in ((c["text"], c["ids"]) for c in case["cases"]):
                found = llama.encode(text, special=True)
                # "Metaspace" puts no space before a space and, here, none after a special token.
                is_known = "pretok" in path.name and (text[:1] == " " or "<s>" in text)
                # Its vocabulary has merged digits, as none of DeepSeek's has.
                is_known |= "deepseek" in path.name and bool(re.search("12", text))
                assert found == ids or is_known, (case["tokenizer"], text)
        compared.add(case["tokenizer"])
    assert len(compared) >= 10
