"""Why an adapter cannot be used, in sentences."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import CorruptFile, UnsupportedTensor

if TYPE_CHECKING:
    from engine.convert.lora.adapter import Adapter

MERGE_WITH_PEFT = "Merge it with PEFT (merge_and_unload), then choose the merged model."


def bad_adapter(folder: Path, why: str) -> CorruptFile:
    """The adapter in `folder` is damaged."""
    return CorruptFile(
        f"The adapter {folder.name} is damaged: {why}.",
        hint="Download it again, completely, from where it came from.",
    )


def unsupported_adapter(folder: Path, what: str) -> UnsupportedTensor:
    """The adapter in `folder` is `what`, and no plain LoRA."""
    return UnsupportedTensor(
        f"{folder.name} is {what}, which Snug cannot use.", hint=MERGE_WITH_PEFT
    )


def no_place(adapter: Adapter, name: str) -> UnsupportedTensor:
    """The adapter changes the tensor `name`, which the model does not have."""
    return UnsupportedTensor(
        f"The adapter {adapter.name} changes {name[:80]}, which the model does not have.",
        hint=_right_base(adapter),
    )


def wrong_shape(
    adapter: Adapter, name: str, shape: tuple[int, ...], expected: tuple[int, ...]
) -> CorruptFile:
    """What the adapter has for the tensor `name` does not fit it."""
    return CorruptFile(
        f"The adapter {adapter.name} is for another model: {name[:80]} is {list(expected)}, but"
        f" the adapter's is {list(shape)}.",
        hint=_right_base(adapter),
    )


def no_gguf_adapter(adapter: Adapter, name: str, why: str) -> UnsupportedTensor:
    """llama.cpp could not load it as a GGUF adapter, or would count it wrongly."""
    return UnsupportedTensor(
        f"{adapter.name} cannot become a GGUF adapter: {name[:80]} {why}.",
        hint="Merge it into its base model instead, with --lora.",
    )


def _right_base(adapter: Adapter) -> str:
    base = adapter.config.base
    return f"Choose the model that it was trained for: {base[:80]!a}." if base else ""
