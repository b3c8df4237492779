"""The user's conversations as a text to calibrate with, in a file that only the user can read.

It lies in Snug's cache folder for as long as a job needs it: whoever starts the job removes it, and
what a kill has left goes with the next start.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine import chat
from engine.files import as_write_error, make_folder

if TYPE_CHECKING:
    from app.store import Store

FOLDER = "own-texts"


def path_for(cache: Path, out: str) -> Path:
    """Where the conversations for a shrink to `out` go: a resumed one finds them there again."""
    return cache / FOLDER / f"{hashlib.sha256(os.fsencode(out)).hexdigest()[:16]}.jsonl"


def is_own(cache: Path, text: str) -> bool:
    return Path(text).parent == cache / FOLDER


def write(store: Store, path: Path) -> None:
    """Write each conversation, as it is shown, as a line of `path`; raises StorageErrors."""
    make_folder(path.parent)
    with as_write_error(path):
        path.parent.chmod(0o700)
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            for conversation in store.conversations():
                shown = store.active_path(conversation.id)
                turns = [chat.Message(turn.role, turn.content) for turn in shown if turn.content]
                if turns:
                    file.write(msgspec.json.encode({"messages": turns}) + b"\n")


def remove_all(cache: Path) -> None:
    """Remove what is there; no job needs it any more."""
    shutil.rmtree(cache / FOLDER, ignore_errors=True)
