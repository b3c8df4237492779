"""Walks through folders that may hold anything: what cannot be looked at looks empty."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

MAX_DEPTH = 6
MAX_FOLDERS = 5000


def folders_below(root: Path) -> Iterator[Path]:
    """Walk `root` breadth first, not into hidden folders, following each link only once."""
    queue, seen = [(root, 0)], {os.path.realpath(root)}
    while queue and len(seen) <= MAX_FOLDERS:
        folder, depth = queue.pop(0)
        yield folder
        if depth == MAX_DEPTH:
            continue
        for path in items(folder):
            if path.name.startswith(".") or not is_dir(path):
                continue
            if (real := os.path.realpath(path)) not in seen:
                seen.add(real)
                queue.append((path, depth + 1))


def is_file(path: Path) -> bool:
    """Like Path.is_file; what may not be looked at is none."""
    with contextlib.suppress(OSError):
        return path.is_file()
    return False


def is_dir(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.is_dir()
    return False


def is_text(path: str) -> bool:
    """Whether a name can be written down; on Unix it may be any bytes."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def items(folder: Path) -> list[Path]:
    """List the paths in a folder in order of name; one that cannot be read looks empty."""
    try:
        return sorted(folder.iterdir(), key=lambda path: path.name)
    except (OSError, ValueError):
        return []
