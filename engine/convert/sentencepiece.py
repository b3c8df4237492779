"""SentencePiece BPE: from tokenizer.model (a protobuf), or written as a tokenizer.json.

llama.cpp merges the neighbours whose joint piece has the best score; a tokenizer.json has ranked
merges instead, so a piece's score is made from the rank of the merge that forms it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from struct import unpack
from typing import Any

from engine.convert.pieces import (
    SPACE_MARK,
    Pieces,
    TokenType,
    damaged,
    read_merges,
    vocabulary_texts,
)
from engine.errors import CorruptFile, UnsupportedTokenizer
from engine.files import read_error

MAX_MODEL_BYTES = 64 << 20
UNIGRAM, BPE = 1, 2  # TrainerSpec.ModelType
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # protobuf wire types
UNFORMED_SCORE = -1e6

# Field numbers of sentencepiece_model.proto.
PIECES, TRAINER, NORMALIZER = 1, 2, 3
PIECE_TEXT, PIECE_SCORE, PIECE_TYPE = 1, 2, 3
MODEL_TYPE, WHITESPACE_AS_SUFFIX = 3, 24
SPECIAL_IDS = {"unknown": (40, 0), "bos": (41, 1), "eos": (42, 2), "padding": (43, -1)}
ADD_DUMMY_PREFIX = 3


def sentencepiece_pieces(path: Path, n_vocab: int) -> Pieces:
    """Read a tokenizer.model; raises UnsupportedTokenizer for one that is not BPE."""
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise _damaged_model(path)
        data = path.read_bytes()
    except OSError as e:
        raise read_error(e, path) from e
    try:
        return _parse(data, n_vocab)
    except (ValueError, IndexError) as e:
        raise _damaged_model(path) from e


def _parse(data: bytes, n_vocab: int) -> Pieces:
    texts: list[str] = []
    scores: list[float] = []
    types: list[int] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for number, value in _fields(data):
        if number == PIECES:
            piece = dict(_fields(_expect_bytes(value)))
            text = _expect_bytes(piece.get(PIECE_TEXT, b"")).decode("utf-8")
            token_type = TokenType(piece.get(PIECE_TYPE, TokenType.NORMAL))
            # llama.cpp looks for user-defined tokens in the plain text, before spaces are marked.
            is_plain = token_type is TokenType.USER_DEFINED
            texts.append(text.replace(SPACE_MARK, " ") if is_plain else text)
            scores.append(float(piece.get(PIECE_SCORE, 0.0)))
            types.append(int(token_type))
        elif number == TRAINER:
            trainer = dict(_fields(_expect_bytes(value)))
        elif number == NORMALIZER:
            normalizer = dict(_fields(_expect_bytes(value)))
    _check_model(trainer, len(texts), n_vocab)
    special = {name: trainer.get(key, default) for name, (key, default) in SPECIAL_IDS.items()}
    return Pieces(
        model="llama",
        pre="default",
        texts=texts,
        types=types,
        scores=scores,
        add_space_prefix=bool(normalizer.get(ADD_DUMMY_PREFIX, True)),
        # "None" is -1, which a protobuf writes as a number far beyond the vocabulary.
        special={name: i for name, i in special.items() if 0 <= i < len(texts)},
    )


def _check_model(trainer: Mapping[int, Any], n_pieces: int, n_vocab: int) -> None:
    if not n_pieces:
        raise ValueError("no pieces")
    if trainer.get(MODEL_TYPE, UNIGRAM) != BPE:
        raise _unsupported("a model that is not BPE")
    if trainer.get(WHITESPACE_AS_SUFFIX):
        raise _unsupported("spaces at the end of words")
    if n_pieces > n_vocab:
        raise CorruptFile(
            f"The tokenizer has more tokens than the model ({n_pieces} of {n_vocab}).",
            hint="Use the tokenizer files of the same model.",
        )


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: (number, int | float | bytes). ValueError, IndexError."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        wire_type = tag & 7
        value: Any
        if wire_type == VARINT:
            value, position = _varint(data, position)
        elif wire_type == BYTES:
            n_bytes, position = _varint(data, position)
            value, position = data[position : position + n_bytes], position + n_bytes
        elif wire_type == FIXED32:
            value, position = data[position : position + 4], position + 4
            value = unpack("<f", value)[0] if len(value) == 4 else None
        elif wire_type == FIXED64:
            value, position = data[position : position + 8], position + 8
        else:
            raise ValueError(f"wire type {wire_type}")
        if position > len(data):
            raise ValueError("a field ends beyond the message")
        yield tag >> 3, value


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number is too long")


def _expect_bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a field has the wrong type")
    return value


def metaspace_pieces(
    tokenizer: Mapping[str, Any], model: Mapping[str, Any], n_vocab: int
) -> Pieces:
    """Read a SentencePiece BPE in a tokenizer.json with byte fallback."""
    texts = vocabulary_texts(model, n_vocab)
    add_prefix = _adds_prefix(tokenizer, texts)
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(read_merges(model)):
        ranks.setdefault(left + right, rank)
    unknown = model.get("unk_token")
    special = {"unknown": texts.index(unknown)} if unknown in texts else {}
    return Pieces(
        model="llama",
        pre="default",
        texts=texts,
        types=[int(_piece_type(text, unknown)) for text in texts],
        scores=[-float(ranks[text]) if text in ranks else UNFORMED_SCORE for text in texts],
        add_space_prefix=add_prefix,
        special=special,
    )


def _piece_type(text: str, unknown: Any) -> TokenType:
    if not text:
        return TokenType.UNUSED
    if text == unknown:
        return TokenType.UNKNOWN
    return TokenType.BYTE if re.fullmatch("<0x[0-9A-F]{2}>", text) else TokenType.NORMAL


def _adds_prefix(tokenizer: Mapping[str, Any], texts: list[str]) -> bool:
    """Whether a space is put before the text; raises UnsupportedTokenizer for another structure."""
    has_prefix, marks_spaces = False, False
    for step in _steps(tokenizer.get("normalizer"), "normalizers"):
        if step == {"type": "Prepend", "prepend": SPACE_MARK}:
            has_prefix = True
        elif step == {"type": "Replace", "pattern": {"String": " "}, "content": SPACE_MARK}:
            marks_spaces = True
        else:
            raise _unsupported(f"the normalizer {str(step.get('type'))[:40]}")
    for step in _steps(tokenizer.get("pre_tokenizer"), "pretokenizers"):
        if step.get("type") != "Metaspace" or step.get("replacement", SPACE_MARK) != SPACE_MARK:
            raise _unsupported(f"the pre-tokenizer {str(step.get('type'))[:40]}")
        if step.get("split", True) and any(SPACE_MARK in text[1:] for text in texts):
            raise _unsupported("words that are split before they are merged")
        marks_spaces = True
        scheme = step.get("prepend_scheme", "always" if step.get("add_prefix_space", True) else "")
        has_prefix = has_prefix or scheme in ("always", "first")
    if not marks_spaces:
        raise _unsupported("spaces left as they are")
    return has_prefix


def _steps(value: Any, key: str) -> list[dict[str, Any]]:
    if value is None:
        return []
    steps = (
        value.get(key) if isinstance(value, dict) and value.get("type") == "Sequence" else [value]
    )
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise damaged("its normalizer or pre-tokenizer is malformed")
    return steps


def _unsupported(what: str) -> UnsupportedTokenizer:
    return UnsupportedTokenizer(
        f"Snug does not know this tokenizer: a SentencePiece with {what}.",
        hint="Look for a GGUF of this model, or for the checkpoint it was fine-tuned from.",
    )


def _damaged_model(path: Path) -> CorruptFile:
    return CorruptFile(
        f"{path.name} is damaged: it is no SentencePiece model.",
        hint="Download it again from where the checkpoint came from.",
    )
