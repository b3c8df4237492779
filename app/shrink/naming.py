"""The name of a new model's file (no Qt)."""

from __future__ import annotations

import re
from pathlib import Path

# What some file system forbids in a name, and what ends a folder's name.
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]+')
_TYPE_AT_END = re.compile(r"[-_.](f32|f16|bf16|fp16|fp32)$", re.IGNORECASE)
_NUMBER_AT_END = re.compile(r"(.+)-\d+")
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
    """The first of `name-2`, `name-3`, ... that is not there yet; `name-2` is followed by 3."""
    stem, number = path.stem, 2
    counted = _NUMBER_AT_END.fullmatch(stem)
    # "Llama-3" is a name; "Tiny-2" is a count only where there is a "Tiny" as well.
    if counted and path.with_name(counted[1] + path.suffix).exists():
        stem = counted[1]
    while (free := path.with_name(f"{stem}-{number}{path.suffix}")).exists():
        number += 1
    return free


def why_not(folder: Path, name: str) -> str:
    """Why no file `name` can be written into `folder`, in a sentence; empty where it can."""
    if not name[: -len(SUFFIX)].strip(" ."):
        return "Give the new file a name."
    if _FORBIDDEN.search(name):
        return 'A file name has none of / \\ : * ? " < > |'
    if (folder / name).exists():
        return f"{name} is there already."
    return ""
