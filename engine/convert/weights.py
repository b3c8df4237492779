"""A tensor of a checkpoint as the model sees it, however it is stored.

Whoever puts tensors together asks a `Weight` for rows and never what it is made of: a plain tensor
(`StoredWeight`), or one that another quantizer has packed (`engine.convert.packed`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from engine.checkpoint import Checkpoint, StoredTensor
from engine.ggml_types import GgmlType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Weight(Protocol):
    """`shape` has rows first; `type` is the one in which its rows are had without loss."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def type(self) -> GgmlType: ...

    @property
    def factors(self) -> tuple[float, ...]:
        """What the raw rows are multiplied with to be the values: () for nothing.

        One number, or one for each matrix of a stack; see `engine.convert.factors`.
        """
        ...

    def raw(self, start: int, stop: int) -> NDArray[np.uint8]:
        """Rows `start` to `stop` over all outer dimensions in `type`, uint8 [n, row_bytes].

        May be a read-only view.
        """
        ...

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        """The same rows decoded, float32 [n, n_cols]; may be a read-only view."""
        ...


class StoredWeight:
    """A tensor that is stored as F32, F16 or BF16; another one is refused where it is used."""

    factors = ()

    def __init__(self, checkpoint: Checkpoint, stored: StoredTensor) -> None:
        self.name = stored.name
        self.shape = stored.shape
        self._checkpoint, self._stored = checkpoint, stored

    @property
    def type(self) -> GgmlType:
        """Raises UnsupportedTensor, as the tensor that is stored."""
        return self._stored.type

    def raw(self, start: int, stop: int) -> NDArray[np.uint8]:
        import numpy as np

        # A vector is one row.
        row_bytes = self.type.row_bytes(self.shape[-1] if self.shape else 1)
        data = self._checkpoint.data(self._stored)[start * row_bytes : stop * row_bytes]
        return np.frombuffer(data, np.uint8).reshape(stop - start, row_bytes)

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        from engine.floats import to_float32

        return to_float32(self.raw(start, stop).data, self.type).reshape(stop - start, -1)
