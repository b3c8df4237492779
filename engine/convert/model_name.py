"""What the name of a model tells: its owner, base name, size, version and fine-tune.

The heuristics are those of llama.cpp's converter (gguf-py/gguf/metadata.py), for equal keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import takewhile
from typing import Literal, NamedTuple

import msgspec

VERSION = re.compile(r"(v|iter)?\d+([.]\d+)*", re.IGNORECASE)
WEIGHT_TYPE = re.compile(r"i?q\d(_\w)*|b?fp?(16|32)", re.IGNORECASE)
SIZE = re.compile(r"(a|\d+x)?\d+([._]\d+)?[kmbt]\d?|small|mini|medium|large|x?xl", re.IGNORECASE)
FINETUNE = re.compile(r"chat|instruct|vision|lora", re.IGNORECASE)
VERSION_OR_NUMBER = re.compile(r"v\d+(\.\d+)*|\d.*")


class ModelName(msgspec.Struct, frozen=True):
    """The parts of a name such as `owner/Llama-3.1-8B-Instruct`; "" for what it does not tell."""

    name: str = ""
    organization: str = ""
    basename: str = ""
    size_label: str = ""
    finetune: str = ""
    version: str = ""


class _Part(NamedTuple):
    text: str
    kind: Literal["version", "weight type", "size", "finetune", ""]


def split_name(model_id: str, n_params: int = 0) -> ModelName:
    """Take `name` or `owner/name` apart.

    `n_params` (0: unknown) tells a size from a context length: a model of 3.8B has no size of 4k.
    """
    if " " in model_id:  # a title, not an identifier
        return ModelName(model_id)
    owner, slash, name = model_id.partition("/")
    if not slash:
        owner, name = "", model_id
    elif owner.startswith("."):  # a path
        owner = ""
    words = [word for word in name.split("-") if word]
    parts = [_classified(word, i == 0, n_params) for i, word in enumerate(words)]
    if any(part.kind == "size" and not part.text.isalpha() for part in parts):
        # Words such as `mini` are no sizes beside a number.
        parts = [_Part(p.text, "") if p.kind == "size" and p.text.isalpha() else p for p in parts]
    n_base = len(list(takewhile(_may_be_base, parts)))
    if n_base == len(parts):  # versions at the end belong to the whole
        while n_base and parts[n_base - 1].kind == "version":
            n_base -= 1
    rest = parts[n_base:]
    size_label = _joined(dict.fromkeys(p.text for p in rest if p.kind == "size"))
    finetune = _joined(p.text for p in rest if p.kind in ("finetune", ""))
    version = _joined(p.text for p in rest if p.kind == "version")
    is_clear = size_label or finetune or version
    basename = _joined(p.text for p in parts[:n_base]) if is_clear else ""
    return ModelName(name, owner, basename, size_label, finetune, version)


def title(name: str) -> str:
    """`name` for people: words apart and capitalised, but for versions, numbers and acronyms."""
    words = name.replace("-", " ").split()
    return " ".join(
        word.title() if word.islower() and not VERSION_OR_NUMBER.fullmatch(word) else word
        for word in words
    )


def _classified(word: str, is_first: bool, n_params: int) -> _Part:
    if VERSION.fullmatch(word):
        return _Part(word, "version")
    if WEIGHT_TYPE.fullmatch(word):
        return _Part(word, "weight type")
    if not is_first and SIZE.fullmatch(word):
        return _size(word, n_params)
    return _Part(word, "finetune" if not is_first and FINETUNE.fullmatch(word) else "")


def _size(word: str, n_params: int) -> _Part:
    text = word.replace("_", ".")
    if text[-1].isdecimal():  # bloom-7b1 is 7.1B
        text = f"{text[:-2]}.{text[-1]}{text[-2]}"
    if text[-2:-1].isdecimal() and text[-1] in "kmbt":
        text = text[:-1] + text[-1].upper()
    if n_params and _is_far(text, n_params):
        return _Part(text[:-1] + text[-1].lower(), "finetune")
    return _Part(text, "size")


def _is_far(size: str, n_params: int) -> bool:
    """Tell whether `size` is less than 1/8 or more than 15/8 of `n_params`."""
    try:
        told = float(size[:-1]) * 1000.0 ** " KMBT".find(size[-1])
    except ValueError:  # a word, or experts: 8x7B
        return False
    return abs(told - n_params) > 7 * n_params // 8


def _may_be_base(part: _Part) -> bool:
    return part.kind == "version" or (part.kind == "" and part.text[0].isalpha())


def _joined(texts: Iterable[str]) -> str:
    return "-".join(texts)
