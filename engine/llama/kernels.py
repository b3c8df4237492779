"""How fast this computer's processor goes through weights of a type, by ggml's own kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping

from engine._native import dot_bandwidth, read_bandwidth
from engine.ggml_types import GgmlType
from engine.llama.backends import cpu_function

MEASURED_BYTES = 128 << 20
N_COLS = 4096
MOST_TYPES = 3
"""Of a model, those with the most bytes; measuring one takes some 20 ms."""


class _CpuTraits(ctypes.Structure):
    """`struct ggml_type_traits_cpu` of ggml-cpu.h."""

    _fields_ = (
        ("from_float", ctypes.c_void_p),
        ("vec_dot", ctypes.c_void_p),
        ("vec_dot_type", ctypes.c_int),
        ("nrows", ctypes.c_int64),
    )


def weight_bandwidth(bytes_by_type: Mapping[GgmlType, int], n_threads: int) -> float:
    """Bytes of these weights that are read and multiplied in a second."""
    most = sorted(bytes_by_type, key=lambda t: -bytes_by_type[t])[:MOST_TYPES]
    total = sum(bytes_by_type[t] for t in most)
    seconds = sum(bytes_by_type[t] / _bandwidth(t, n_threads) for t in most)
    return total / seconds if seconds else 0.0


def _bandwidth(of: GgmlType, n_threads: int) -> float:
    get_traits = cpu_function("ggml_get_type_traits_cpu", ctypes.POINTER(_CpuTraits), ctypes.c_int)
    traits = get_traits(int(of)).contents
    if not traits.vec_dot:
        return read_bandwidth(n_threads, MEASURED_BYTES)
    return dot_bandwidth(
        traits.vec_dot,
        n_threads,
        MEASURED_BYTES,
        N_COLS,
        of.row_bytes(N_COLS),
        GgmlType(traits.vec_dot_type).row_bytes(N_COLS),
    )
