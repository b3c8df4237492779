"""Names of files from a hub, which are hostile until proven otherwise.

A name becomes a path below the folder that a download goes to, on every system that Snug runs on:
what one of them takes for something else (a drive, a device, a stream, a folder above) is refused
on all. After huggingface_hub#1429, and Microsoft's "Naming Files, Paths, and Namespaces".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

from engine.errors import UnsafeFile

MAX_PART_BYTES = 200
"""File systems take 255; the rest is for the suffixes of a download in the making."""
MAX_NAME_BYTES = 800
MAX_DEPTH = 8

_FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f\x7f]')
_DEVICES = re.compile(
    r"(con|prn|aux|nul|clock\$|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3])(\..*)?",
    re.IGNORECASE,
)
# Controls, formats (bidi marks, zero-width signs), lone surrogates, private use, unassigned;
# separators other than the space.
_UNSEEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))


def safe_path(name: str) -> PurePosixPath:
    """The path below a download's folder for the hub's file `name`; raises UnsafeFile."""
    if why := _why_unsafe(name):
        raise UnsafeFile(
            f"This model has a file with a name that is not safe to save: it {why}.",
            hint="Choose another source for this model, and tell the hub about this one.",
            details=ascii(name[:80]),
        )
    return PurePosixPath(name)


def safe_paths(names: Iterable[str]) -> dict[str, PurePosixPath]:
    """`safe_path` of each; raises UnsafeFile also where two names would be one file.

    That is so for names that differ in capitals or in how an accent is written, and for a file
    where another name has a folder.
    """
    paths = {name: safe_path(name) for name in names}
    owner: dict[str, str] = {}
    folders: set[str] = set()
    for name, path in paths.items():
        if owner.setdefault(_folded(path), name) != name:
            raise _ambiguous(name)
        folders.update(_folded(folder) for folder in path.parents)
    for folded, name in owner.items():
        if folded in folders:
            raise _ambiguous(name)
    return paths


def _ambiguous(name: str) -> UnsafeFile:
    return UnsafeFile(
        "This model has two files whose names are one and the same on some computers.",
        hint="Choose another source for this model.",
        details=ascii(name[:80]),
    )


def _folded(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFKC", str(path)).casefold()


def _why_unsafe(name: str) -> str:
    """What is wrong with `name`, as the end of a sentence; empty where nothing is."""
    parts = name.split("/")
    if not name or name.startswith("/"):
        return "is empty or begins at the root"
    if len(parts) > MAX_DEPTH:
        return "has too many folders"
    if any(unicodedata.category(char) in _UNSEEN for char in name):
        return "has characters that cannot be seen"
    if _FORBIDDEN.search(name):
        return "has characters that are not allowed in names"
    if len(name.encode()) > MAX_NAME_BYTES:
        return "is too long"
    return next(filter(None, map(_why_part_unsafe, parts)), "")


def _why_part_unsafe(part: str) -> str:
    if part in ("", ".", ".."):
        return "leads out of its folder"
    if part != part.strip() or part.endswith("."):
        return "begins or ends with a space or a dot"
    if _DEVICES.fullmatch(part):
        return "is the name of a device"
    if len(part.encode()) > MAX_PART_BYTES:
        return "is too long"
    return ""
