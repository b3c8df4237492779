"""How fast a model would write here.

A token needs all the weights that take part in it, and the cache of those before it, to be read
once from memory and multiplied; all else is little.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.fit.estimate import Estimate
from engine.fit.run import MAIN_MEMORY, Need

EFFICIENCY = 0.9
"""The rest goes to all else: of ten models the middle one (docs/memory.md)."""
KV_COST = 10
"""A byte of the cache takes as long as ten of the weights: no kernel multiplies it in blocks."""
CONVERSATION = 1024
"""Tokens that are there already: some questions and their answers."""


def tokens_per_second(
    estimate: Estimate, needs: Sequence[Need], n_ctx: int, bandwidth: float
) -> float | None:
    """Tokens a second well into a conversation; None where a GPU has a part in it.

    `bandwidth` is how many bytes of weights a second are read and multiplied here
    (engine/llama/kernels.py). Nobody tells that of a graphics card.
    """
    if any(need.weights_bytes for need in needs if need.device != MAIN_MEMORY):
        return None
    filled = min(1.0, CONVERSATION / max(1, n_ctx))
    kv_bytes = sum(need.kv_bytes for need in needs) * filled
    read_bytes = estimate.active_bytes + KV_COST * kv_bytes
    return EFFICIENCY * bandwidth / read_bytes if read_bytes else None
