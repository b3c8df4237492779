"""The user's conversations as a text to calibrate with, in a file that only the user can read.

It lies in Snug's cache folder while a shrink that needs it runs, and no longer: it is written when
the shrink begins or goes on, and removed when that ends, fails or is paused, and with the window.
What a kill has left goes with the next start. Of what the user wrote a workbench keeps a hash, and
sums and samples of the numbers that it became in the model: no text, though single words could be
told from the samples. They go with the workbench.

The name tells until when: so a shrink that goes on is given the same words, though there has been
more talk since. If some of them were deleted, it is given what there still is, and begins again.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from engine import chat
from engine.errors import EngineError
from engine.files import as_write_error, make_folder

if TYPE_CHECKING:
    from app.store import Store

FOLDER = "own-texts"


def path_for(cache: Path, out: str, until: float) -> Path:
    """Where the conversations up to the time `until` go for a shrink to `out`."""
    name = hashlib.sha256(os.fsencode(out)).hexdigest()[:16]
    return cache / FOLDER / f"{name}-{math.ceil(until * 1000)}.jsonl"


def is_own(cache: Path, text: str) -> bool:
    return Path(text).parent == cache / FOLDER


def require_some(store: Store) -> None:
    """Raise EngineError if there is not a word to calibrate with."""
    if next(_lines(store, time.time()), None) is None:
        raise EngineError(
            "There are no conversations yet that a model could be tuned for.",
            hint="Chat for a while first, or choose other texts.",
        )


def write(store: Store, path: Path) -> None:
    """Write each conversation as a line of `path`, up to the time in its name.

    The same bytes each time, unless one was deleted meanwhile. Raises StorageErrors.
    """
    number = path.stem.rpartition("-")[2]
    until = int(number) / 1000 if number.isdecimal() else time.time()
    make_folder(path.parent)
    with as_write_error(path):
        path.parent.chmod(0o700)
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.writelines(_lines(store, until))


def _lines(store: Store, until: float) -> Iterator[bytes]:
    """The conversations, oldest first, each as it was last gone on with up to `until`."""
    for conversation in sorted(store.conversations(), key=lambda one: one.id):
        said = store.path_to(store.last_message_id(conversation.id, until))
        turns = [chat.Message(turn.role, turn.content) for turn in said if turn.content.strip()]
        if turns:
            yield msgspec.json.encode({"messages": turns}) + b"\n"


def remove_all(cache: Path) -> None:
    """Remove what is there; no job needs it any more."""
    shutil.rmtree(cache / FOLDER, ignore_errors=True)
