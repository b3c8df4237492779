"""The logits of llama.cpp at its most exact: F32 KV cache, no flash attention, one batch."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.jobs import finish
from engine.llama.library import library
from engine.llama.model import load_model

GGML_TYPE_F32 = 0
FLASH_ATTENTION_OFF = 0


def exact_logits(
    path: Path, tokens: Sequence[int], adapter: Path | None = None
) -> NDArray[np.float32]:
    """Return the logits after each of `tokens`, float32 [n_tokens, n_vocab].

    With the GGUF `adapter`, if there is one; it goes with its model.
    """
    c = library().c
    n = len(tokens)
    model = finish(load_model(path, n_gpu_layers=0))
    try:
        params = c.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = params.n_outputs_max = n
        params.n_threads = params.n_threads_batch = 1
        params.type_k = params.type_v = GGML_TYPE_F32
        params.flash_attn_type = FLASH_ATTENTION_OFF
        params.swa_full = True
        params.offload_kqv = False
        context = c.llama_init_from_model(model.handle, params)
        assert context, "\n".join(library().log_lines)
        try:
            if adapter:
                lora = c.llama_adapter_lora_init(model.handle, os.fsencode(adapter))
                assert lora, "\n".join(library().log_lines)
                one = (c.llama_adapter_lora_p_ctypes * 1)(lora)
                assert c.llama_set_adapters_lora(context, one, 1, (ctypes.c_float * 1)(1)) == 0
            ids, wanted = (ctypes.c_int32 * n)(*tokens), (ctypes.c_int8 * n)(*[1] * n)
            batch = c.llama_batch_get_one(ids, n)
            batch.logits = wanted
            assert c.llama_decode(context, batch) == 0
            pointer = c.llama_get_logits(context)
            view = np.ctypeslib.as_array(pointer, (n, model.vocabulary.n_tokens))
            logits: NDArray[np.float32] = view.copy()
            return logits
        finally:
            c.llama_free(context)
    finally:
        model.close()
