"""Ranks and alphas by module: the tables "rank_pattern" and "alpha_pattern" of an adapter's config.

A key is a regular expression that a module's name ends with, from the start of a part on; mostly
it is a name, or the end of one. Expressions of an adapter are never run: they could take forever.
Of all there are, ".*", "^" and "$" are understood, and a dot is a dot.
Source: peft/utils/other.py, get_pattern_key.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import NamedTuple

from engine.convert.config import MAX_FLOAT32, Config

_MOST_GLOBS = 64
_KEY = re.compile(r"(?P<start>\^?)(?P<glob>[\w.*-]+)\$?")


class Patterns(NamedTuple):
    """Numbers by the ends of names, and by globs; each with its place: the first match counts."""

    by_name: dict[str, tuple[int, float]]
    by_glob: list[tuple[int, float, tuple[str, ...]]]

    def find(self, module: str, default: float) -> float:
        """The number for `module`."""
        parts = module.split(".")
        ends = (".".join(parts[i:]) for i in range(len(parts)))
        found = [self.by_name[end] for end in ends if end in self.by_name]
        found += [
            (place, number)
            for place, number, globs in self.by_glob
            if any(fnmatchcase(module, glob) for glob in globs)
        ]
        return min(found)[1] if found else default


def read_patterns(config: Config, key: str) -> Patterns:
    """Read the table `key`; raises CorruptFile for no number, and for another expression."""
    values = config.raw(key) or {}
    if not isinstance(values, dict):
        raise config.bad(f"{key} is no table")
    found = Patterns({}, [])
    for place, (pattern, number) in enumerate(values.items()):
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise config.bad(f"{key} of {pattern[:60]!a} is no number")
        if not 0 < number <= MAX_FLOAT32:
            raise config.bad(f"{key} of {pattern[:60]!a} is out of range")
        match = _KEY.fullmatch(pattern.replace(r"\.", ".").replace(".*", "*"))
        if match is None or len(found.by_glob) == _MOST_GLOBS:
            raise config.bad(f"{key} has {pattern[:60]!a}, which Snug cannot match")
        if match["start"]:
            found.by_glob.append((place, number, (match["glob"],)))
        elif "*" in match["glob"]:
            found.by_glob.append((place, number, (match["glob"], f"*.{match['glob']}")))
        else:
            found.by_name.setdefault(match["glob"], (place, number))
    return found
