"""The tokens of a vocabulary, with their types, as llama.cpp stores them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

import msgspec

from engine.errors import CorruptFile, UnsupportedTokenizer

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
    SentencePiece, `merges` ("left right", best first) to BPE; `charsmap` is what SentencePiece
    normalizes by. What is None is left to llama.cpp: it puts a space before a text where
    SentencePiece does. `special` are ids that the tokenizer file itself
    gives to bos, eos, unknown, padding; `is_typed` says that it types its special tokens too.
    """

    model: str
    pre: str
    texts: list[str]
    types: list[int]
    scores: list[float] | None = None
    merges: list[str] | None = None
    add_space_prefix: bool | None = None
    remove_extra_whitespaces: bool | None = None
    charsmap: bytes = b""
    special: dict[str, int] = {}
    is_typed: bool = False


class AddedToken(msgspec.Struct, frozen=True):
    """A token beside the trained ones."""

    text: str
    is_special: bool


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
            raise too_many_tokens(token_id + 1, n_vocab)
        if texts[token_id]:
            raise damaged(f"two tokens have the id {token_id}")
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


def apply_added(
    pieces: Pieces, added: Mapping[int, AddedToken], n_vocab: int, visible: frozenset[str]
) -> None:
    """Enter the added tokens; those beyond the embedding can never be used and are left out.

    `visible` are special tokens that an answer shows all the same.
    """
    # What an SPM-style BPE was trained on is found by its merges as well, as upstream has it.
    keeps_trained = pieces.model == "gemma4"
    has_bytes = TokenType.BYTE in pieces.types
    for token_id, token in added.items():
        if token_id >= n_vocab:
            continue
        _grow(pieces, token_id + 1)
        if pieces.types[token_id] == TokenType.UNKNOWN and not has_bytes:
            continue  # it stands for the letters that no token spells
        is_trained = pieces.types[token_id] == TokenType.NORMAL and bool(pieces.texts[token_id])
        if token.text in visible:
            token_type = TokenType.USER_DEFINED
        elif token.is_special or (looks_special(token.text) and not keeps_trained):
            token_type = TokenType.CONTROL
        elif keeps_trained and is_trained:
            continue
        else:
            token_type = TokenType.USER_DEFINED
        # llama.cpp looks for user-defined tokens in the plain text, before spaces are marked.
        is_plain = token_type is TokenType.USER_DEFINED and pieces.model in {"llama", "t5"}
        pieces.texts[token_id] = token.text.replace(SPACE_MARK, " ") if is_plain else token.text
        pieces.types[token_id] = token_type
        if pieces.scores is not None:
            pieces.scores[token_id] = ADDED_SCORE


def finish(pieces: Pieces, n_vocab: int) -> None:
    """Name the rows of the embedding that no token uses.

    So named are also tokens that no text can reach: a second one with the same text, on which
    llama.cpp ends the process, and one with a zero in it, which ends a text in C.
    """
    _grow(pieces, n_vocab)
    taken: set[str] = set()
    unused = []
    for token_id, text in enumerate(pieces.texts):
        if not text or text in taken or "\0" in text:
            unused.append(token_id)
        else:
            taken.add(text)
    for token_id in unused:
        name = f"[PAD{token_id}]"
        while name in taken:
            name = f"[{name}]"
        taken.add(name)
        pieces.texts[token_id] = name
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


def too_many_tokens(n_tokens: int, n_vocab: int) -> CorruptFile:
    return CorruptFile(
        f"The tokenizer has more tokens than the model ({n_tokens} of {n_vocab}).",
        hint="Use the tokenizer files of the same model.",
    )


def unsupported(what: str, details: str = "") -> UnsupportedTokenizer:
    return UnsupportedTokenizer(
        f"Snug does not know this tokenizer: {what}.",
        hint="Look for a GGUF of this model, or for the checkpoint it was fine-tuned from.",
        details=details,
    )


def _grow(pieces: Pieces, n_tokens: int) -> None:
    n_more = n_tokens - len(pieces.texts)
    if n_more > 0:
        pieces.texts += [""] * n_more
        pieces.types += [int(TokenType.UNUSED)] * n_more
        if pieces.scores is not None:
            pieces.scores += [PAD_SCORE] * n_more
