"""The chat templates of a checkpoint, gathered from the files that may hold them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.checkpoint import read_optional_json
from engine.errors import CorruptFile
from engine.files import read_error

MAX_TEMPLATE_BYTES = 1 << 20
MAX_TEMPLATES = 64
ADDITIONAL = "additional_chat_templates"


def read_chat_templates(folder: Path, tokenizer_config: Mapping[str, Any]) -> dict[str, str]:
    """Chat templates by name, "default" first; a file of its own wins, as in transformers."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        templates = {"default": _read_template(path)}
        for other in sorted((folder / ADDITIONAL).glob("*.jinja"))[:MAX_TEMPLATES]:
            templates.setdefault(_safe(other.stem), _read_template(other))
        return templates
    found = tokenizer_config.get("chat_template")
    if found is None:
        found = read_optional_json(folder / "chat_template.json").get("chat_template")
    if isinstance(found, str):
        return {"default": found} if found else {}
    templates = {}
    for entry in found[:MAX_TEMPLATES] if isinstance(found, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            template = entry.get("template")
            if isinstance(template, str) and template:
                templates[_safe(entry["name"])] = template
    return dict(sorted(templates.items(), key=lambda item: item[0] != "default"))


def _safe(name: str) -> str:
    """A name that can be part of a GGUF key, as gguf-py writes it."""
    return re.sub("[^A-Za-z0-9]", "_", name[:100])


def _read_template(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_TEMPLATE_BYTES:
            raise CorruptFile(f"{path.name} is too large to be a chat template.")
        return path.read_text(encoding="utf-8")
    except OSError as e:
        raise read_error(e, path) from e
    except UnicodeDecodeError as e:
        raise CorruptFile(f"{path.name} is damaged: it is not UTF-8 text.") from e
