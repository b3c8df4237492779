"""What a model takes in main memory, and the context length that fits.

The sums are for dense models with flash attention, as llama.cpp allocates them (measured within
1 MiB on the CPU backend); sliding windows and recurrent layers need less, so for them they are an
upper bound. Pure: knows the header of a model, touches neither its data nor a device.
"""

from __future__ import annotations

import msgspec

from engine.fit.shape import CELLS, Shape
from engine.ggml_types import GgmlType
from engine.hardware import Cpu
from engine.quantize.write import Plan

MIB = 2**20
LONGEST_DEFAULT_N_CTX = 16_384  # a longer one only when asked: the KV cache is paid for at once
SHORTEST_N_CTX = 512

CPU_RUNTIME_BYTES = 128 * MIB  # Python, the libraries, the vocabulary

# Types that ggml's CPU kernels rearrange into a second copy when they load a model, from
# ggml_repack_get_optimal_repack_type and ggml/src/ggml-cpu/amx.
_T = GgmlType
_REPACKED = {
    "AVX2": (_T.Q4_0, _T.Q4_K, _T.IQ4_NL, _T.MXFP4),
    "AVX512": (_T.Q2_K,),
    "AMX-INT8": (_T.Q4_0, _T.Q4_1, _T.Q8_0, _T.Q4_K, _T.Q5_K, _T.Q6_K, _T.IQ4_XS),
    "DOTPROD": (_T.Q4_0, _T.Q4_K, _T.Q5_K, _T.Q6_K, _T.Q8_0, _T.IQ4_NL, _T.MXFP4),
}


class Memory(msgspec.Struct, frozen=True):
    """What a running model takes, in bytes.

    `repacked_bytes` is the second copy that the CPU's kernels make of some tensors. It is no part
    of the total: the file's pages under such a tensor are not read again, and the system takes
    them back at no cost when memory is short.
    """

    weights_bytes: int
    kv_cache_bytes: int
    compute_bytes: int
    runtime_bytes: int
    repacked_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        """What must be there."""
        return self.weights_bytes + self.kv_cache_bytes + self.compute_bytes + self.runtime_bytes

    @property
    def most_bytes(self) -> int:
        """What it may be seen to take while there is plenty: the file's pages and their copies."""
        return self.total_bytes + self.repacked_bytes


def predict(
    shape: Shape,
    weights_bytes: int,
    n_ctx: int,
    *,
    repacked_bytes: int = 0,
    runtime_bytes: int = CPU_RUNTIME_BYTES,
) -> Memory:
    """Predict what a model with `weights_bytes` of tensors takes with a context of `n_ctx`."""
    return Memory(
        weights_bytes=weights_bytes,
        kv_cache_bytes=shape.kv_cache_bytes(n_ctx),
        compute_bytes=shape.compute_bytes(n_ctx),
        runtime_bytes=runtime_bytes,
        repacked_bytes=repacked_bytes,
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


def repacked_bytes(of: Plan, cpu: Cpu) -> int:
    """The bytes of the tensors that ggml keeps a second copy of on `cpu`."""
    types = {t for name in cpu.instruction_sets for t in _REPACKED.get(name, ())}
    return sum(
        tensor.n_bytes
        for tensor in of.tensors
        if tensor.type in types
        and len(tensor.shape) > 1
        and tensor.shape[1] % 8 == 0
        and not tensor.name.endswith("token_embd.weight")  # rows are looked up, not multiplied
    )
