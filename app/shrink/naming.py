"""The name of a new model's file (no Qt)."""

from __future__ import annotations

import re
from pathlib import Path

# What some file system forbids in a name, and what ends a folder's name.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]+')
_TYPE_AT_END = re.compile(r"[-_.](f32|f16|bf16|fp16|fp32)$", re.IGNORECASE)
SUFFIX = ".gguf"


def default_name(source: str, recipe: str) -> str:
    """`/models/Tiny-F16.gguf` and Q4_K_M -> `Tiny-Q4_K_M.gguf`."""
    path = Path(source)
    stem = path.stem if path.suffix.lower() == SUFFIX else path.name
    stem = _TYPE_AT_END.sub("", _FORBIDDEN.sub("-", stem)).strip(" .-") or "model"
    return f"{stem}-{recipe}{SUFFIX}"


def with_suffix(name: str) -> str:
    name = name.strip()
    return name if name.lower().endswith(SUFFIX) else f"{name}{SUFFIX}"


def numbered(path: Path) -> Path:
    """The first of `name-2`, `name-3`, ... that is not there yet."""
    number = 2
    while (free := path.with_name(f"{path.stem}-{number}{path.suffix}")).exists():
        number += 1
    return free


def why_not(path: Path) -> str:
    """Why nothing can be written to `path`, in a sentence; empty where it can."""
    stem = path.name[: -len(SUFFIX)].strip(" .")
    if not stem:
        return "Give the new file a name."
    if _FORBIDDEN.search(path.name):
        return 'A file name has none of / \\ : * ? " < > |'
    if path.exists():
        return f"{path.name} is there already."
    return ""
