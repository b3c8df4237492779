"""The architectures Snug converts. A new one is a module beside llama.py and an entry here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.convert.architecture import Architecture
from engine.convert.architectures.llama import LLAMA
from engine.errors import CorruptFile, UnsupportedArchitecture

ARCHITECTURES: tuple[Architecture, ...] = (LLAMA,)


def find_architecture(config: Mapping[str, Any]) -> Architecture:
    """The architecture that `config` names; raises UnsupportedArchitecture with its name."""
    names = config.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CorruptFile(
            "config.json is damaged: its architectures are not a list of names.",
            hint="Download config.json again from where the checkpoint came from.",
        )
    model_type = config.get("model_type")
    for architecture in ARCHITECTURES:
        if any(name in architecture.hf_names for name in names):
            return architecture
        if not names and model_type in architecture.model_types:
            return architecture
    if not names and not isinstance(model_type, str):
        raise UnsupportedArchitecture(
            "config.json does not say which architecture the model has.",
            hint="Choose a checkpoint of a language model, such as one of the Llama family.",
        )
    known = ", ".join(name for a in ARCHITECTURES for name in a.hf_names)
    raise UnsupportedArchitecture(
        f"Snug cannot convert the architecture {', '.join(names or [str(model_type)])[:80]} yet.",
        hint="Look for a GGUF of this model: Snug runs many more architectures than it converts.",
        details=f"Known: {known}",
    )
