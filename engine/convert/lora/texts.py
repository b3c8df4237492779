"""What adapters bring beside tensors: a name, a chat template, the tokens that they know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from engine.checkpoint import Checkpoint, read_optional_json
from engine.convert.options import VocabularyOptions
from engine.convert.templates import read_chat_templates
from engine.convert.transformer import EMBEDDING

if TYPE_CHECKING:
    from engine.convert.lora.adapter import Adapter
    from engine.convert.lora.merge import Scaled
    from engine.convert.tokenizer import Vocabulary
    from engine.gguf_values import Value


def name_with(adapters: Sequence[Scaled], name: Value | None) -> str:
    """The name of the model called `name` with adapters: all their names."""
    names = [] if name is None else [str(name.value)]
    return " + ".join([*names, *(adapter.name for adapter, _ in adapters)])


def vocabulary_with(
    adapters: Sequence[Scaled], checkpoint: Checkpoint, n_vocab: int, options: VocabularyOptions
) -> Vocabulary:
    """The vocabulary of `checkpoint`, with the chat template of the last adapter that has one.

    Of an adapter that has trained the embedding the tokenizer counts too: it may know new tokens.
    Raises as read_vocabulary.
    """
    from engine.convert.tokenizer import read_vocabulary

    folder = checkpoint.folder
    templates: dict[str, str] = {}
    for adapter, _ in adapters:
        if _has_tokenizer(adapter):
            folder = adapter.folder
        tokenizer_config = read_optional_json(adapter.folder / "tokenizer_config.json")
        templates = read_chat_templates(adapter.folder, tokenizer_config) or templates
    vocabulary = read_vocabulary(folder, checkpoint.config, n_vocab, options)
    if templates:
        vocabulary = msgspec.structs.replace(vocabulary, chat_templates=templates)
    return vocabulary


def _has_tokenizer(adapter: Adapter) -> bool:
    trains_embedding = any(
        name.replace("language_model.", "", 1) == EMBEDDING
        for name in (*adapter.low_rank, *adapter.whole)
    )
    files = ("tokenizer.json", "tokenizer.model")
    return trains_embedding and any((adapter.folder / name).is_file() for name in files)
