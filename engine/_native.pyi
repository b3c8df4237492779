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
