"""Keeps the experts of some layers in main memory while the rest goes to a graphics card.

Most tokens need few of the experts, so that these cost the least speed there. Source: the option
--n-cpu-moe, llm_add_n_cpu_ffn_overrides in llama.cpp/common/common.h.
"""

from __future__ import annotations

import ctypes
from typing import Any

from engine.llama.library import library

_PATTERN = r"blk\.%d\.ffn_(up|down|gate|gate_up)_(ch|)exps"


class _Override(ctypes.Structure):
    """`struct llama_model_tensor_buft_override` of llama.h."""

    _fields_ = (("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p))


def keep_experts(params: Any, n_layers: int) -> Any:
    """Ask it of llama_model_params for the first `n_layers`.

    Returns what has to live until the model is loaded.
    """
    if n_layers == 0:
        return None
    main_memory = library().function("ggml_backend_cpu_buffer_type", ctypes.c_void_p)()
    overrides = (_Override * (n_layers + 1))()  # the last one stays empty: the end of the list
    for layer in range(n_layers):
        overrides[layer] = _Override((_PATTERN % layer).encode(), main_memory)
    params.tensor_buft_overrides = ctypes.cast(overrides, ctypes.c_void_p)
    return overrides
