"""The `general.*` keys of a converted checkpoint: its name, its size, its licence."""

from __future__ import annotations

import re
from pathlib import Path

from engine.checkpoint import Checkpoint
from engine.files import read_error
from engine.gguf_values import Value

MAX_README_BYTES = 1 << 20


def general_metadata(checkpoint: Checkpoint, architecture: str, n_params: int) -> dict[str, Value]:
    """The keys that come first in a GGUF; file type and quantization version come later."""
    metadata = {
        "general.architecture": Value.string(architecture),
        "general.type": Value.string("model"),
        "general.name": Value.string(checkpoint.name),
        "general.size_label": Value.string(size_label(n_params)),
    }
    if license_id := read_license(checkpoint.folder):
        metadata["general.license"] = Value.string(license_id)
    return metadata


def size_label(n_params: int) -> str:
    """A parameter count in two digits or more, as in file names: 656K, 1.1B, 70B."""
    scales = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"))
    scale, suffix = next((s for s in scales if n_params >= s[0]), scales[-1])
    scaled = n_params / scale
    return f"{scaled:.{1 if round(scaled) < 10 else 0}f}{suffix}"


def read_license(folder: Path) -> str:
    """The licence that the model card's front matter names, or ""."""
    readme = folder / "README.md"
    if not readme.is_file():
        return ""
    try:
        with readme.open(encoding="utf-8", errors="replace") as file:
            text = file.read(MAX_README_BYTES)
    except OSError as e:
        raise read_error(e, readme) from e
    front = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    found = re.search(r"^license:\s*([\w.+-]+)\s*$", front[1], re.MULTILINE) if front else None
    return found[1] if found else ""
