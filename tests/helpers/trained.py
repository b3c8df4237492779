"""Tokenizers trained here, by Hugging Face's and Google's own libraries, on odd texts.

They are as small as a test can bear and have a published tokenizer's structure.
"""

from __future__ import annotations

import functools
import io
import json
import re
import struct
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from typing import Any

import sentencepiece
from tokenizers import Tokenizer, pre_tokenizers, trainers

from engine.convert.pretokenizers import DIGIT, DIGITS, GPT2, PUNCTUATION
from tests.helpers.texts import random_texts

N_TOKENS = 3000
SPECIAL = ("<unk>", "<s>", "</s>")
BYTES = [f"<0x{i:02X}>" for i in range(256)]
Json = dict[str, Any]

_EMPTY_BPE = {"type": "BPE", "vocab": {}, "merges": []}
_MARK_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}


@functools.cache
def training_texts() -> list[str]:
    """Odd texts of another seed than those that are compared."""
    return random_texts(999, 8000)


@functools.cache
def common_texts(n_characters: int = 900) -> list[str]:
    """The same with nothing but the most common characters, all of which SentencePiece keeps."""
    counts = Counter("".join(training_texts()).replace("\0", ""))
    common = {character for character, _ in counts.most_common(n_characters)}
    return ["".join(c for c in text if c in common) for text in training_texts()]


def pre_tokenizer(steps: Sequence[str]) -> Json:
    """A byte-level pre-tokenizer that splits by `steps`, as published files write it."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    parts: list[Json] = []
    for step in steps:
        if step == GPT2:
            parts.append({**byte_level, "use_regex": True})
        elif step in {DIGIT, DIGITS}:
            parts.append({"type": "Digits", "individual_digits": step == DIGIT})
        elif step == PUNCTUATION:
            parts.append({"type": "Punctuation", "behavior": "Contiguous"})
        else:
            parts.append({"type": "Split", "pattern": {"Regex": step}, "behavior": "Isolated",
                          "invert": False})  # fmt: skip
    if GPT2 not in steps:
        parts.append({**byte_level, "use_regex": False})
    return {"type": "Sequence", "pretokenizers": parts}


def train_byte_level(
    steps: Sequence[str], *, normalizer: Json | None = None, ignore_merges: bool = False
) -> Tokenizer:
    model = {**_EMPTY_BPE, "ignore_merges": ignore_merges}
    tokenizer = _tokenizer(model, normalizer, pre_tokenizer(steps))
    trainer = trainers.BpeTrainer(
        vocab_size=N_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(training_texts(), trainer)
    return tokenizer


METASPACES: dict[str, tuple[Json | None, Json | None]] = {
    # name -> normalizer, pre-tokenizer
    "Llama 2": (
        {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, _MARK_SPACES]},
        None,
    ),
    "Gemma": (
        _MARK_SPACES,
        {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious",
         "invert": False},
    ),
    **{
        scheme: (
            None,
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": split},
        )
        for scheme, split in (("always", True), ("first", False), ("never", True))
    },
}  # fmt: skip


def train_metaspace(
    name: str, *, crosses_lines: bool = True, n_tokens: int = N_TOKENS
) -> Tokenizer:
    """SentencePiece's BPE as a tokenizer.json with the structure `name` of METASPACES.

    Unless it `crosses_lines`, no token has a line end beside something else.
    """
    model = {**_EMPTY_BPE, "unk_token": "<unk>", "byte_fallback": True, "fuse_unk": True}
    tokenizer = _tokenizer(model, *METASPACES[name])
    trainer = trainers.BpeTrainer(
        vocab_size=n_tokens - len(BYTES), special_tokens=[*SPECIAL], show_progress=False
    )
    texts = common_texts(n_characters=min(900, n_tokens // 4))
    if not crosses_lines:
        texts = [run for text in texts for run in re.findall(r"[^\n]+|\n+", text)]
    tokenizer.train_from_iterator(texts, trainer)
    return with_bytes(tokenizer)


def with_bytes(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer with the 256 byte tokens, which no trainer of it makes."""
    content = json.loads(tokenizer.to_str())
    vocabulary = content["model"]["vocab"]
    for text in BYTES:
        vocabulary.setdefault(text, len(vocabulary))
    return Tokenizer.from_str(json.dumps(content))


def train_unigram(*, charsmap: bytes = b"", n_tokens: int = N_TOKENS) -> Tokenizer:
    """Unigram with "Metaspace"; with a `charsmap` also as XLM-RoBERTa's, words parted before it."""
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    model = {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0]], "byte_fallback": False}
    encoded = b64encode(charsmap).decode()
    normalizer = {"type": "Precompiled", "precompiled_charsmap": encoded} if charsmap else None
    parts = [{"type": "WhitespaceSplit"}] * bool(charsmap) + [metaspace]
    tokenizer = _tokenizer(model, normalizer, {"type": "Sequence", "pretokenizers": parts})
    trainer = trainers.UnigramTrainer(
        vocab_size=n_tokens, special_tokens=[*SPECIAL], unk_token="<unk>", show_progress=False
    )
    texts = common_texts(n_characters=min(900, n_tokens // 4))
    tokenizer.train_from_iterator(texts[:2000], trainer)
    return tokenizer


def train_sentencepiece(*, n_characters: int = 900, **options: Any) -> bytes:
    """A tokenizer.model, of white space kept and nothing normalized unless `options` say so."""
    settings = {
        "vocab_size": N_TOKENS,
        "character_coverage": 1.0,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "num_threads": 1,
        "minloglevel": 2,
    }
    out = io.BytesIO()
    lines = (
        line for text in common_texts(n_characters) for line in text.split("\n") if line.strip()
    )
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines, model_writer=out, **{**settings, **options}
    )
    return out.getvalue()


def sentencepiece_model(
    texts: Sequence[str], scores: Sequence[float], types: Sequence[int]
) -> bytes:
    """A BPE tokenizer.model of these pieces, written by hand (sentencepiece_model.proto)."""
    model = b""
    for text, score, kind in zip(texts, scores, types, strict=True):
        piece = _field(1, text.encode()) + b"\x15" + struct.pack("<f", score) + bytes((0x18, kind))
        model += _field(1, piece)
    trainer = b"\x18\x02\x98\x02\x01"  # model_type BPE, byte_fallback
    normalizer = b"\x18\x01\x20\x00"  # add_dummy_prefix, remove_extra_whitespaces
    return model + _field(2, trainer) + _field(3, normalizer)


def _field(number: int, data: bytes) -> bytes:
    length, n = b"", len(data)
    while n > 0x7F:
        length, n = length + bytes((n & 0x7F | 0x80,)), n >> 7
    return bytes((number << 3 | 2,)) + length + bytes((n,)) + data


def _tokenizer(model: Json, normalizer: Json | None, pre: Json | None) -> Tokenizer:
    content: Json = {"version": "1.0", "added_tokens": [], "normalizer": normalizer,
               "pre_tokenizer": pre, "post_processor": None, "decoder": None,
               "model": model}  # fmt: skip
    return Tokenizer.from_str(json.dumps(content))
