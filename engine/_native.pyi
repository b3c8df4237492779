"""Native kernels, built from native/ (C++20, nanobind). Array arguments are never copied."""

import numpy as np
from numpy.typing import NDArray

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
