"""Unigram (SentencePiece's other model) as llama.cpp's "t5" tokenizer.

It looks for the pieces with the best sum of scores. Of two ways with the same sum llama.cpp may
take the other one; docs/tokenizers.md has figures.
"""

from __future__ import annotations

import binascii
import math
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from engine.convert.metaspace import Spaces, read_spaces
from engine.convert.pieces import Pieces, TokenType, damaged, too_many_tokens, unsupported


def unigram_pieces(tokenizer: Mapping[str, Any], model: Mapping[str, Any], n_vocab: int) -> Pieces:
    """Read a Unigram tokenizer.json; raises UnsupportedTokenizer, CorruptFile."""
    if model.get("byte_fallback") is True:
        raise unsupported("a Unigram with tokens for single bytes")
    spaces = read_spaces(tokenizer)
    if not spaces.is_marked:
        raise unsupported("a Unigram with spaces left as they are")
    texts, scores = _vocabulary(model, n_vocab)
    unknown = model.get("unk_id")
    if type(unknown) is not int or not 0 <= unknown < len(texts):
        raise unsupported("a Unigram with no token for the unknown")
    types = [int(TokenType.NORMAL)] * len(texts)
    types[unknown] = TokenType.UNKNOWN
    try:
        charsmap = b64decode(spaces.charsmap, validate=True)
    except binascii.Error as e:
        raise damaged("its table of characters is malformed") from e
    return as_t5(texts, types, scores, spaces, charsmap, {"unknown": unknown})


def as_t5(
    texts: list[str],
    types: list[int],
    scores: list[float],
    spaces: Spaces,
    charsmap: bytes,
    special: dict[str, int],
) -> Pieces:
    """The pieces for llama.cpp; raises UnsupportedTokenizer for what it does otherwise."""
    if "unknown" not in special:
        raise unsupported("a Unigram with no token for the unknown")
    if TokenType.BYTE in types:
        raise unsupported("a Unigram with tokens for single bytes")
    if spaces.is_squeezed and not spaces.has_prefix:
        raise unsupported("a Unigram that drops spaces and puts none before the text")
    if charsmap and not is_sound(charsmap):
        raise damaged("its table of characters is malformed")
    return Pieces(
        model="t5",
        pre="default",
        texts=texts,
        types=types,
        scores=scores,
        add_space_prefix=spaces.has_prefix,
        remove_extra_whitespaces=spaces.is_squeezed,
        charsmap=charsmap,
        special=special,
    )


def is_sound(charsmap: bytes) -> bool:
    """Whether llama.cpp can walk the table for any text: it ends the process at a wrong step.

    The table is a double array (Yata et al. 2007, "A Compact Static Double-Array Keeping Character
    Codes"): u32 units after their size in bytes, then the replacements, each ended by a zero.
    """
    import numpy as np

    n_bytes = int.from_bytes(charsmap[:4], "little")
    replacements = charsmap[4 + n_bytes :]
    if not n_bytes or n_bytes % 4 or not replacements.endswith(b"\0"):
        return False
    units = np.frombuffer(charsmap, dtype="<u4", count=n_bytes // 4, offset=4).astype(np.uint64)
    index = np.arange(len(units), dtype=np.uint64)
    children = index ^ ((units >> np.uint64(10)) << ((units & np.uint64(1 << 9)) >> np.uint64(6)))
    is_value = units >> np.uint64(31) == 1
    if is_value[0] or ((children | np.uint64(0xFF))[~is_value] >= len(units)).any():
        return False
    values = units[is_value] & np.uint64((1 << 31) - 1)
    return bool((values < len(replacements)).all())


def _vocabulary(model: Mapping[str, Any], n_vocab: int) -> tuple[list[str], list[float]]:
    vocabulary = model.get("vocab")
    if not isinstance(vocabulary, list) or not vocabulary:
        raise damaged("it holds no vocabulary")
    if len(vocabulary) > n_vocab:
        raise too_many_tokens(len(vocabulary), n_vocab)
    texts, scores = [], []
    for entry in vocabulary:
        match entry:
            case [str(text), float() | int() as score] if math.isfinite(score):
                texts.append(text)
                scores.append(float(score))
            case _:
                raise damaged("a token is malformed")
    return texts, scores
