"""Files mapped into memory for reading, and letting go of what was read."""

from __future__ import annotations

import mmap
from pathlib import Path

from engine.files import read_error


def map_file(path: Path) -> mmap.mmap:
    """Map all of `path`; the file is closed with the last view of it.

    Raises NotFound, StorageError, also for a file that is empty.
    """
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as e:
        raise read_error(OSError(str(e)), path) from e


def forget(mapped: mmap.mmap) -> None:
    """Let go of the pages that were read: they no longer count as memory of this process.

    What is read again comes from the system's cache or from the disk. Windows trims by itself.
    """
    if hasattr(mapped, "madvise") and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
