"""A tensor's rows as rows of its matrices: one, or one of each expert."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from engine.gguf_values import TensorInfo


def n_matrices(tensor: TensorInfo) -> int:
    """How many matrices (experts, heads) it holds."""
    return prod(tensor.shape[2:])


def rows_of_matrix(tensor: TensorInfo) -> int:
    return tensor.shape[1] if len(tensor.shape) > 1 else 1


def parts(tensor: TensorInfo, start: int, stop: int) -> Iterator[tuple[int, slice]]:
    """The matrices that rows `start` to `stop` belong to, and where each one's lie among them."""
    n = rows_of_matrix(tensor)
    for i_matrix in range(start // n, -(-stop // n)):
        first, last = max(start, i_matrix * n), min(stop, (i_matrix + 1) * n)
        yield i_matrix, slice(first - start, last - start)
