"""The distinct inputs of a model's matrices, and the file that their statistics fill.

The file is a GGUF that llama.cpp reads as an importance matrix: docs/calibration.md has its layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from engine.ggml_types import GgmlType
from engine.gguf_values import TensorInfo, Value, ValueType

MOST_MOMENT_BYTES = 256 << 20
"""What the second moment of one input may take; of a larger one only blocks are kept."""
SMALLEST_BLOCK = 256
MOST_IN_MEMORY = 256 << 20
"""What all second moments may take where they are added to chunk by chunk."""
MOST_TOKENS = 4096
"""That are read at once for larger ones: the disk is read and written once for all of them."""
MOST_LOGIT_BYTES = 512 << 20
"""What their logits may take, which llama.cpp computes along the way."""
MOST_LOGIT_BYTES_LARGE = 1 << 30
MOST_LOGIT_SHARE = 12
"""Or that part of what the second moments take, up to a gigabyte. llama.cpp has them twice."""
MOST_CACHE_BYTES = 512 << 20
"""What llama.cpp's cache of their keys and values may take."""

DATASETS = "imatrix.datasets"
KEY = "snug.calibration.key"
MODEL = "snug.calibration.model"
TENSORS = "snug.calibration.tensors"
INPUTS = "snug.calibration.inputs"
N_TOKENS = "snug.calibration.n_tokens"


class Input(msgspec.Struct, frozen=True):
    """What the matrices of `tensors` are multiplied with; the first of them names it.

    Rows of `n_cols` numbers, `rows_per_token` of them for each of `n_matrices`. Where it
    `is_routed` (to experts), each row goes to `n_used` matrices only.
    """

    tensors: tuple[str, ...]
    n_cols: int
    n_matrices: int
    rows_per_token: int
    is_routed: bool = False
    n_used: int = 0

    @property
    def name(self) -> str:
        return self.tensors[0]

    @property
    def n_block(self) -> int:
        """Columns in a block: all of them, or a power of two with which the limit is kept."""
        most = MOST_MOMENT_BYTES // (4 * self.n_matrices * self.n_cols)
        if self.n_cols <= most:
            return self.n_cols
        return min(self.n_cols, max(SMALLEST_BLOCK, 1 << (most.bit_length() - 1)))

    def layout(self, n_held_out: int) -> list[TensorInfo]:
        """The tensors of the file that belong to this input, of `n_held_out` tokens held out."""
        n_cols, n_matrices = self.n_cols, self.n_matrices
        found = []
        for tensor in self.tensors:
            found += [
                _info(f"{tensor}.in_sum2", n_cols, n_matrices),
                _info(f"{tensor}.counts", 1, n_matrices),
                _info(f"{tensor}.in_sum", n_cols, n_matrices),
            ]
        found.append(_info(f"{self.name}.in_outer", self.n_block, n_cols, n_matrices))
        n_sample = n_held_out * self.rows_per_token
        if n_sample and self.is_routed:
            found.append(_info(f"{self.name}.in_sample", n_cols, n_sample))
            found.append(_info(f"{self.name}.in_experts", self.n_used, n_sample))
        elif n_sample:
            found.append(_info(f"{self.name}.in_sample", n_cols, n_sample, n_matrices))
        return found


def describe(
    inputs: Sequence[Input],
    *,
    key: str,
    datasets: Sequence[str],
    n_chunks: int,
    n_ctx: int,
    model: str = "",
) -> Mapping[str, Value]:
    """The metadata of the file; `key` is what it was made from, `model` its `digest_of`."""
    shared = [(tensor, one.name) for one in inputs for tensor in one.tensors]
    return {
        "general.type": Value.string("imatrix"),
        DATASETS: Value.array(ValueType.STRING, datasets),
        "imatrix.chunk_count": Value.u32(n_chunks),
        "imatrix.chunk_size": Value.u32(n_ctx),
        KEY: Value.string(key),
        MODEL: Value.string(model),
        N_TOKENS: Value.u32(n_chunks * n_ctx),
        TENSORS: Value.array(ValueType.STRING, [tensor for tensor, _ in shared]),
        INPUTS: Value.array(ValueType.STRING, [name for _, name in shared]),
    }


def together(
    inputs: Sequence[Input], n_ctx: int, n_chunks: int, n_vocab: int, cache_bytes: int
) -> int:
    """How many of `n_chunks` chunks of `n_ctx` tokens, whose cache takes `cache_bytes`, at once."""
    n_bytes = sum(4 * one.n_matrices * one.n_cols * one.n_block for one in inputs)
    if n_bytes <= MOST_IN_MEMORY:
        return 1
    share = min(MOST_LOGIT_BYTES_LARGE, n_bytes // MOST_LOGIT_SHARE)
    most_logit_bytes = max(MOST_LOGIT_BYTES, share)
    n_tokens = min(MOST_TOKENS, most_logit_bytes // (4 * n_vocab))
    return max(1, min(n_chunks, n_tokens // n_ctx, MOST_CACHE_BYTES // max(1, cache_bytes)))


def held_out_tokens(n_tokens: int, n_wanted: int) -> list[int]:
    """Which of `n_tokens` are held out: `n_wanted`, spread over all, an eighth of them at most.

    One in each of as many equal parts, at places that follow the golden ratio: so each place within
    a chunk, the first one too, has its share.
    """
    n = min(n_wanted, n_tokens // 8)
    found = []
    for part in range(n):
        start, stop = part * n_tokens // n, (part + 1) * n_tokens // n
        found.append(start + part * 40503 % 65536 * (stop - start) // 65536)
    return found


def _info(name: str, *shape: int) -> TensorInfo:
    return TensorInfo(name, shape, GgmlType.F32)
