"""A checkpoint's tokenizer as llama.cpp's vocabulary keys.

Three kinds: byte-level BPE (tokenizer.json), SentencePiece BPE (tokenizer.model), and SentencePiece
BPE written as tokenizer.json. What is none of these is refused by name, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine.checkpoint import read_json_object, read_optional_json
from engine.convert.bytelevel import byte_level_pieces
from engine.convert.pieces import Pieces, apply_added, pad
from engine.convert.sentencepiece import metaspace_pieces, sentencepiece_pieces
from engine.convert.special import SpecialTokens, read_special_tokens
from engine.errors import CorruptFile, FormatError, UnsupportedTokenizer
from engine.gguf_values import Value, ValueType


class Vocabulary(msgspec.Struct, frozen=True):
    """Everything llama.cpp has to know to tokenize."""

    pieces: Pieces
    special: SpecialTokens

    def metadata(self) -> dict[str, Value]:
        pieces, special = self.pieces, self.special
        keys = {
            "tokenizer.ggml.model": Value.string(pieces.model),
            "tokenizer.ggml.pre": Value.string(pieces.pre),
            "tokenizer.ggml.tokens": Value.array(ValueType.STRING, pieces.texts),
        }
        if pieces.scores:
            keys["tokenizer.ggml.scores"] = Value.array(ValueType.FLOAT32, pieces.scores)
        keys["tokenizer.ggml.token_type"] = Value.array(ValueType.INT32, pieces.types)
        if pieces.merges:
            keys["tokenizer.ggml.merges"] = Value.array(ValueType.STRING, pieces.merges)
        for name, token_id in special.ids.items():
            keys[f"tokenizer.ggml.{name}_token_id"] = Value.u32(token_id)
        keys["tokenizer.ggml.add_bos_token"] = Value.boolean(special.add_bos)
        keys["tokenizer.ggml.add_eos_token"] = Value.boolean(special.add_eos)
        if not pieces.add_space_prefix and pieces.model == "llama":
            keys["tokenizer.ggml.add_space_prefix"] = Value.boolean(False)
        for name, template in special.chat_templates.items():
            suffix = "" if name == "default" else f".{name}"
            keys[f"tokenizer.chat_template{suffix}"] = Value.string(template)
        return keys


def read_vocabulary(folder: Path, config: Mapping[str, Any], n_vocab: int) -> Vocabulary:
    """Read the tokenizer files in `folder`, padded to the `n_vocab` rows of the embedding.

    Raises UnsupportedTokenizer, CorruptFile, FormatError when there is no tokenizer.
    """
    tokenizer_config = read_optional_json(folder / "tokenizer_config.json")
    tokenizer = read_optional_json(folder / "tokenizer.json")
    pieces = _read_pieces(folder, tokenizer, n_vocab)
    apply_added(pieces, _added_tokens(folder, tokenizer, tokenizer_config), n_vocab)
    pad(pieces, n_vocab)
    special = read_special_tokens(folder, config, tokenizer, tokenizer_config, pieces)
    return Vocabulary(pieces, special)


def _read_pieces(folder: Path, tokenizer: Mapping[str, Any], n_vocab: int) -> Pieces:
    if (folder / "tokenizer.model").is_file():
        return sentencepiece_pieces(folder / "tokenizer.model", n_vocab)
    if not tokenizer:
        raise FormatError(
            f"{folder.name} has no tokenizer.json and no tokenizer.model.",
            hint="Download the tokenizer files of the model into this folder too.",
        )
    model = tokenizer.get("model")
    if not isinstance(model, dict):
        raise CorruptFile(
            "tokenizer.json is damaged: it holds no model.",
            hint="Download it again from where the checkpoint came from.",
        )
    kind = model.get("type", "BPE")  # files of old versions do not say
    if kind != "BPE":
        raise UnsupportedTokenizer(
            f"Snug cannot convert a tokenizer of the kind {str(kind)[:40]} yet.",
            hint="Look for a GGUF of this model.",
        )
    if model.get("byte_fallback") is True:
        return metaspace_pieces(tokenizer, model, n_vocab)
    return byte_level_pieces(tokenizer, model, n_vocab)


def _added_tokens(
    folder: Path, tokenizer: Mapping[str, Any], tokenizer_config: Mapping[str, Any]
) -> dict[int, tuple[str, bool]]:
    """Tokens beside the trained ones: id -> (text, is special). Later files win."""
    added: dict[int, tuple[str, bool]] = {}
    try:
        if (folder / "added_tokens.json").is_file():
            for text, token_id in read_json_object(folder / "added_tokens.json").items():
                added[_token_id(token_id)] = (text, False)
        for entry in tokenizer.get("added_tokens") or ():
            added[_token_id(entry["id"])] = (_text(entry["content"]), entry.get("special") is True)
        for key, entry in (tokenizer_config.get("added_tokens_decoder") or {}).items():
            added[_token_id(int(key))] = (_text(entry["content"]), entry.get("special") is True)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise CorruptFile(
            "The tokenizer files are damaged: an added token is malformed.",
            hint="Download them again from where the checkpoint came from.",
            details=str(e),
        ) from e
    return added


def _token_id(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"token id {value!a}")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"token text {value!a}")
    return value
