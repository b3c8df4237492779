"""Which context to try after one was too long for the memory."""

from __future__ import annotations

from engine.errors import EngineError

SHORTEST_N_CTX = 512
USUAL_N_CTX = 4096
"""Where a search for a context that fits begins, if none was ever loaded."""


def next_shorter(path: str, tried: int, wished: int) -> int:
    """Half of what was `tried` with the model at `path`, or of what is `wished`; 0 for no less.

    `tried` 0: nothing of its own was. A wish is never tried beyond what the model was trained for.
    """
    if not tried:
        tried = min(wished, _trained_n_ctx(path) or wished) if wished else USUAL_N_CTX
    found = max(SHORTEST_N_CTX, tried // 2)
    return found if found < tried else 0


def _trained_n_ctx(path: str) -> int:
    from engine.inspect import describe

    try:
        return describe(path).n_ctx_train
    except EngineError:
        return 0
