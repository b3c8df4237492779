"""The texts that a user names to calibrate with: told apart by what they say, refused if nothing.

When they were written says nothing: the window writes the user's conversations anew each time that
a shrink with them goes on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from engine.calibrate.texts import CONVERSATIONS, TOKENS, Conversation, read_bytes
from engine.errors import FormatError


def read_marks(texts: Sequence[str]) -> tuple[str, ...]:
    """The name of each text, and the SHA-256 of what it says.

    Raises NotFound, StorageError, and FormatError for what is no text or has not a word.
    """
    marks = []
    for path in map(Path, texts):
        data = read_bytes(path)
        if not _has_words(path, data):
            raise FormatError(
                f"There is not a word in {path.name}.",
                hint="Choose another text, or none: then what comes with Snug is read.",
            )
        marks.append(f"{path.name!a} {hashlib.sha256(data).hexdigest()}")
    return tuple(marks)


def _has_words(path: Path, data: bytes) -> bool:
    suffix = path.suffix.lower()
    if suffix == TOKENS:
        return any(byte in b"0123456789" for byte in data)
    if suffix != CONVERSATIONS:
        return bool(data.decode("utf-8", "replace").strip())
    return any(map(_says_something, data.splitlines()))


def _says_something(line: bytes) -> bool:
    """Whether there are words in a line of conversations; what is none is told when it is read."""
    if not line.strip():
        return False
    try:
        conversation = msgspec.json.decode(line, type=Conversation)
    except (msgspec.DecodeError, RecursionError):
        return True
    return any(message.content.strip() for message in conversation.messages)
