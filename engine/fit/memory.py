"""What a model takes in main memory, and the context length that fits.

The sums are for dense models with flash attention, as llama.cpp allocates them (measured within
1 MiB on the CPU backend); sliding windows and recurrent layers need less, so for them they are an
upper bound. Pure: knows the header of a model, touches neither its data nor a device.
"""

from __future__ import annotations

import msgspec

from engine.fit.shape import CELLS, Shape

MIB = 2**20
LONGEST_DEFAULT_N_CTX = 16_384  # a longer one only when asked: the KV cache is paid for at once
SHORTEST_N_CTX = 512

CPU_RUNTIME_BYTES = 128 * MIB  # Python, the libraries, the vocabulary


class Memory(msgspec.Struct, frozen=True):
    """What a running model takes, in bytes."""

    weights_bytes: int
    kv_cache_bytes: int
    compute_bytes: int
    runtime_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_cache_bytes + self.compute_bytes + self.runtime_bytes


def predict(
    shape: Shape,
    weights_bytes: int,
    n_ctx: int,
    *,
    runtime_bytes: int = CPU_RUNTIME_BYTES,
) -> Memory:
    """Predict what a model with `weights_bytes` of tensors takes with a context of `n_ctx`."""
    return Memory(
        weights_bytes=weights_bytes,
        kv_cache_bytes=shape.kv_cache_bytes(n_ctx),
        compute_bytes=shape.compute_bytes(n_ctx),
        runtime_bytes=runtime_bytes,
    )


def usable_bytes(available_bytes: int) -> int:
    """What a model may take of the free memory: all but 1 GiB or a tenth, whichever is more.

    Of very little memory no more than a quarter is held back.
    """
    return available_bytes - max(available_bytes // 10, min(2**30, available_bytes // 4))


def largest_n_params(available_bytes: int) -> int:
    """About how many parameters fit at Q4_K_M, with a gigabyte for context and buffers."""
    return max(0, usable_bytes(available_bytes) - 10**9) * 8 * 10 // 49


def choose_n_ctx(
    shape: Shape, weights_bytes: int, available_bytes: int, limit: int = LONGEST_DEFAULT_N_CTX
) -> int:
    """Choose the longest context that fits, up to `limit` and what the model was trained for.

    A multiple of 256. When none fits it is the shortest one that is of use, not a promise.
    """
    longest = min(limit, shape.n_ctx_train or limit)
    if longest <= SHORTEST_N_CTX:
        return longest
    usable = usable_bytes(available_bytes)
    too_long = longest // CELLS + 1
    fitting = SHORTEST_N_CTX // CELLS
    while too_long - fitting > 1:  # need grows with the context: bisect
        middle = (fitting + too_long) // 2
        if predict(shape, weights_bytes, middle * CELLS).total_bytes <= usable:
            fitting = middle
        else:
            too_long = middle
    return fitting * CELLS
