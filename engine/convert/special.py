"""The special tokens of a checkpoint and its chat templates, gathered from the files that may say.

Which file wins: tokenizer_config.json, then config.json, then generation_config.json, then the
tokenizer itself; what the post-processor adds wins over `add_bos_token`, as in transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine.checkpoint import read_generation_config, read_optional_json
from engine.convert.pieces import Pieces
from engine.errors import CorruptFile
from engine.files import read_error

# GGUF's name -> Hugging Face's
KINDS = {"bos": "bos", "eos": "eos", "unknown": "unk", "padding": "pad"}
MAX_TEMPLATE_BYTES = 1 << 20


class SpecialTokens(msgspec.Struct, frozen=True):
    """Ids by GGUF's names (bos, eos, eot, eom, unknown, padding) and templates by name."""

    ids: dict[str, int]
    add_bos: bool
    add_eos: bool
    chat_templates: dict[str, str]


def read_special_tokens(
    folder: Path,
    config: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
    tokenizer_config: Mapping[str, Any],
    pieces: Pieces,
) -> SpecialTokens:
    generation_config = read_generation_config(folder)
    ids: dict[str, int] = {}
    for kind, theirs in KINDS.items():
        named = _content(tokenizer_config.get(f"{theirs}_token"))
        candidates = [pieces.texts.index(named)] if named in pieces.texts else []
        candidates += _ids(config.get(f"{theirs}_token_id"), pieces)
        candidates += _ids(generation_config.get(f"{theirs}_token_id"), pieces)
        if kind in pieces.special:
            candidates.append(pieces.special[kind])
        if candidates:
            ids[kind] = candidates[0]
    # A model may end its turn with any of several tokens; llama.cpp has three places for them.
    ends = _ids(generation_config.get("eos_token_id"), pieces)
    ends += _ids(config.get("eos_token_id"), pieces)
    others = [end for end in dict.fromkeys(ends) if end != ids.get("eos")]
    ids.update(zip(("eot", "eom"), others, strict=False))
    add_bos, add_eos = _added_around(tokenizer, tokenizer_config, pieces, ids)
    return SpecialTokens(
        ids,
        add_bos=add_bos and "bos" in ids,  # llama.cpp aborts when it is to add what is not there
        add_eos=add_eos and "eos" in ids,
        chat_templates=read_chat_templates(folder, tokenizer_config),
    )


def read_chat_templates(folder: Path, tokenizer_config: Mapping[str, Any]) -> dict[str, str]:
    """Chat templates by name, "default" first; a file of its own wins, as in transformers."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        try:
            if path.stat().st_size > MAX_TEMPLATE_BYTES:
                raise CorruptFile(f"{path.name} is too large to be a chat template.")
            return {"default": path.read_text(encoding="utf-8")}
        except OSError as e:
            raise read_error(e, path) from e
        except UnicodeDecodeError as e:
            raise CorruptFile(f"{path.name} is damaged: it is not UTF-8 text.") from e
    found = tokenizer_config.get("chat_template")
    if found is None:
        found = read_optional_json(folder / "chat_template.json").get("chat_template")
    if isinstance(found, str):
        return {"default": found} if found else {}
    templates = {}
    for entry in found if isinstance(found, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            template = entry.get("template")
            if isinstance(template, str) and template:
                templates[entry["name"]] = template
    return dict(sorted(templates.items(), key=lambda item: item[0] != "default"))


def _content(token: Any) -> str | None:
    """A special token is a text, or an object with its text."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _ids(value: Any, pieces: Pieces) -> list[int]:
    """The token ids in a config value that is an id, a list of ids, or nothing usable."""
    values = value if isinstance(value, list) else [value]
    return [i for i in values if type(i) is int and 0 <= i < len(pieces.texts)]


def _added_around(
    tokenizer: Mapping[str, Any],
    tokenizer_config: Mapping[str, Any],
    pieces: Pieces,
    ids: Mapping[str, int],
) -> tuple[bool, bool]:
    """Whether a text gets a bos before and an eos after it."""
    add_bos = tokenizer_config.get("add_bos_token")
    add_eos = tokenizer_config.get("add_eos_token")
    for processor in _processors(tokenizer.get("post_processor")):
        single = processor.get("single")
        if processor.get("type") == "TemplateProcessing" and isinstance(single, list) and single:
            add_bos = _is_token(single[0], pieces, ids.get("bos"))
            add_eos = _is_token(single[-1], pieces, ids.get("eos"))
    is_spm = pieces.model == "llama"
    return (
        add_bos if isinstance(add_bos, bool) else is_spm,
        add_eos if isinstance(add_eos, bool) else False,
    )


def _processors(post_processor: Any) -> list[dict[str, Any]]:
    if not isinstance(post_processor, dict):
        return []
    steps = post_processor.get("processors", [post_processor])
    return [s for s in steps if isinstance(s, dict)] if isinstance(steps, list) else []


def _is_token(part: Any, pieces: Pieces, token_id: int | None) -> bool:
    """Whether a part of a post-processing template is the special token `token_id`."""
    special = part.get("SpecialToken") if isinstance(part, dict) else None
    text = special.get("id") if isinstance(special, dict) else None
    return token_id is not None and text == pieces.texts[token_id]
