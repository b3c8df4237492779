"""Looks at what a person wants to add, and says why where it is no model (no Qt)."""

from __future__ import annotations

from pathlib import Path

from engine.errors import EngineError, FormatError, NotFound
from engine.inspect import describe
from engine.library import find_models


def find_addable(path: Path) -> list[str]:
    """The model at `path`, or every model in that folder, as absolute paths.

    Raises EngineError with the reason where there is none.
    """
    path = plain_path(path)
    if path.is_dir():
        found = [str(model) for model in find_models(path)]
        if found:
            return found
        if not any((path / name).exists() for name in ("config.json", "adapter_config.json")):
            raise NotFound(
                f"There is no model in {path.name}.",
                hint="Choose a folder with GGUF files, or a checkpoint: config.json and"
                " safetensors files.",
                details=str(path),
            )
    describe(path)
    return [str(path)]


def plain_path(path: Path) -> Path:
    """`path` as it is kept: absolute, and without ".."; links stay as they are where they can."""
    return path.resolve() if ".." in path.parts else path.absolute()


def require_chat_model(path: Path) -> None:
    """Raise EngineError with the reason why there is nothing to chat with at `path`."""
    if describe(path).kind == "checkpoint":
        raise FormatError(
            f"{path.name} is a checkpoint: it has to be shrunk before a chat.",
            hint="Shrink it, then chat with the result.",
        )


def is_chat_model(path: Path) -> bool:
    try:
        require_chat_model(path)
    except EngineError:
        return False
    return True
