"""What can be tried after a model could not be loaded."""

from __future__ import annotations

from collections.abc import Callable

from app.chat.session import Session
from engine.errors import OutOfMemory


def remedies(session: Session) -> tuple[tuple[str, Callable[[], None]], ...]:
    """At most two: the words of a button, and what it does."""
    anyway = ("Load anyway", session.load_anyway)
    shorter = ("Try a shorter context", session.load_shorter)
    if not isinstance(session.error, OutOfMemory):
        return (("Load again", session.load),)
    found = (shorter,) if session.shorter_n_ctx else ()
    if not session.plan.is_forced:  # it was not even tried
        return (*found, anyway)
    return found or (("Load again", session.load),)
