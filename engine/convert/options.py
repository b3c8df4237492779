"""What an architecture can say of its tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec


class VocabularyOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What an architecture says of its tokenizer beyond the files.

    `pre_names` renames a pre-tokenizer to another of llama.cpp's names for the same one.
    `metaspace_model` is llama.cpp's tokenizer for a SentencePiece BPE in a tokenizer.json.
    `default_ids` maps GGUF's kinds of special tokens to texts, for those that no file names.
    `visible` are special tokens that an answer shows. `add_bos` and `add_space_prefix` overrule
    the files.
    """

    pre_names: Mapping[str, str] = {}
    metaspace_model: Literal["llama", "gemma4"] = "llama"
    default_ids: Mapping[str, str] = {}
    visible: frozenset[str] = frozenset()
    add_bos: bool | None = None
    add_space_prefix: bool | None = None


NO_OPTIONS = VocabularyOptions()
