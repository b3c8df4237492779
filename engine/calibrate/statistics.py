"""What is known of the inputs of a model's matrices: our own files, and llama.cpp's imatrix files.

Read from disk as it is asked for. docs/calibration.md has the layout of the file.
"""

from __future__ import annotations

import math
from os import PathLike
from pathlib import PurePath
from typing import TYPE_CHECKING, Self

from engine.calibrate.inputs import DATASETS, INPUTS, KEY, MODEL, N_TOKENS, TENSORS
from engine.errors import CorruptFile, FormatError
from engine.ggml_types import GgmlType
from engine.gguf import GgufFile, TensorInfo
from engine.gguf_values import Array

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


EMBEDDING = "token_embd.weight"
_SAMPLED = "in_sample", "in_experts"
FEWEST_HELD_OUT = 16
"""Rows with which an expert is judged by itself."""


class Statistics:
    """Statistics of what flows into each matrix, by the name of its tensor.

    `n_mat` is the number of matrices in a tensor: experts, mostly 1. An expert that no token went
    to has what all experts together have; see `second_moment` for those that few went to.
    """

    def __init__(self, file: GgufFile) -> None:
        self._file = file
        self._tensors = {tensor.name: tensor for tensor in file.tensors}
        self._input_of = dict(zip(self._names(TENSORS), self._names(INPUTS), strict=False))
        self._pooled: tuple[str, list[NDArray[np.float32]]] | None = None

    @classmethod
    def open(cls, path: str | PathLike[str]) -> Self:
        """Open the file of `Calibrate`, or one of llama-imatrix: then only importance is known.

        Raises NotFound, StorageError, CorruptFile, and FormatError for another kind of file.
        """
        file = GgufFile.open(path)
        if file.get("general.type") != "imatrix":
            raise FormatError(
                f"{file.path.name} is no importance matrix.",
                hint="Make one with snug-engine calibrate, or with llama-imatrix.",
            )
        return cls(file)

    @property
    def key(self) -> str:
        """What the file was made from, as `Calibrate` names it; empty for llama.cpp's."""
        return str(self._file.get(KEY, ""))

    @property
    def model(self) -> str:
        """The `digest_of` the model that they are of; empty if not told."""
        return str(self._file.get(MODEL, ""))

    @property
    def n_tokens_read(self) -> int:
        """How many tokens the model has read, those held out included; 0 if not told."""
        return int(self._file.get(N_TOKENS, 0))

    @property
    def datasets(self) -> tuple[str, ...]:
        """The names of the texts that were read, as far as they are told."""
        return tuple(PurePath(name).name for name in self._names(DATASETS))

    @property
    def has_second_moments(self) -> bool:
        return any(name.endswith(".in_outer") for name in self._tensors)

    @property
    def tensors(self) -> tuple[str, ...]:
        """All tensors with statistics, in the order of the file."""
        ending = ".in_sum2"
        return tuple(name.removesuffix(ending) for name in self._tensors if name.endswith(ending))

    def shared_input(self, tensor: str) -> str:
        """The tensor whose input is the same one, the first of them; maybe `tensor` itself."""
        return str(self._input_of.get(tensor, tensor))

    def n_tokens(self, tensor: str) -> NDArray[np.int64]:
        """Of how many rows the statistics are, int64 [n_mat]; [0] for a tensor never seen."""
        import numpy as np

        counts = self._read(f"{tensor}.counts")
        if counts is None:
            return np.zeros(0, np.int64)
        counts = counts.reshape(-1)
        if not (np.isfinite(counts).all() and (counts >= 0).all()):
            raise self._damaged(tensor)
        return np.rint(counts).astype(np.int64)

    def importance(self, tensor: str) -> NDArray[np.float32] | None:
        """The mean square of each column, float32 [n_mat, n_cols]; None if never seen."""
        return self._mean_of(tensor, "in_sum2")

    def mean(self, tensor: str) -> NDArray[np.float32] | None:
        """The mean of each column, float32 [n_mat, n_cols]; None if not known."""
        return self._mean_of(tensor, "in_sum")

    def second_moment(self, tensor: str, i_matrix: int = 0) -> NDArray[np.float32] | None:
        """E[x xT], symmetric, float32 [n_cols, n_cols]; None if not known.

        Zero outside of its blocks where only these were kept: `second_moment_blocks` has them
        without the zeros. An expert that fewer tokens went to than its input has columns gets the
        weighted mean of its own and that of all experts: n_tokens / n_cols of the former.
        """
        import numpy as np

        blocks = self.second_moment_blocks(tensor, i_matrix)
        if blocks is None or len(blocks) == 1:
            return None if blocks is None else blocks[0]
        n_cols = sum(len(block) for block in blocks)
        whole = np.zeros((n_cols, n_cols), np.float32)
        first = 0
        for block in blocks:
            last = first + len(block)
            whole[first:last, first:last] = block
            first = last
        return whole

    def second_moment_blocks(
        self, tensor: str, i_matrix: int = 0
    ) -> list[NDArray[np.float32]] | None:
        """The blocks on the diagonal of the second moment, float32 [n, n], from left to right.

        Mostly one block; of an input too large several, of as many columns each but the last.
        """
        import numpy as np

        name = self.shared_input(tensor)
        info = self._tensors.get(f"{name}.in_outer")
        if info is None:
            return None
        counts = self.n_tokens(tensor)
        self._require(info, (info.shape[0], info.shape[1], len(counts)))
        n_cols, n = info.shape[1], int(counts[i_matrix])
        own = self._outer(info, i_matrix)
        for block in own:
            np.divide(block, np.float32(max(n, 1)), out=block)
        if len(counts) == 1 or n >= n_cols:
            return own
        pooled = self._pooled_blocks(name, info, int(counts.sum()))
        share = np.float32(n / n_cols)
        return [share * a + (1 - share) * b for a, b in zip(own, pooled, strict=True)]

    def moment_tokens(self, tensor: str, i_matrix: int = 0) -> float:
        """How many tokens the second moment is as good as: an expert's own, and those lent to it.

        The variance of a mean is that of one token times the sum of the squares of their weights,
        and an expert's own count twice. 0 for a tensor never seen.
        """
        counts = self.n_tokens(tensor)
        if not counts.sum():
            return 0.0
        n, n_cols = float(counts[i_matrix]), self._tensors[f"{tensor}.in_sum2"].n_cols
        if len(counts) == 1 or n >= n_cols:
            return n
        share = n / n_cols
        return 1 / (share / n_cols + (1 - share**2) / float(counts.sum()))

    def held_out(self, tensor: str, i_matrix: int = 0) -> NDArray[np.float32] | None:
        """Rows that are in none of the other statistics, float32 [n_sample, n_cols].

        Of an expert those that were routed to it, or those of all experts if they are too few to
        tell anything. None if not known.
        """
        name = self.shared_input(tensor)
        rows = self._read(f"{name}.in_sample")
        if rows is None:
            return None
        experts = self._read(f"{name}.in_experts")
        sample: NDArray[np.float32]
        if experts is not None:
            own = rows[(experts == i_matrix).any(axis=1)]
            sample = own if len(own) >= FEWEST_HELD_OUT else rows
        else:
            sample = rows.reshape(-1, *rows.shape[-2:])[i_matrix]
        return sample

    def evenly(self, tensor: str) -> float:
        """What the change of a weight counts, squared, beside that of the output; mostly nothing.

        An embedding that something flows into is the output matrix too. Its rows are looked up as
        well, where no direction is known to count less than others: as much as the columns of the
        output in the mean. What that is worth: docs/quantization.md, Rounding.
        """
        importance = self.importance(tensor) if tensor == EMBEDDING else None
        return 0.0 if importance is None else float(importance.mean())

    def few_tokens(self) -> dict[str, tuple[int, ...]]:
        """The experts that fewer tokens went to than their input has columns, by tensor."""
        found = {}
        for tensor in self.tensors:
            counts = self.n_tokens(tensor)
            n_cols = self._tensors[f"{tensor}.in_sum2"].n_cols
            if len(counts) > 1 and (counts < n_cols).any():
                found[tensor] = tuple(int(i) for i in (counts < n_cols).nonzero()[0])
        return found

    def require_sound(self, tensor: str) -> tuple[int, int]:
        """Return (n_mat, n_cols) of the inputs of `tensor`, one of `tensors`.

        Raises CorruptFile if what is told of them does not fit together, or is no number; the
        second moments are only looked at for their shapes.
        """
        import numpy as np

        sums = self._tensors[f"{tensor}.in_sum2"]
        n_matrices, n_cols = len(self.n_tokens(tensor)), sums.n_cols
        self._require(sums, (n_cols, n_matrices))
        importance = self.importance(tensor)
        if importance is None or not (np.isfinite(importance).all() and importance.min() >= 0):
            raise self._damaged(tensor)
        name = self.shared_input(tensor)
        if outer := self._tensors.get(f"{name}.in_outer"):
            self._require(outer, (min(outer.n_cols, n_cols), n_cols, n_matrices))
        sample, experts = (self._tensors.get(f"{name}.{what}") for what in _SAMPLED)
        if sample and experts:
            self._require(sample, (n_cols, experts.n_rows))
            self._require(experts, (experts.n_cols, experts.n_rows))
        elif sample:
            n_sample = sample.shape[1] if len(sample.shape) > 1 else 1
            self._require(sample, (n_cols, n_sample, n_matrices))
        return n_matrices, n_cols

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _names(self, key: str) -> list[str]:
        """The words of an array in the metadata; none for what is no array."""
        found = self._file.get(key)
        return list(map(str, found)) if isinstance(found, Array) else []

    def _mean_of(self, tensor: str, what: str) -> NDArray[np.float32] | None:
        import numpy as np

        sums = self._read(f"{tensor}.{what}")
        if sums is None:
            return None
        counts = self.n_tokens(tensor)
        if len(counts) == 0 or sums.size % len(counts) or counts.sum() == 0:
            raise self._damaged(tensor)
        sums = sums.reshape(len(counts), -1)
        means = sums / np.maximum(counts, 1).astype(np.float32)[:, None]
        means[counts == 0] = sums.sum(axis=0) / np.float32(counts.sum())
        return means

    def _pooled_blocks(
        self, name: str, info: TensorInfo, n_tokens: int
    ) -> list[NDArray[np.float32]]:
        """The second moment of the rows of all experts; kept until another input is asked for."""
        import numpy as np

        if self._pooled is None or self._pooled[0] != name:
            total = self._outer(info, 0)
            for matrix in range(1, info.shape[2]):
                for block, more in zip(total, self._outer(info, matrix), strict=True):
                    np.add(block, more, out=block)
            self._pooled = name, [sums / np.float32(max(n_tokens, 1)) for sums in total]
        return self._pooled[1]

    def _outer(self, info: TensorInfo, i_matrix: int) -> list[NDArray[np.float32]]:
        """The sums of one matrix, block by block, made symmetric."""
        import numpy as np

        from engine._native import mirror

        n_block, n_cols = info.shape[0], info.shape[1]
        rows = self._file.rows(info, i_matrix * n_cols, (i_matrix + 1) * n_cols)
        found = []
        for first in range(0, n_cols, n_block):
            upper = rows[first : first + n_block]  # its last columns are unused in the last block
            whole = np.empty((len(upper), len(upper)), np.float32)
            mirror(upper, whole)
            found.append(whole)
        self._file.forget()
        return found

    def _read(self, name: str) -> NDArray[np.float32] | None:
        """A tensor of the file, float32 with the outer dimensions first; None if it has none."""
        info = self._tensors.get(name)
        if info is None:
            return None
        if info.type is not GgmlType.F32:
            raise self._damaged(name)
        return self._file.rows(info, 0, info.n_rows).reshape(info.shape[::-1])

    def _require(self, info: TensorInfo, shape: tuple[int, ...]) -> None:
        padded = info.shape + (1,) * (len(shape) - len(info.shape))
        if padded != shape or info.type is not GgmlType.F32 or math.prod(shape) == 0:
            raise self._damaged(info.name)

    def _damaged(self, what: str) -> CorruptFile:
        return CorruptFile(
            f"{self._file.path.name} is damaged: its figures for {what} do not fit together.",
            hint="Make it again with snug-engine calibrate.",
        )
