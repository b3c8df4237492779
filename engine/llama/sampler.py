"""Picks the next token: llama.cpp's samplers, on the few tokens that can win.

llama.cpp's own `llama_sampler_sample` copies the whole vocabulary (12 bytes a token) and sorts it,
which costs a few per cent of the time of a small model. With top-k the rest cannot win, so only
what may be among the k best is handed to the same samplers; the choice is the same.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from engine.errors import InferenceError
from engine.llama.context import Context
from engine.llama.library import library
from engine.sampling import SamplingParams

_COLUMNS = 1024
_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Sampler:
    """A sampler chain of llama.cpp made from `params`. `close` frees it."""

    def __init__(self, params: SamplingParams, n_vocab: int, seed: int) -> None:
        self._c = c = library().c
        has_penalty = params.repeat_penalty != 1.0 and params.repeat_last_n > 0
        self._chain = c.llama_sampler_chain_init(c.llama_sampler_chain_default_params())

        def add(sampler: object) -> None:
            c.llama_sampler_chain_add(self._chain, sampler)

        if has_penalty:
            add(
                c.llama_sampler_init_penalties(
                    n_vocab, params.repeat_last_n, params.repeat_penalty, 0.0, 0.0
                )
            )
        if params.is_greedy:
            add(c.llama_sampler_init_greedy())
        else:
            add(c.llama_sampler_init_top_k(params.top_k))
            add(c.llama_sampler_init_top_p(params.top_p, 1))
            add(c.llama_sampler_init_min_p(params.min_p, 1))
            add(c.llama_sampler_init_temp(params.temperature))
            add(c.llama_sampler_init_dist(seed))
        self._n_best = 1 if params.is_greedy else params.top_k
        if has_penalty:
            # A penalty pushes down at most that many of the best, whose places others take.
            self._n_best += params.repeat_last_n if self._n_best else 0
        # A penalty below 1 is a reward, and then anything can win.
        self._is_bounded = 0 < self._n_best <= min(n_vocab // 4, _COLUMNS // 2) and (
            not has_penalty or params.repeat_penalty > 1
        )
        self._n_columns = min(n_vocab, _COLUMNS)
        self._candidates = np.zeros(n_vocab if self._is_bounded else 0, dtype=_TOKEN_DATA)
        self._array = c.llama_token_data_array()
        self._data = self._candidates.ctypes.data_as(ctypes.POINTER(c.llama_token_data))

    def accept(self, tokens: Sequence[int]) -> None:
        """Count `tokens`, such as the prompt's, for the repeat penalty."""
        for token in tokens:
            self._c.llama_sampler_accept(self._chain, token)

    def sample(self, context: Context) -> int:
        """Choose the next token from the last logits; raises InferenceError if they are NaN."""
        logits = context.logits()
        if not self._is_bounded:
            if not np.isfinite(logits.max()):
                raise _no_numbers()
            return context.sample(self._chain)
        ids = best(logits, self._n_best, self._n_columns)
        n = len(ids)
        if n == 0:
            raise _no_numbers()
        candidates = self._candidates[:n]
        candidates["id"] = ids
        candidates["logit"] = logits[ids]
        array = self._array
        array.data, array.size, array.selected, array.sorted = self._data, n, -1, False
        self._c.llama_sampler_apply(self._chain, ctypes.byref(array))
        token: int = array.data[array.selected].id
        self._c.llama_sampler_accept(self._chain, token)
        return token

    def close(self) -> None:
        if self._chain:
            self._c.llama_sampler_free(self._chain)
            self._chain = None


def best(logits: NDArray[np.float32], n_best: int, n_columns: int) -> NDArray[np.intp]:
    """Return the ids of the `n_best` greatest of `logits` and a few more, in order; none for NaN.

    float32 [n_vocab], `n_best` <= `n_columns` <= n_vocab. Seen as rows of `n_columns`, the n-th
    greatest maximum of a column is no more than the n-th greatest of all, because n columns hold
    such a value: two quick passes instead of sorting.
    """
    n_rows = len(logits) // n_columns
    maxima = logits[: n_rows * n_columns].reshape(n_rows, n_columns).max(axis=0)
    if n_best == 1:
        bound = max(maxima.max(), logits[n_rows * n_columns :].max(initial=-np.inf))
    else:
        bound = np.partition(maxima, n_columns - n_best)[n_columns - n_best]
    return np.flatnonzero(logits >= bound)


def _no_numbers() -> InferenceError:
    return InferenceError(
        "The model computed something that is not a number.",
        hint="Its file is damaged or was shrunk too far: choose another one.",
    )
