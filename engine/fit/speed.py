"""How fast a model would write here.

A token needs all the weights that take part in it, and the cache of those before it, to be read
once from memory; on today's processors that takes longer than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.fit.estimate import Estimate
from engine.fit.run import MAIN_MEMORY, Need

MEASURED_BYTES = 256 << 20
# Of the bandwidth that plain reading reaches, what llama.cpp's kernels do: see docs/measured.md.
EFFICIENCY = 0.8


def tokens_per_second(estimate: Estimate, needs: Sequence[Need], bandwidth: float) -> float | None:
    """Tokens a second with half the context filled; None where a GPU has a part in it.

    `bandwidth` is that of main memory in bytes a second. Nobody tells that of a graphics card.
    """
    if any(need.weights_bytes for need in needs if need.device != MAIN_MEMORY):
        return None
    kv_bytes = sum(need.kv_bytes for need in needs)
    read_bytes = estimate.active_bytes + kv_bytes / 2
    return EFFICIENCY * bandwidth / read_bytes if read_bytes else None
