"""A checkpoint's tokenizer as llama.cpp's vocabulary keys.

Four kinds: byte-level BPE and Unigram (tokenizer.json), SentencePiece (tokenizer.model), and
SentencePiece BPE written as tokenizer.json. What is none of these is refused by name, never
guessed. docs/tokenizers.md lists what is known, and the differences to llama.cpp's converter.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine.checkpoint import read_json_object, read_optional_json
from engine.convert.bytelevel import byte_level_pieces
from engine.convert.metaspace import metaspace_pieces
from engine.convert.options import NO_OPTIONS, VocabularyOptions
from engine.convert.pieces import AddedToken, Pieces, apply_added, finish, unsupported
from engine.convert.pretokenizers import is_byte_level
from engine.convert.sentencepiece import sentencepiece_pieces
from engine.convert.special import SpecialTokens, read_special_tokens
from engine.convert.templates import read_chat_templates
from engine.convert.unigram import unigram_pieces
from engine.errors import CorruptFile, FormatError, UnsupportedTokenizer
from engine.gguf_values import Value, ValueType


class Vocabulary(msgspec.Struct, frozen=True):
    """Everything llama.cpp has to know to tokenize."""

    pieces: Pieces
    special: SpecialTokens
    chat_templates: dict[str, str]

    def metadata(self) -> dict[str, Value]:
        pieces, special = self.pieces, self.special
        keys = {"tokenizer.ggml.model": Value.string(pieces.model)}
        if pieces.pre:
            keys["tokenizer.ggml.pre"] = Value.string(pieces.pre)
        keys["tokenizer.ggml.tokens"] = Value.array(ValueType.STRING, pieces.texts)
        if pieces.scores:
            keys["tokenizer.ggml.scores"] = Value.array(ValueType.FLOAT32, pieces.scores)
        keys["tokenizer.ggml.token_type"] = Value.array(ValueType.INT32, pieces.types)
        if pieces.merges:
            keys["tokenizer.ggml.merges"] = Value.array(ValueType.STRING, pieces.merges)
        for name, token_id in special.ids.items():
            keys[f"tokenizer.ggml.{name}_token_id"] = Value.u32(token_id)
        for name, is_added in special.adds.items():
            keys[f"tokenizer.ggml.add_{name}_token"] = Value.boolean(is_added)
        for name in ("add_space_prefix", "remove_extra_whitespaces"):
            flag = getattr(pieces, name)
            if flag is not None:
                keys[f"tokenizer.ggml.{name}"] = Value.boolean(flag)
        if pieces.charsmap:
            charsmap = Value.array(ValueType.UINT8, pieces.charsmap)
            keys["tokenizer.ggml.precompiled_charsmap"] = charsmap
        return keys | self._templates()

    def _templates(self) -> dict[str, Value]:
        keys = {}
        others = [name for name in self.chat_templates if name != "default"]
        for name in others:
            template = self.chat_templates[name]
            keys[f"tokenizer.chat_template.{name}"] = Value.string(template)
        if others:
            keys["tokenizer.chat_templates"] = Value.array(ValueType.STRING, others)
        if "default" in self.chat_templates:
            keys["tokenizer.chat_template"] = Value.string(self.chat_templates["default"])
        return keys


def read_vocabulary(
    folder: Path,
    config: Mapping[str, Any],
    n_vocab: int,
    options: VocabularyOptions = NO_OPTIONS,
) -> Vocabulary:
    """Read the tokenizer files in `folder`, padded to the `n_vocab` rows of the embedding.

    Raises UnsupportedTokenizer, CorruptFile, FormatError when there is no tokenizer.
    """
    tokenizer_config = read_optional_json(folder / "tokenizer_config.json")
    tokenizer = read_optional_json(folder / "tokenizer.json")
    pieces = _read_pieces(folder, tokenizer, n_vocab, options)
    added = _added_tokens(folder, pieces, tokenizer, tokenizer_config)
    apply_added(pieces, added, n_vocab, options.visible)
    finish(pieces, n_vocab)
    if pieces.model in {"llama", "gemma4"}:
        pieces.add_space_prefix = _space_prefix(pieces, tokenizer_config, options)
    special = read_special_tokens(
        folder, config, tokenizer, tokenizer_config, pieces, options.default_ids
    )
    if options.add_bos is not None:
        special.adds["bos"] = options.add_bos and "bos" in special.ids
    return Vocabulary(pieces, special, read_chat_templates(folder, tokenizer_config))


def _read_pieces(
    folder: Path, tokenizer: Mapping[str, Any], n_vocab: int, options: VocabularyOptions
) -> Pieces:
    model = tokenizer.get("model")
    has_bytes = is_byte_level(tokenizer.get("pre_tokenizer"))
    is_spelled_out = has_bytes or (options.metaspace_model != "llama" and model is not None)
    if (folder / "tokenizer.model").is_file() and not is_spelled_out:
        return sentencepiece_pieces(folder / "tokenizer.model", n_vocab, tokenizer)
    if not tokenizer:
        raise FormatError(
            f"{folder.name} has no tokenizer.json and no tokenizer.model.",
            hint="Download the tokenizer files of the model into this folder too.",
        )
    if not isinstance(model, dict):
        raise CorruptFile(
            "tokenizer.json is damaged: it holds no model.",
            hint="Download it again from where the checkpoint came from.",
        )
    kind = model.get("type", "BPE")  # files of old versions do not say
    if kind == "Unigram":
        return unigram_pieces(tokenizer, model, n_vocab)
    if kind != "BPE":
        raise UnsupportedTokenizer(
            f"Snug cannot convert a tokenizer of the kind {str(kind)[:40]}.",
            hint="Look for a GGUF of this model.",
        )
    if has_bytes:
        return byte_level_pieces(tokenizer, model, n_vocab, options.pre_names)
    if tokenizer.get("pre_tokenizer") is None and tokenizer.get("normalizer") is None:
        raise unsupported("a BPE with no pre-tokenizer")
    return metaspace_pieces(tokenizer, model, n_vocab, options.metaspace_model)


def _space_prefix(
    pieces: Pieces, tokenizer_config: Mapping[str, Any], options: VocabularyOptions
) -> bool | None:
    """Whether llama.cpp puts a space before a text; None where it does so unasked."""
    if options.add_space_prefix is not None:
        return options.add_space_prefix
    told = tokenizer_config.get("add_prefix_space")
    if isinstance(told, bool):
        return told
    return None if pieces.add_space_prefix else False


def _added_tokens(
    folder: Path,
    pieces: Pieces,
    tokenizer: Mapping[str, Any],
    tokenizer_config: Mapping[str, Any],
) -> dict[int, AddedToken]:
    """Tokens beside the trained ones, by id. Later files win."""
    added: dict[int, AddedToken] = {}
    # A tokenizer.model types its special tokens by itself.
    typed = dict(enumerate(pieces.texts)) if pieces.is_typed else {}
    try:
        if (folder / "added_tokens.json").is_file():
            for text, token_id in read_json_object(folder / "added_tokens.json").items():
                added[_token_id(token_id)] = AddedToken(text, is_special=False)
        for entry in tokenizer.get("added_tokens") or ():
            if typed.get(_token_id(entry["id"])) != entry["content"]:
                added[entry["id"]] = _added_token(entry)
        for key, entry in (tokenizer_config.get("added_tokens_decoder") or {}).items():
            added[_token_id(int(key))] = _added_token(entry)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise CorruptFile(
            "The tokenizer files are damaged: an added token is malformed.",
            hint="Download them again from where the checkpoint came from.",
            details=str(e),
        ) from e
    return added


def _added_token(entry: Any) -> AddedToken:
    if not isinstance(entry["content"], str):
        raise TypeError(f"token text {entry['content']!a}")
    return AddedToken(entry["content"], is_special=entry.get("special") is True)


def _token_id(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"token id {value!a}")
    return value
