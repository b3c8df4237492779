"""Native kernels, built from native/ (C++20, nanobind).

Array arguments are never copied: one that is not aligned raises ValueError.
"""

import numpy as np
from numpy.typing import NDArray

variant: str
"""Which compilation of them this is, such as `host` or `x86_64_v3`."""

def compare_logits(
    reference: NDArray[np.float32],
    test: NDArray[np.float32],
    targets: NDArray[np.int32],
    kld: NDArray[np.float64],
    nll_reference: NDArray[np.float64],
    nll_test: NDArray[np.float64],
    same_top: NDArray[np.bool_],
    n_threads: int = 0,
) -> None:
    """Compares the next-token distributions of a test model with those of its reference.

    `reference`, `test`: [n, n_vocab] logits; `targets`: [n] the true next tokens. Written, [n] of
    each: `kld` = KL(reference || test) and `nll_*` = negative log-likelihood of the target, in
    nats; `same_top` = both rank the same token first. A logit of -inf is a token of probability 0;
    a row with NaN or +inf gives NaN. `n_threads` 0 = one for each logical core. Releases the GIL.

    Raises TypeError for another dtype, a strided or a read-only output; ValueError for shapes that
    do not match and targets outside of the vocabulary.
    """

def add_outer_products(
    rows: NDArray[np.float32],
    counts: NDArray[np.float32],
    sums: NDArray[np.float32],
    totals: NDArray[np.float64] | None,
    n_threads: int = 0,
) -> None:
    """Adds x xT of each row x times its count to `sums`, and the rows themselves to any `totals`.

    Rows [n_rows, n_cols] with a count of 0 are left out of both. `counts` are [n_rows], `sums`
    [n_cols, n_block], `totals` [n_cols].

    The columns are in blocks of `n_block`, the last of which may be smaller: sums[i, j] is that of
    column i and the column j of its block. Only what is on and right of the diagonal is whole.
    Independent of `n_threads` (0 = one for each logical core). Releases the GIL.

    Raises TypeError for another dtype, a strided or a read-only array; ValueError for shapes that
    do not match.
    """

def sum_squares(rows: NDArray[np.float32], sums: NDArray[np.float64], n_threads: int = 0) -> None:
    """Writes the sum of the squares of each row to `sums`: finite if its numbers are.

    The same bits whatever the number of threads. Raises as `add_outer_products`.
    """

def read_bandwidth(n_threads: int, n_bytes: int) -> float:
    """Bytes a second that `n_threads` threads read from `n_bytes` of main memory, at best.

    Releases the GIL. Takes about ten times as long as reading them once.
    """

def dot_bandwidth(
    dot: int, n_threads: int, n_bytes: int, n_cols: int, row_bytes: int, vector_bytes: int
) -> float:
    """The same for rows of `n_cols` weights that are multiplied with a vector on the way.

    `dot` is the address of a `ggml_vec_dot_t`; a wrong one ends the process. Raises ValueError for
    rows without bytes.
    """

