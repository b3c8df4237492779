"""Scales for tiles of a weight: of all of it, of a row, of some columns of a row, of a square."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.checkpoint import StoredTensor
from engine.convert.packed.shelf import Shelf, misfit
from engine.convert.packed.weight import Floats, Groups, ordered_groups

Tile = tuple[int, int]


class Grid:
    """The scales `stored` of a weight of `shape` [..., n_rows, n_cols], one for each tile.

    `tiles` are sizes [rows, columns] that the config speaks of; what the tensor's shape fits of
    them, or else of one for each row, each matrix or the whole weight, is what counts. Raises
    CorruptFile where nothing fits.
    """

    def __init__(
        self, shelf: Shelf, stored: StoredTensor, shape: tuple[int, ...], tiles: tuple[Tile, ...]
    ) -> None:
        self._shelf, self.stored = shelf, stored
        self._n_rows, n_cols = shape[-2:]
        n_outer = prod(shape[:-2])
        for rows, cols in (*tiles, (1, n_cols), (self._n_rows, n_cols)):
            grid = (-(-self._n_rows // rows), -(-n_cols // cols))
            if _is(stored.shape, (*shape[:-2], *grid)):
                self._shape, self._tile_rows, self._is_single = (n_outer, *grid), rows, False
                break
        else:
            if prod(stored.shape) != 1:
                raise misfit(
                    stored,
                    f"has the shape {list(stored.shape)}, which fits no tiles of {list(shape)}",
                )
            self._shape, self._tile_rows, self._is_single = (1, 1, 1), self._n_rows, True
            cols = n_cols
        self.groups: Groups = ordered_groups(n_cols, cols)
        self.n_groups = self._shape[2]

    def rows(self, first: int, last: int) -> Floats:
        """The scales of rows `first` to `last` over all outer dimensions, [n, n_groups]."""
        picked = self._picked(first, last)
        if self.stored.dtype == "I8":
            return picked.view(np.int8).astype(np.float32)
        return self._shelf.floats(self.stored, picked)

    def are_powers_of_two(self) -> bool:
        """Whether all of them are, or zero."""
        mantissas, _ = np.frexp(self._shelf.floats(self.stored))
        return bool(np.isin(np.abs(mantissas), (0.0, 0.5)).all())

    def _picked(self, first: int, last: int) -> NDArray[Any]:
        stored: NDArray[Any] = self._shelf.array(self.stored).reshape(-1, self._shape[2])
        row = np.zeros(last - first, np.intp) if self._is_single else np.arange(first, last)
        place = row // self._n_rows * self._shape[1] + row % self._n_rows // self._tile_rows
        picked: NDArray[Any] = stored[place]
        return picked


def _is(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether `shape` is `wanted`, where dimensions of 1 at the end may be left out."""
    return _stripped(shape) == _stripped(wanted)


def _stripped(shape: tuple[int, ...]) -> tuple[int, ...]:
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape
