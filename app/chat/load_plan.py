"""How the chosen model is to be loaded: what the settings say, or less after memory was short."""

from __future__ import annotations

from engine.errors import EngineError
from engine.inference import LoadSettings
from engine.settings import Settings

SHORTEST_N_CTX = 512
USUAL_N_CTX = 4096
"""Where a search for a context that fits begins, if none was ever loaded."""


class LoadPlan:
    """For one model; another one begins with a new plan."""

    def __init__(self) -> None:
        self.n_ctx = 0
        """Tokens of context instead of what the settings say."""
        self.n_ctx_loaded = 0
        self.is_forced = False
        """Load it although it seems not to fit."""

    def settings(self, value: Settings) -> LoadSettings:
        return LoadSettings(
            n_ctx=self.n_ctx or value.n_ctx,
            n_threads=value.n_threads,
            is_capped=True,
            anyway=self.is_forced,
        )

    def shorter_n_ctx(self, path: str, value: Settings) -> int:
        """A context to try with the model at `path` after the last was too long, or 0."""
        return next_shorter(path, self.n_ctx or self.n_ctx_loaded, value.n_ctx)


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
