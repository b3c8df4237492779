"""Slots that may meet a full or broken disk."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from engine.errors import EngineError


def told(slot: Callable[..., None]) -> Callable[..., None]:
    """Let `slot` of a page tell what was refused with `show_problem`: it is not a bug of ours."""

    @wraps(slot)
    def safe(page: Any, *arguments: object) -> None:
        try:
            slot(page, *arguments)
        except EngineError as error:
            page.show_problem(error)

    return safe
