"""Tokens whose inputs are huge count for less in the second moment.

Many models have such inputs at the first token of a text, thousands of times as large as others
(Sun et al., Massive activations in large language models, arXiv 2402.17762). A second moment that
counts them as they are knows nothing else, and rounding by it spoils all other tokens. A layer
behind divides by their size again: an error counts for what it is relative to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_ENERGY = 100.0
"""Of a row of inputs, the sum of its squares; in the median of those that were read together."""


def energies(rows: NDArray[np.float32], n_threads: int = 1) -> NDArray[np.float64]:
    """The sum of the squares of each of `rows` [..., n_cols]; finite if its numbers are."""
    import numpy as np

    from engine._native import sum_squares

    found = np.empty(rows.shape[:-1])
    flat = np.ascontiguousarray(rows).reshape(-1, rows.shape[-1])
    sum_squares(flat, found.reshape(-1), n_threads)
    return found


def shares(energy: NDArray[np.float64]) -> NDArray[np.float32]:
    """By what to multiply rows of these `energies`, so that none of them is massive."""
    import numpy as np

    used = energy[energy > 0]
    most = MOST_ENERGY * np.median(used) if used.size else 1.0
    with np.errstate(divide="ignore"):
        found: NDArray[np.float32] = np.sqrt(np.minimum(1.0, most / energy)).astype(np.float32)
    return found
