"""How the next token is picked: the settings only, light to import and to send."""

from __future__ import annotations

import math

import msgspec


class SamplingParams(msgspec.Struct, frozen=True):
    """Sampling settings, with llama.cpp's names and order of application.

    First the repeat penalty (over the last `repeat_last_n` tokens), then top-k, top-p, min-p and
    the temperature. `temperature` 0 always takes the likeliest token; `top_k` 0, `top_p` 1,
    `min_p` 0 and `repeat_penalty` 1 switch that step off; `seed` None is a new one each time.
    Raises ValueError for a setting that means nothing.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    seed: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError("temperature must be 0 or more")
        if self.top_k < 0:
            raise ValueError("top_k must be 0 or more")
        if not (0 < self.top_p <= 1 and 0 <= self.min_p <= 1):
            raise ValueError("top_p and min_p must be between 0 and 1")
        if not (math.isfinite(self.repeat_penalty) and self.repeat_penalty > 0):
            raise ValueError("repeat_penalty must be more than 0")
        if self.repeat_last_n < 0:
            raise ValueError("repeat_last_n must be 0 or more")
        if self.seed is not None and not 0 <= self.seed < 2**32:
            raise ValueError("seed must be between 0 and 4294967295")

    @property
    def is_greedy(self) -> bool:
        return self.temperature == 0
