"""The tokens of a vocabulary, with their types, as llama.cpp stores them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import msgspec

from engine.errors import CorruptFile

ADDED_SCORE = -1000.0
PAD_SCORE = -10000.0
SPACE_MARK = "\u2581"  # SentencePiece's visible space


class TokenType(IntEnum):
    """llama.cpp's token types, the same numbers as SentencePiece's."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class Pieces(msgspec.Struct):
    """Tokens by id, while they are put together.

    `model` and `pre` name llama.cpp's tokenizer and pre-tokenizer. `scores` belong to
    SentencePiece, `merges` ("left right", best first) to byte-level BPE. `special` are ids that the
    tokenizer file itself gives to bos, eos, unknown, padding.
    """

    model: str
    pre: str
    texts: list[str]
    types: list[int]
    scores: list[float] | None = None
    merges: list[str] | None = None
    add_space_prefix: bool = False
    special: dict[str, int] = {}


def vocabulary_texts(model: Mapping[str, Any], n_vocab: int) -> list[str]:
    """The texts of the trained tokens of a tokenizer.json, by id; "" where there is none."""
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, dict) or not vocabulary:
        raise damaged("it holds no vocabulary")
    texts = [""] * n_vocab
    for text, token_id in vocabulary.items():
        if type(token_id) is not int or token_id < 0:
            raise damaged(f"the token {text[:40]!a} has no id")
        if token_id >= n_vocab:
            raise CorruptFile(
                f"The tokenizer has more tokens than the model ({token_id} of {n_vocab}).",
                hint="Use the tokenizer files of the same model.",
            )
        texts[token_id] = text
    return texts


def read_merges(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The merges of a tokenizer.json, in both of its notations."""
    pairs: list[tuple[str, str]] = []
    entries = model.get("merges")
    if not isinstance(entries, list):
        raise damaged("it holds no merges")
    for entry in entries:
        pair = entry.split(" ") if isinstance(entry, str) else entry
        if not isinstance(pair, list) or len(pair) != 2:
            raise damaged("a merge is malformed")
        left, right = pair
        if not (isinstance(left, str) and isinstance(right, str)):
            raise damaged("a merge is malformed")
        pairs.append((left, right))
    return pairs


def apply_added(pieces: Pieces, added: Mapping[int, tuple[str, bool]], n_vocab: int) -> None:
    """Enter the added tokens; those beyond the embedding can never be used and are left out."""
    for token_id, (text, is_special) in added.items():
        if token_id >= n_vocab:
            continue
        _grow(pieces, token_id + 1)
        if pieces.types[token_id] == TokenType.UNKNOWN:
            continue
        is_control = is_special or looks_special(text)
        # llama.cpp looks for user-defined tokens in the plain text, before spaces are marked.
        is_plain = not is_control and pieces.model == "llama"
        pieces.texts[token_id] = text.replace(SPACE_MARK, " ") if is_plain else text
        pieces.types[token_id] = TokenType.CONTROL if is_control else TokenType.USER_DEFINED
        if pieces.scores is not None:
            pieces.scores[token_id] = ADDED_SCORE


def pad(pieces: Pieces, n_vocab: int) -> None:
    """Name the rows of the embedding that no token uses."""
    _grow(pieces, n_vocab)
    for token_id, text in enumerate(pieces.texts):
        if not text:
            pieces.texts[token_id] = f"[PAD{token_id}]"
            pieces.types[token_id] = TokenType.UNUSED


def looks_special(text: str) -> bool:
    """True for texts that models use as control tokens though their files forget to say so.

    Source: llama.cpp conversion/base.py, does_token_look_special.
    """
    return (
        text in ("<pad>", "<mask>", "<2mass>", "[@BOS@]")
        or (text.startswith("<|") and text.endswith("|>"))
        or (text.startswith("<\uff5c") and text.endswith("\uff5c>"))
        or (text.startswith("<unused") and text.endswith(">"))
    )


def damaged(why: str) -> CorruptFile:
    return CorruptFile(
        f"tokenizer.json is damaged: {why}.",
        hint="Download it again from where the checkpoint came from.",
    )


def _grow(pieces: Pieces, n_tokens: int) -> None:
    n_more = n_tokens - len(pieces.texts)
    if n_more > 0:
        pieces.texts += [""] * n_more
        pieces.types += [int(TokenType.UNUSED)] * n_more
        if pieces.scores is not None:
            pieces.scores += [PAD_SCORE] * n_more
