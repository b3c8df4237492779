"""Picks the next token with llama.cpp's own samplers.

Nothing of it is done in Python, and the logits are not copied here: between two tokens the caches
are full of weights, and the few hundred microseconds that cold Python code takes are 2 % of the
time of a small model. Narrowing the vocabulary with numpy first was slower than the full one in C.
"""

from __future__ import annotations

from collections.abc import Sequence

from engine.llama.context import Context
from engine.llama.library import library
from engine.sampling import SamplingParams


class Sampler:
    """A sampler chain made from `params`, in llama.cpp's order. `close` frees it."""

    def __init__(self, params: SamplingParams, n_vocab: int, seed: int) -> None:
        self._c = c = library().c
        self._chain = c.llama_sampler_chain_init(c.llama_sampler_chain_default_params())
        self._n_remembered = params.repeat_last_n if params.repeat_penalty != 1 else 0
        samplers = [
            c.llama_sampler_init_penalties(
                n_vocab, params.repeat_last_n, params.repeat_penalty, 0.0, 0.0
            )
        ]
        if params.is_greedy:
            samplers += [c.llama_sampler_init_greedy()]
        else:
            samplers += [
                c.llama_sampler_init_top_k(params.top_k),
                c.llama_sampler_init_top_p(params.top_p, 1),
                c.llama_sampler_init_min_p(params.min_p, 1),
                c.llama_sampler_init_temp(params.temperature),
                c.llama_sampler_init_dist(seed),
            ]
        for sampler in samplers:
            c.llama_sampler_chain_add(self._chain, sampler)

    def accept(self, tokens: Sequence[int]) -> None:
        """Count the last of `tokens`, such as the prompt's, for the repeat penalty."""
        for token in tokens[max(0, len(tokens) - self._n_remembered) :]:
            self._c.llama_sampler_accept(self._chain, token)

    def sample(self, context: Context) -> int:
        """Choose the next token from the last logits."""
        return context.sample(self._chain)

    def close(self) -> None:
        if self._chain:
            self._c.llama_sampler_free(self._chain)
            self._chain = None
