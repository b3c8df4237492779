"""The stored tensors of a packed checkpoint, handed out once: what is left over are plain weights.

Shapes and dtypes are checked here, so that whoever unpacks can rely on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.checkpoint import COMPLETE_HINT, FLOAT_TYPES, Checkpoint, StoredTensor
from engine.convert.packed.tables import E4M3, E8M0
from engine.errors import CorruptFile
from engine.floats import to_float32

FLOATS = ("F16", "BF16", "F32")
WORDS = ("I32", "U32")

_NUMPY = {
    "U8": "u1", "I8": "i1", "F8_E4M3": "u1", "F8_E5M2": "u1", "F8_E8M0": "u1",
    "I32": "<u4", "U32": "<u4", "I64": "<i8", "F16": "<f2", "BF16": "<u2", "F32": "<f4",
}  # fmt: skip


class Shelf:
    """The tensors of `checkpoint`; `taken` are the names of those that were handed out.

    `believes_config`: what it says of the numbers in tensors need not be looked up there.
    """

    def __init__(self, checkpoint: Checkpoint, *, believes_config: bool = False) -> None:
        self.name = checkpoint.name
        self.believes_config = believes_config
        self.taken: set[str] = set()
        self._checkpoint = checkpoint

    def bases(self, *ends: str) -> Iterator[str]:
        """The names, without their end, of tensors that end in one of `ends`."""
        for name in self._checkpoint.tensors:
            for end in ends:
                if name.endswith(end):
                    yield name[: -len(end)]
                    break

    def named(self, dtypes: tuple[str, ...]) -> Iterator[str]:
        """The names of tensors of one of `dtypes` that nobody has taken yet."""
        for name, tensor in self._checkpoint.tensors.items():
            if tensor.dtype in dtypes and name not in self.taken:
                yield name

    def has(self, name: str) -> bool:
        return name in self._checkpoint.tensors

    def look(self, name: str) -> StoredTensor:
        """A tensor that is there, without taking it."""
        return self._checkpoint.tensors[name]

    def take(
        self, name: str, dtypes: tuple[str, ...], shape: tuple[int | None, ...] | None = None
    ) -> StoredTensor:
        """The tensor `name`, of one of `dtypes` and of `shape`, where None fits anything.

        Raises CorruptFile for one that is missing or different.
        """
        tensor = self._checkpoint.tensors.get(name)
        if tensor is None:
            raise CorruptFile(
                f"{self.name} is incomplete: it has no {name[:120]}.", hint=COMPLETE_HINT
            )
        if tensor.dtype not in dtypes:
            raise misfit(tensor, f"is stored as {tensor.dtype}, not as {' or '.join(dtypes)}")
        if shape is not None and not _fits(tensor.shape, shape):
            wanted = ", ".join("any" if n is None else str(n) for n in shape)
            raise misfit(tensor, f"has the shape {list(tensor.shape)}, not [{wanted}]")
        if 0 in tensor.shape:
            raise misfit(tensor, "is empty")
        self.taken.add(name)
        return tensor

    def drop(self, *ends: str) -> None:
        """Take all tensors whose name ends in one of `ends`: they are not needed."""
        self.taken.update(name for name in self._checkpoint.tensors if name.endswith(ends))

    def drop_scales_of_activations(self) -> None:
        """What was computed with while the checkpoint was packed; llama.cpp has its own ways."""
        self.drop(
            ".input_scale", ".input_scale_ub", ".activation_scale", "_activation_scale",
            ".qscale_act", ".output_scale", ".q_scale", ".k_scale", ".v_scale",
            ".input_zero_point", ".output_zero_point", ".input_global_scale",
        )  # fmt: skip

    def array(self, tensor: StoredTensor) -> NDArray[Any]:
        """The numbers as they are stored, a read-only view; FP8 and BF16 as bits, I32 unsigned."""
        stored = np.frombuffer(self._checkpoint.data(tensor), _NUMPY[tensor.dtype])
        return stored.reshape(tensor.shape)

    def floats(self, tensor: StoredTensor, part: NDArray[Any] | None = None) -> NDArray[np.float32]:
        """All numbers of a tensor, or those of a `part` of its array, as float32 of their shape.

        U8 are exponents (E8M0).
        """
        stored = np.ascontiguousarray(self.array(tensor) if part is None else part)
        if tensor.dtype in FLOATS:
            flat = to_float32(stored.reshape(-1).view(np.uint8).data, FLOAT_TYPES[tensor.dtype])
            return flat.reshape(stored.shape)
        table = E4M3 if tensor.dtype == "F8_E4M3" else E8M0
        values: NDArray[np.float32] = table[stored]
        return values

    def groups(self, tensor: StoredTensor, n_groups: int) -> NDArray[np.int32]:
        """The group of each column; raises CorruptFile for one that is not there."""
        groups = np.require(self.array(tensor).view(np.int32), requirements="A")
        if (groups < 0).any() or (groups >= n_groups).any():
            raise misfit(tensor, f"names groups that are not there: there are {n_groups}")
        return groups

    def is_filled_with(self, tensor: StoredTensor, code: int, n_bits: int) -> bool:
        """Whether a matrix of words holds nothing but `code`, packed along its rows."""
        words = sum(code << n_bits * i for i in range(32)).to_bytes(4 * n_bits, "little")
        stored = self.array(tensor)
        return bool((stored == np.resize(np.frombuffer(words, "<u4"), stored.shape[1])).all())

    def columns(self, tensor: StoredTensor, start: int, stop: int) -> NDArray[np.float32]:
        """Columns `start` to `stop` of a matrix of floats, float32 [n_rows, n]."""
        return self.floats(tensor, self.array(tensor)[:, start:stop])

    def scalar(self, tensor: StoredTensor) -> float:
        """The only number of a tensor; raises CorruptFile for more, or for none that is finite."""
        values = self.floats(tensor).reshape(-1)
        if len(values) != 1 or not np.isfinite(values[0]):
            raise misfit(tensor, "is no number")
        return float(values[0])


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        want in (None, have) for have, want in zip(shape, wanted, strict=True)
    )


def misfit(tensor: StoredTensor, why: str) -> CorruptFile:
    """The refusal of a tensor that is not what the others and the config ask for."""
    return CorruptFile(f"The tensor {tensor.name[:120]} {why}.", hint=COMPLETE_HINT)
