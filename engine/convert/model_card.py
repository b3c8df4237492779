"""The front matter of a model card: the YAML at the start of a checkpoint's README.md.

Every scalar is read as the text that stands there, so that the language `no` stays Norwegian and
version 1.0 stays 1.0. A card that cannot be read says nothing: it never stops a conversion.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

MAX_README_CHARACTERS = 4 << 20
MAX_YAML_CHARACTERS = 32 << 10  # of the keys that are asked for; the reader is slow
MAX_DEPTH = 20
TOP_LEVEL_KEY = re.compile(r"""["']?([\w-]+)["']?\s*:(\s|$)""")
NULL = "tag:yaml.org,2002:null"
NULLS = re.compile(r"(~|null|Null|NULL|)$")


def read_model_card(folder: Path, keys: Iterable[str]) -> dict[str, Any]:
    """What the card in `folder` says under `keys`: texts, lists and dicts, nested as they are.

    Other keys are not even parsed, for some cards have thousands of lines of benchmark results.
    {} when there is no card, when it is damaged, too long, nested too deeply, or
    uses aliases.
    """
    readme = folder / "README.md"
    if not readme.is_file():
        return {}
    try:
        with readme.open(encoding="utf-8", errors="replace") as file:
            lines = file.read(MAX_README_CHARACTERS).splitlines()
    except OSError as e:
        log.warning("%s is left out: %s", readme, e)
        return {}
    text = "\n".join(_blocks(_front_matter(lines), frozenset(keys)))
    if len(text) > MAX_YAML_CHARACTERS:
        log.warning("%s is left out: its front matter is too long", readme)
        return {}
    card = _parsed(text, readme)
    return card if isinstance(card, dict) else {}


def as_list(value: Any) -> list[Any]:
    """One text, or a list of anything, as a list."""
    if isinstance(value, list):
        return value
    return [value] if isinstance(value, str) else []


def _front_matter(lines: list[str]) -> Iterator[str]:
    if not lines or lines[0] != "---":
        return
    for line in lines[1:]:
        if line == "---":
            return
        yield line.replace("\t", "  ")  # which YAML does not allow, and some cards have


def _blocks(lines: Iterable[str], keys: frozenset[str]) -> Iterator[str]:
    """The lines of those top-level keys that are in `keys`."""
    is_wanted = True
    for line in lines:
        if match := TOP_LEVEL_KEY.match(line):
            is_wanted = match[1] in keys
        if is_wanted:
            yield line


def _parsed(text: str, readme: Path) -> Any:
    import yaml  # takes 50 ms

    class TextLoader(yaml.BaseLoader):
        """Makes texts, lists and dicts only, no larger than what is written."""

        depth = 0

        def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
            if self.check_event(yaml.AliasEvent):  # a short text may stand for a huge one
                raise yaml.YAMLError("it uses aliases")
            if self.depth == MAX_DEPTH:
                raise yaml.YAMLError("it is nested too deeply")
            self.depth += 1
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    TextLoader.add_implicit_resolver(NULL, NULLS, ["~", "n", "N", ""])
    TextLoader.add_constructor(NULL, lambda _loader, _node: None)
    try:
        return yaml.load(text, Loader=TextLoader)
    except (yaml.YAMLError, ValueError, OverflowError) as e:
        log.warning("The front matter of %s is left out: %s", readme, e)
        return {}
