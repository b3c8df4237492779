"""The language model in a checkpoint that can also see or hear: its config and its tensors.

Snug converts the text part; towers and projectors for pictures and sound are left out.
Source: llama.cpp conversion/base.py, TextModel.filter_tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from engine.errors import CorruptFile

T = TypeVar("T")

OTHER_PARTS = re.compile(
    r"(model\.)?("
    r"vision_tower|vision_model|vision_embed_tokens|visual|multi_modal_projector|mm_projector"
    r"|audio_tower|audio_model|embed_vision|embed_audio|vit_merger|merger|connector"
    r")\..*|model\.image_newline"
)


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """`config`, where what its "text_config" says is what counts."""
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, dict) else config


def text_weights(config: Mapping[str, Any], weights: Mapping[str, T]) -> dict[str, T]:
    """The tensors of the language model, under the names that they have in one for text only."""
    if not isinstance(config.get("text_config"), dict):
        return _with_prefix(weights)
    named: dict[str, T] = {}
    for name, weight in weights.items():
        if not OTHER_PARTS.fullmatch(name):
            # model.language_model.layers.0, language_model.model.layers.0, language_model.lm_head
            inner = name.replace("language_model.", "", 1)
            if inner in named:
                raise CorruptFile(
                    f"The tensor {inner[:80]} is there twice.",
                    hint="Choose the original checkpoint of this model.",
                )
            named[inner] = weight
    return named


def _with_prefix(weights: Mapping[str, T]) -> dict[str, T]:
    """A model that was saved without its output matrix has no `model.` before its names."""
    if "embed_tokens.weight" not in weights:
        return dict(weights)
    return {
        name if name.startswith("lm_head.") else f"model.{name}": weight
        for name, weight in weights.items()
    }
