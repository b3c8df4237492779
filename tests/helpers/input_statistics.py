"""Statistics of inputs that are all at hand: the least that rounding and folding ask for."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


class Inputs:
    """What is known of the inputs of each tensor, float32 [n_matrices, n_tokens, n_cols].

    Every fourth is held out.
    """

    def __init__(self, inputs: Mapping[str, Array]) -> None:
        is_held_out = {name: np.arange(x.shape[1]) % 4 == 3 for name, x in inputs.items()}
        self._held_out = {name: x[:, is_held_out[name]] for name, x in inputs.items()}
        self._seen = {name: x[:, ~is_held_out[name]] for name, x in inputs.items()}
        self._importance = {name: (x**2).mean(axis=1) for name, x in self._seen.items()}

    def importance(self, tensor: str) -> Array | None:
        return self._importance.get(tensor)

    def n_tokens(self, tensor: str) -> NDArray[np.int64]:
        n_matrices, n_tokens, _ = self._seen[tensor].shape
        return np.full(n_matrices, n_tokens, np.int64)

    def moment_tokens(self, tensor: str, i_matrix: int = 0) -> float:
        return float(self.n_tokens(tensor)[i_matrix])

    def second_moment(self, tensor: str, i_matrix: int = 0) -> Array | None:
        if tensor not in self._seen:
            return None
        x = self._seen[tensor][i_matrix]
        moment: Array = x.T @ x / np.float32(len(x))
        return moment

    def second_moment_blocks(self, tensor: str, i_matrix: int = 0) -> list[Array] | None:
        """As if the input were too large for one block."""
        whole = self.second_moment(tensor, i_matrix)
        if whole is None:
            return None
        n = -(-len(whole) * 2 // 3)
        return [whole[:n, :n], whole[n:, n:]]

    def shared_input(self, tensor: str) -> str:
        return tensor

    def evenly(self, tensor: str) -> float:
        return 0.0

    def held_out(self, tensor: str, i_matrix: int = 0) -> Array | None:
        return self._held_out[tensor][i_matrix] if tensor in self._held_out else None