def bf16_to_float(in_: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
    """Converts the [n] bits of BF16 numbers to float32; this and the next three release the GIL.

    Rounded to nearest, ties to even. A NaN stays one, what F16 cannot hold becomes infinite. Raises
    TypeError for another dtype, a strided array or a read-only output, ValueError for two lengths.
    """

def half_to_float(in_: NDArray[np.uint16], out: NDArray[np.float32]) -> None:
    """The same from the bits of F16 numbers."""

def float_to_bf16(in_: NDArray[np.float32], out: NDArray[np.uint16]) -> None:
    """The same to the bits of BF16 numbers."""

def float_to_half(in_: NDArray[np.float32], out: NDArray[np.uint16]) -> None:
    """The same to the bits of F16 numbers."""

def step_over_strings(
    buffer: bytearray, position: int, n_strings: int, max_bytes: int
) -> tuple[int, int]:
    """Steps over the strings of a GGUF header; tells where the next begins, and how many are left.

    It stops before a string whose length is not in the buffer, or greater than `max_bytes`; the
    position may lie behind the end of the buffer.
    """

def unpack_codes(
    packed: NDArray[np.uint8],
    chunk_bytes: int,
    n_bits: int,
    positions: NDArray[np.int32],
    codes: NDArray[np.uint8],
) -> None:
    """Unpacks rows of bit fields, [n, n_bytes] -> [n, n_cols].

    A row is chunks of `chunk_bytes` (8 at most); code i of a chunk begins at its bit
    `positions[i]`, counted from the lowest bit of the first byte. The last chunk may be cut.
    Releases the GIL, as the four below. Raises ValueError for a row that is too short.
    """

def split_words(
    words: NDArray[np.uint32],
    n_bits: int,
    positions: NDArray[np.int32],
    codes: NDArray[np.uint8],
) -> None:
    """Unpacks words that hold one code of each of several rows.

    [n, n_cols] -> [n * len(positions), n_cols].
    """

def transpose(source: NDArray[np.uint32], target: NDArray[np.uint32]) -> None:
    """Transposes [n, m] words to [m, n]; the rows of `source` may be a part of longer ones."""

def decode_codes(
    codes: NDArray[np.uint8],
    table: NDArray[np.float32],
    groups: NDArray[np.int32],
    scales: NDArray[np.float32],
    zeros: NDArray[np.float32] | None,
    values: NDArray[np.float32],
) -> None:
    """Computes (table[code] - zero) * scale, [n, n_cols].

    `groups`: [n_cols], the group of each column; `scales`, `zeros`: [n, n_groups], None = 0.
    """

def pack_blocks(
    codes: NDArray[np.uint8],
    offset: int,
    heads: NDArray[np.uint8],
    n_elements: int,
    n_bits: int,
    stride: int,
    head_is_last: bool,
    blocks: NDArray[np.uint8],
) -> None:
    """Writes blocks of a ggml type, [n, n_cols] -> [n, n_blocks * block_bytes].

    `offset` (0 to 255) is added to each code, of which the lowest `n_bits` (2, 4, 8) count. Byte j
    of a run of `stride` (8 or 16 for 4 bits, else 32) holds the elements j, j + stride, ...
    `heads`: [n, n_blocks * head_bytes], the scales of each block, before its codes or behind them.
    """

def fit_lattice(
    values: NDArray[np.float32], stored: str, lattice: str, blocks: NDArray[np.uint8]
) -> int:
    """Writes the blocks that hold `values` [n, n_cols] to the last bit; tells how many rows it did.

    Rounded to `stored` (F32, F16, BF16) what the blocks of the ggml type `lattice` (MXFP4, Q4_0,
    Q4_1, Q5_0, Q8_0) hold is `values`, but for the sign of a zero. It stops at the first row that
    the lattice does not hold. Releases the GIL.
    """

def factor_moment(
    moment: NDArray[np.float32],
    order: NDArray[np.int32],
    feedback: NDArray[np.float32],
    pivots: NDArray[np.float32],
    n_threads: int = 0,
) -> bool:
    """Factors moment[order, order] = F diag(D) F^T, F upper triangular with ones on its diagonal.

    `moment` [n, n] is symmetric; written: `feedback` [n, n] = F, and F^T below the diagonal;
    `pivots` [n] = D. F[i, j] is the part of the error in column i (of the order) that a later
    column j makes up for. False if the moment is not positive definite. Releases the GIL, as the
    two below.
    """

def mirror(upper: NDArray[np.float32], whole: NDArray[np.float32]) -> None:
    """Writes what is on and right of the diagonal of `upper` [n, n or more] to `whole` [n, n],
    and the same left of it.
    """

def round_rows(
    ggml_type: str,
    rows: NDArray[np.float32],
    moment: NDArray[np.float32],
    order: NDArray[np.int32],
    feedback: NDArray[np.float32],
    pivots: NDArray[np.float32],
    blocks: NDArray[np.uint8],
    errors: NDArray[np.float64],
    with_feedback: bool,
    n_sweeps: int,
    n_refits: int,
    n_threads: int = 0,
    is_checked: bool = True,
) -> None:
    """Improves `blocks` [n_rows, row_bytes], which hold `rows` [n_rows, n] as `ggml_type`.

    First the codes by error feedback, then `n_refits` + 1 times `n_sweeps` sweeps over the codes,
    with a search for better scales in between. A row changes only where its error
    (w - v) H (w - v)^T falls, H being `moment`, if that `is_checked`; `errors` [n_rows] tells it.
    Numbers must be finite.
    Raises ValueError for a type that is no scalar one and for shapes that do not fit.
    """

def round_as_ggml(
    ggml_type: str,
    rows: NDArray[np.float32],
    importance: NDArray[np.float32] | None,
    blocks: NDArray[np.uint8],
) -> bool:
    """Write `rows` [n_rows, n_cols] to `blocks` [n_rows, row_bytes], the bytes ggml would write.

    `importance` [n_cols] is its importance matrix, if there is one. False if that cannot be done
    here: for a type whose scales are not searched, or on a processor whose ggml has other bits.
    Numbers must be finite. Raises ValueError for shapes that do not fit.
    """

def multiply(
    left: NDArray[np.float32],
    right: NDArray[np.float32],
    out: NDArray[np.float32],
    n_threads: int = 0,
) -> None:
    """Computes out = left @ right, the same bits whatever the number of threads."""

def memory_breakdown(function: int, context: int) -> list[tuple[int, int, int, int]]:
    """What a llama_context takes: (buffer type, bytes of weights, of cache, of compute buffers).

    `function` is the address of `llama_get_memory_breakdown`, `context` that of the context; wrong
    ones end the process. The first of each four is the address of a ggml_backend_buffer_type.
    """

class AbortFlag:
    """Stops a running llama.cpp computation from another thread, without the interpreter.

    `callback_address` is a C function `bool (*)(void *data)`, a `ggml_abort_callback`;
    `data_address` is the `data` it wants. The flag must outlive whoever holds these addresses.
    """

    def __init__(self) -> None: ...
    def set(self) -> None: ...
    def clear(self) -> None: ...
    @property
    def is_set(self) -> bool: ...
    @property
    def callback_address(self) -> int: ...
    @property
    def data_address(self) -> int: ...
