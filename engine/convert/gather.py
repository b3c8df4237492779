"""Puts the tensors of a GGUF together from those of a checkpoint, a few rows at a time.

Rows are moved as they are stored, bit for bit, also those that another quantizer has packed; they
are decoded only where a rule changes numbers or breaks up blocks.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING, Any

from engine.convert.architecture import MadeTensor, Order, Part, TensorRule
from engine.convert.factors import common_factors
from engine.convert.weights import Weight
from engine.ggml_types import GgmlType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Matrices that llama.cpp computes with in F32 only, by the end of their names.
# Source: llama.cpp conversion/base.py, prepare_tensors.
ALWAYS_F32 = (
    "_norm.weight",
    "ffn_gate_inp.weight",
    "ffn_gate_inp_shexp.weight",
    "ssm_conv1d.weight",
)


def is_always_f32(name: str, n_dims: int) -> bool:
    """Whether llama.cpp wants the tensor `name` in F32, whatever the others are."""
    return n_dims < 2 or name.endswith(ALWAYS_F32) or not name.endswith(".weight")


class Made:
    """A tensor that is computed; a `Weight`."""

    type = GgmlType.F32
    factors = ()

    def __init__(self, made: MadeTensor) -> None:
        self.name, self.shape = made.name, (made.n_cols,)
        self._values = made.values

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        return self._values().reshape(1, -1)[start:stop]

    def raw(self, start: int, stop: int) -> NDArray[np.uint8]:
        import numpy as np

        return self.rows(start, stop).view(np.uint8)


class Gathered:
    """The tensor that `rule` makes of `weights`, one for each of its parts; a `Weight`.

    `can_scale`: whether factors may lie beside it.
    """

    def __init__(
        self, rule: TensorRule, weights: tuple[Weight, ...], *, can_scale: bool = False
    ) -> None:
        self.name, self.shape = rule.name, rule.shape
        factors = common_factors(rule.shape, weights)
        self.type = _common_type(rule, weights)
        if factors is None or (factors and not can_scale):
            self.type = GgmlType.F32  # pieces of another type are decoded
        self.factors = factors if factors and self.type.is_quantized else ()
        self._change = rule.change
        # A vector is one row to others, and a column of numbers here.
        is_vector = len(rule.shape) < 2
        self._n_cols = rule.shape[-1] if rule.shape else 1
        self._pieces = tuple(
            _Piece(part, weight, is_vector)
            for part, weight in zip(rule.parts, weights, strict=True)
        )
        self._ends = list(accumulate(part.n_rows(of_vector=is_vector) for part in rule.parts))

    def raw(self, start: int, stop: int) -> NDArray[np.uint8]:
        import numpy as np

        if self._change or any(piece.type is not self.type for piece in self._pieces):
            decoded = self.rows(start, stop)
            return np.ascontiguousarray(decoded).view(np.uint8)
        return self._joined("raw", start, stop).reshape(stop - start, -1)

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        decoded: NDArray[np.float32] = self._joined("rows", start, stop)
        decoded = decoded.reshape(stop - start, self._n_cols)
        return self._change(decoded) if self._change else decoded

    def factor_values(self) -> NDArray[np.float32]:
        import numpy as np

        return np.array(self.factors, np.float32)

    def _joined(self, method: str, start: int, stop: int) -> NDArray[Any]:
        """What the pieces give for rows `start` to `stop`, one below the other."""
        import numpy as np

        if len(self.shape) < 2:
            start, stop = start * self._n_cols, stop * self._n_cols
        found = []
        for i in range(bisect_right(self._ends, start), len(self._ends)):
            begin = self._ends[i - 1] if i else 0
            if begin >= stop:
                break
            first, last = max(start, begin) - begin, min(stop, self._ends[i]) - begin
            found.append(getattr(self._pieces[i], method)(first, last))
        return found[0] if len(found) == 1 else np.concatenate(found)


class _Piece:
    """The rows that a part takes of its weight."""

    def __init__(self, part: Part, weight: Weight, is_vector: bool) -> None:
        self.type = _piece_type(part, weight)
        self._part, self._weight = part, weight
        self._is_vector = is_vector
        self._n_stored_rows = prod(weight.shape[:-1])
        self._order: NDArray[np.intp] | None = None

    def raw(self, start: int, stop: int) -> NDArray[Any]:
        import numpy as np

        part = self._part
        if part.cols is None and not part.is_transposed and not self._is_vector:
            return self._picked(self._weight.raw, start, stop)
        # Numbers of one size can be moved about one by one.
        number = np.dtype(f"V{self._weight.type.block_bytes}")

        def numbers(first: int, last: int) -> NDArray[Any]:
            if self._is_vector:
                whole = self._weight.raw(0, self._n_stored_rows)
                return whole.view(number).reshape(-1, 1)[first:last]
            return self._weight.raw(first, last).view(number)

        moved = self._moved(numbers, start, stop)
        return np.ascontiguousarray(moved).view(np.uint8)

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        from engine.floats import to_float32

        if self._part.is_transposed and self.type.is_float:  # decode what is taken, not all of it
            bits = self.raw(start, stop)
            return to_float32(bits.reshape(-1).data, self.type).reshape(stop - start, -1)

        def numbers(first: int, last: int) -> NDArray[np.float32]:
            if self._is_vector:
                return self._weight.rows(0, self._n_stored_rows).reshape(-1, 1)[first:last]
            return self._weight.rows(first, last)

        return self._moved(numbers, start, stop)

    def _moved(self, read: Any, start: int, stop: int) -> NDArray[Any]:
        """Rows `start` to `stop` of what the part gives, where `read` gives those of the weight."""
        part = self._part
        if not part.is_transposed:
            picked = self._picked(read, start, stop)
            return picked if part.cols is None else _columns(picked, part.cols)
        n_rows = len(part.rows) if part.rows is not None else prod(part.shape[:-1])
        whole = self._picked(read, 0, n_rows)
        if isinstance(part.cols, range):
            cols = part.cols[start:stop]
            return whole[:, cols.start : cols.stop : cols.step].T
        return (whole if part.cols is None else _columns(whole, part.cols))[:, start:stop].T

    def _picked(self, read: Any, start: int, stop: int) -> NDArray[Any]:
        """The weight's rows that the part takes at places `start` to `stop`."""
        rows, order = self._part.rows, self._part.order
        if order is None:
            taken = rows[start:stop] if rows is not None else range(start, stop)
            span: NDArray[Any] = read(taken.start, taken[-1] + 1 if taken else taken.start)
            return span[:: taken.step]
        if self._order is None:
            self._order = order.indices()
        places = self._order[start:stop]
        if rows is not None:
            places = rows.start + places * rows.step
        first, last = int(places.min()), int(places.max())
        picked: NDArray[Any] = read(first, last + 1)[places - first]
        return picked


def _columns(rows: NDArray[Any], cols: range | Order) -> NDArray[Any]:
    if isinstance(cols, range):
        return rows[:, cols.start : cols.stop : cols.step]
    return rows[:, cols.indices()]


def _piece_type(part: Part, weight: Weight) -> GgmlType:
    """The type in which the part's rows are had without loss."""
    breaks_blocks = part.cols is not None or part.is_transposed
    return GgmlType.F32 if breaks_blocks and weight.type.is_quantized else weight.type


def _common_type(rule: TensorRule, weights: tuple[Weight, ...]) -> GgmlType:
    if rule.change or is_always_f32(rule.name, len(rule.shape)):
        return GgmlType.F32
    types = {_piece_type(part, w) for part, w in zip(rule.parts, weights, strict=True)}
    return types.pop() if len(types) == 1 else GgmlType.F32
