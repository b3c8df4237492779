"""SentencePiece BPE written as a tokenizer.json, where "▁" stands for a space.

llama.cpp merges the neighbours whose joint piece has the best score; a tokenizer.json has ranked
merges instead, so a piece's score is made from the rank of the merge that forms it. For Gemma 4
llama.cpp has a tokenizer that goes by the merges themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from engine.convert.pieces import (
    ADDED_SCORE,
    SPACE_MARK,
    Pieces,
    TokenType,
    damaged,
    read_merges,
    unsupported,
    vocabulary_texts,
)
from engine.errors import UnsupportedTokenizer

UNFORMED_SCORE = -1e6
N_BYTES = 256

Step = Mapping[str, Any]


class Spaces(msgspec.Struct, frozen=True):
    """What a tokenizer.json does to the spaces of a text.

    `has_prefix`: one is put before it; `is_marked`: they become "▁"; `is_split`: words are parted
    at them before anything else; `is_squeezed`: several become one. `charsmap` is SentencePiece's
    table of other characters to replace, in base 64.
    """

    has_prefix: bool = False
    is_marked: bool = False
    is_split: bool = False
    is_squeezed: bool = False
    charsmap: str = ""


def metaspace_pieces(
    tokenizer: Mapping[str, Any], model: Mapping[str, Any], n_vocab: int, llama_model: str
) -> Pieces:
    """Read a SentencePiece BPE with byte fallback; `llama_model` is "llama" or "gemma4".

    Raises UnsupportedTokenizer, CorruptFile.
    """
    if model.get("ignore_merges") is True:
        raise _unsupported("whole words that go before merges")
    if model.get("byte_fallback") is not True:
        raise _unsupported("no tokens for single bytes")
    texts = vocabulary_texts(model, n_vocab)
    spaces = read_spaces(tokenizer)
    if spaces.is_squeezed or spaces.charsmap or not spaces.is_marked:
        raise _unsupported("a text that is changed before it is split")
    if spaces.is_split and any(SPACE_MARK in text[1:] for text in texts):
        raise _unsupported("words that are split before they are merged")
    unknown = model.get("unk_token")
    unknown = unknown if isinstance(unknown, str) and unknown in set(texts) else None
    types = [int(_piece_type(text, unknown)) for text in texts]
    check_bytes(types)
    merges = read_merges(model)
    special = {} if unknown is None else {"unknown": texts.index(unknown)}
    if llama_model == "gemma4":
        return _merged_pieces(texts, types, merges, spaces, special)
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(merges):
        ranks.setdefault(left + right, rank)
    return Pieces(
        model="llama",
        pre="default",
        texts=texts,
        types=types,
        scores=[-float(ranks[text]) if text in ranks else UNFORMED_SCORE for text in texts],
        add_space_prefix=spaces.has_prefix,
        special=special,
    )


def _merged_pieces(
    texts: list[str],
    types: list[int],
    merges: Sequence[tuple[str, str]],
    spaces: Spaces,
    special: dict[str, int],
) -> Pieces:
    """For llama.cpp's "gemma4", which splits a text at its line ends and then merges."""
    if spaces.has_prefix:
        raise _unsupported("a space before every text")
    if any("\n" in text and text.strip("\n") for text in texts):
        raise _unsupported("line ends within words")
    if any(" " in half for pair in merges for half in pair):
        raise damaged("a merge has a space in it")
    return Pieces(
        model="gemma4",
        pre="",
        texts=texts,
        types=[TokenType.CONTROL if t == TokenType.UNKNOWN else t for t in types],
        scores=[ADDED_SCORE] * len(texts),
        merges=[f"{left} {right}" for left, right in merges],
        add_space_prefix=False,
        special=special,
    )


def check_bytes(types: Sequence[int]) -> None:
    """Refuse some of the byte tokens without the rest, on which llama.cpp ends the process."""
    if types.count(TokenType.BYTE) not in {0, N_BYTES}:
        raise _unsupported("tokens for some of the bytes and not for all")


def read_spaces(tokenizer: Mapping[str, Any]) -> Spaces:
    """Read normalizer and pre-tokenizer; raises UnsupportedTokenizer for another structure."""
    spaces = Spaces()
    for step in _steps(tokenizer.get("normalizer"), "normalizers"):
        spaces = _normalized(spaces, step)
    for step in _steps(tokenizer.get("pre_tokenizer"), "pretokenizers"):
        spaces = _pre_tokenized(spaces, step)
    return spaces


def _normalized(spaces: Spaces, step: Step) -> Spaces:
    change = msgspec.structs.replace
    match step:
        case {"type": "Prepend", "prepend": "▁"}:
            return change(spaces, has_prefix=True)
        case {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}:
            return change(spaces, is_marked=True)
        case {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " " | "▁"}:
            return change(spaces, is_squeezed=True)
        case {"type": "Strip", "strip_left": False, "strip_right": True} if spaces.charsmap:
            return spaces  # what follows in T5 squeezes spaces, which strips the last ones too
        case {"type": "Precompiled", "precompiled_charsmap": str(charsmap)}:
            return change(spaces, charsmap=charsmap)
    raise _unsupported(f"the normalizer {str(step.get('type'))[:40]}")


def _pre_tokenized(spaces: Spaces, step: Step) -> Spaces:
    change = msgspec.structs.replace
    match step:
        case {"type": "WhitespaceSplit"} if spaces.charsmap:  # it makes all white space spaces
            return change(spaces, is_squeezed=True, is_split=True)
        # Gemma: nothing is left to split at when the normalizer has marked the spaces.
        case {"type": "Split", "pattern": {"String": " "}, "invert": False} if spaces.is_marked:
            return spaces
        case {"type": "Metaspace"} if step.get("replacement", SPACE_MARK) == SPACE_MARK:
            adds = "always" if step.get("add_prefix_space", True) else "never"
            has_prefix = step.get("prepend_scheme", adds) in ("always", "first")
            return change(
                spaces,
                is_marked=True,
                has_prefix=spaces.has_prefix or has_prefix,
                is_split=spaces.is_split or bool(step.get("split", True)),
            )
    raise _unsupported(f"the pre-tokenizer {str(step.get('type'))[:40]}")


def _piece_type(text: str, unknown: str | None) -> TokenType:
    if not text:
        return TokenType.UNUSED
    if text == unknown:
        return TokenType.UNKNOWN
    return TokenType.BYTE if re.fullmatch("<0x[0-9A-F]{2}>", text) else TokenType.NORMAL


def _steps(value: Any, key: str) -> list[Step]:
    if value is None:
        return []
    steps = (
        value.get(key) if isinstance(value, dict) and value.get("type") == "Sequence" else [value]
    )
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise damaged("its normalizer or pre-tokenizer is malformed")
    return steps


def _unsupported(what: str) -> UnsupportedTokenizer:
    return unsupported(f"a SentencePiece with {what}")
