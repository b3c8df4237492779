"""Byte-level BPE, as GPT-2, Llama 3 and Qwen have it: its tokens and merges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.convert.pieces import Pieces, TokenType, read_merges, unsupported, vocabulary_texts
from engine.convert.pretokenizers import pre_tokenizer_name


def byte_level_pieces(
    tokenizer: Mapping[str, Any],
    model: Mapping[str, Any],
    n_vocab: int,
    pre_names: Mapping[str, str],
) -> Pieces:
    """Read a byte-level BPE tokenizer.json; `pre_names` as in VocabularyOptions.

    Raises UnsupportedTokenizer, CorruptFile.
    """
    for option in ("continuing_subword_prefix", "end_of_word_suffix", "dropout"):
        if model.get(option):
            raise unsupported(f"a byte-level BPE with {option}")
    texts = vocabulary_texts(model, n_vocab)
    is_whole_words = model.get("ignore_merges") is True
    tokens = {*texts, *_added_texts(tokenizer)}
    name = pre_tokenizer_name(tokenizer, tokens, is_whole_words=is_whole_words)
    return Pieces(
        model="gpt2",
        pre=pre_names.get(name, name),
        texts=texts,
        types=[int(TokenType.NORMAL if text else TokenType.UNUSED) for text in texts],
        merges=[f"{_plain(left)} {_plain(right)}" for left, right in read_merges(model)],
    )


def _plain(part: str) -> str:
    """Half of a merge without the space that parts the halves."""
    return part.replace(" ", "Ġ")


def _added_texts(tokenizer: Mapping[str, Any]) -> list[str]:
    added = tokenizer.get("added_tokens")
    entries = added if isinstance(added, list) else []
    texts = (entry.get("content") for entry in entries if isinstance(entry, dict))
    return [text for text in texts if isinstance(text, str)]
