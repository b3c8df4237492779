"""SentencePiece's tokenizer.model, a protobuf: BPE and Unigram."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from struct import unpack
from typing import Any

from engine.convert.metaspace import Spaces, check_bytes, read_spaces
from engine.convert.pieces import SPACE_MARK, Pieces, TokenType, too_many_tokens, unsupported
from engine.convert.unigram import as_t5
from engine.errors import CorruptFile
from engine.files import read_error

MAX_MODEL_BYTES = 64 << 20
UNIGRAM, BPE = 1, 2  # TrainerSpec.ModelType
KINDS = {1: "Unigram", 2: "BPE", 3: "words", 4: "characters"}
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # protobuf wire types

# Field numbers of sentencepiece_model.proto.
PIECES, TRAINER, NORMALIZER = 1, 2, 3
PIECE_TEXT, PIECE_SCORE, PIECE_TYPE = 1, 2, 3
MODEL_TYPE, WHITESPACE_AS_SUFFIX = 3, 24
SPECIAL_IDS = {"unknown": (40, 0), "bos": (41, 1), "eos": (42, 2), "padding": (43, -1)}
CHARSMAP, ADD_DUMMY_PREFIX, REMOVE_EXTRA_WHITESPACES = 2, 3, 4

Message = Mapping[int, Any]


def sentencepiece_pieces(path: Path, n_vocab: int, tokenizer: Mapping[str, Any]) -> Pieces:
    """Read a tokenizer.model, with the tokenizer.json beside it, if there is one.

    Raises UnsupportedTokenizer, CorruptFile, StorageError.
    """
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise _damaged_model(path)
        data = path.read_bytes()
    except OSError as e:
        raise read_error(e, path) from e
    try:
        return _parse(data, n_vocab, tokenizer)
    except (ValueError, TypeError, IndexError) as e:
        raise _damaged_model(path) from e


def _parse(data: bytes, n_vocab: int, tokenizer: Mapping[str, Any]) -> Pieces:
    texts: list[str] = []
    scores: list[float] = []
    types: list[int] = []
    trainer: Message = {}
    normalizer: Message = {}
    for number, value in _fields(data):
        if number == PIECES:
            text, score, token_type = _piece(dict(_fields(value)))
            texts.append(text)
            scores.append(score)
            types.append(token_type)
        elif number == TRAINER:
            trainer = dict(_fields(value))
        elif number == NORMALIZER:
            normalizer = dict(_fields(value))
    if not texts:
        raise ValueError("no pieces")
    if len(texts) > n_vocab:
        raise too_many_tokens(len(texts), n_vocab)
    if trainer.get(WHITESPACE_AS_SUFFIX):
        raise unsupported("a SentencePiece with spaces at the end of words")
    special = {name: trainer.get(key, default) for name, (key, default) in SPECIAL_IDS.items()}
    # "None" is -1, which a protobuf writes as a number far beyond the vocabulary.
    special = {name: i for name, i in special.items() if 0 <= i < len(texts)}
    spaces = Spaces(
        has_prefix=bool(normalizer.get(ADD_DUMMY_PREFIX, True)),
        is_marked=True,
        is_squeezed=bool(normalizer.get(REMOVE_EXTRA_WHITESPACES, True)),
    )
    charsmap = _bytes(normalizer.get(CHARSMAP, b""))
    kind = trainer.get(MODEL_TYPE, UNIGRAM)
    if kind == UNIGRAM:
        return as_t5(texts, types, scores, spaces, charsmap, special)
    if kind != BPE:
        raise unsupported(f"a SentencePiece of {KINDS.get(kind, 'an unknown kind')}")
    # Hugging Face goes by tokenizer.json, whatever the model says.
    if charsmap and (not tokenizer or read_spaces(tokenizer).charsmap):
        raise unsupported("a SentencePiece BPE that replaces characters before it splits a text")
    check_bytes(types)
    return Pieces(
        model="llama",
        pre="default",
        texts=texts,
        types=types,
        scores=scores,
        add_space_prefix=spaces.has_prefix,
        special=special,
        is_typed=True,
    )


def _piece(piece: Message) -> tuple[str, float, int]:
    text = _bytes(piece.get(PIECE_TEXT, b"")).decode("utf-8")
    token_type = TokenType(piece.get(PIECE_TYPE, TokenType.NORMAL))
    score = float(piece.get(PIECE_SCORE, 0.0))
    if not math.isfinite(score):
        raise ValueError("a score is no number")
    if token_type is TokenType.USER_DEFINED:
        # llama.cpp looks for user-defined tokens in the plain text, before spaces are marked.
        text = text.replace(SPACE_MARK, " ")
    return text, score, int(token_type)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """The fields of a protobuf message: (number, int | float | bytes). ValueError, IndexError."""
    data = _bytes(data)
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


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a field has the wrong type")
    return value


def _damaged_model(path: Path) -> CorruptFile:
    return CorruptFile(
        f"{path.name} is damaged: it is no SentencePiece model.",
        hint="Download it again from where the checkpoint came from.",
    )
