"""A model loaded to talk with: reads what is new in a conversation and writes the answer."""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator
from pathlib import Path

import msgspec

from engine.chat import ChatTemplate, plain_text
from engine.errors import ContextOverflow, InferenceError
from engine.inference import Answer, FinishReason, Generate, LoadSettings, ModelInfo
from engine.inspect import describe
from engine.jobs import Piece, Progress, Step
from engine.llama.context import Context
from engine.llama.library import library
from engine.llama.loading import load_to_fit
from engine.llama.model import Model, StreamDecoder
from engine.llama.sampler import Sampler
from engine.llama.threads import ThreadCount

PIECE_S = 0.05
"""How long text gathers before it is sent: a screen shows no more, and each piece wakes readers
on cores that compute."""


class _Written(msgspec.Struct, frozen=True):
    """What was written: `n_decoded` tokens were read again in `seconds` to go on writing."""

    text: str
    n_tokens: int
    n_decoded: int
    finish_reason: FinishReason
    first_token_s: float
    seconds: float


class Session:
    """One loaded model and the conversation in its KV cache.

    For one thread, except `interrupt`. `close` frees the memory.
    """

    def __init__(
        self, model: Model, context: Context, info: ModelInfo, threads: ThreadCount | None
    ) -> None:
        """Computes with the context's own number of threads unless `threads` leads it."""
        self.info = info
        self._model = model
        self._context = context
        self._template: ChatTemplate | None = None
        self._threads = threads

    @staticmethod
    def load(path: str | Path, settings: LoadSettings) -> Generator[Step, None, Session]:
        """Load a model with a context that fits this computer.

        Raises as `load_to_fit`.
        """
        started = time.monotonic()
        summary = describe(path)
        loaded = yield from load_to_fit(path, settings)
        model, context = loaded.model, loaded.context
        info = ModelInfo(
            path=str(model.path),
            name=summary.name,
            architecture=summary.architecture,
            type=summary.type,
            n_params=summary.n_params,
            size_bytes=summary.size_bytes,
            n_ctx=context.n_ctx,
            n_ctx_train=summary.n_ctx_train,
            n_vocab=model.vocabulary.n_tokens,
            has_chat_template=model.chat_template is not None,
            n_threads=context.n_threads,
            device=loaded.device,
            load_seconds=time.monotonic() - started,
            predicted_bytes=loaded.predicted_bytes,
            taken=loaded.taken,
            notice=library().notice,
        )
        threads = None if settings.n_threads else ThreadCount(context.n_threads)
        return Session(model, context, info, threads)

    def interrupt(self) -> None:
        """Stop the answer that is being written, from any thread: its generator yields at once."""
        self._context.abort.set()

    def close(self) -> None:
        self._context.close()
        self._model.close()

    def generate(self, request: Generate) -> Generator[Step, None, Answer]:
        """Answer `request`; what the KV cache still holds of its beginning is not read again.

        Raises ContextOverflow, TemplateError, InferenceError. However it ends, the cache holds
        exactly the tokens that it says it holds.
        """
        context = self._context
        context.abort.clear()
        prompt = self._prompt_tokens(request)
        started = time.perf_counter()
        n_reused = context.keep_prefix(prompt)
        is_read = yield from self._read(prompt)
        read_s = time.perf_counter() - started
        seed = request.sampling.seed
        seed = secrets.randbelow(2**32 - 1) if seed is None else seed
        if is_read:
            written = yield from self._write(request, prompt, seed)
        else:
            written = _Written("", 0, 0, "cancelled", 0.0, 0.0)
        n_evaluated = len(prompt) - n_reused
        return Answer(
            text=written.text,
            prompt_tokens=len(prompt),
            prompt_tokens_evaluated=n_evaluated,
            prompt_tokens_per_second=n_evaluated / read_s,
            time_to_first_token_seconds=read_s + written.first_token_s,
            generation_tokens=written.n_tokens,
            generation_tokens_per_second=(
                written.n_decoded / written.seconds if written.n_decoded else 0.0
            ),
            finish_reason=written.finish_reason,
            n_ctx=context.n_ctx,
            n_ctx_used=len(context.tokens),
            seed=seed,
        )

    def _write(
        self, request: Generate, prompt: list[int], seed: int
    ) -> Generator[Piece, None, _Written]:
        """Write the answer to `prompt`, which has been read, token by token."""
        context, vocabulary = self._context, self._model.vocabulary
        _require_numbers(context)
        room = context.n_ctx - len(prompt)
        n_max = min(request.max_tokens or room, room)
        decoder = StreamDecoder(vocabulary)
        sampler = Sampler(request.sampling, vocabulary.n_tokens, seed)
        texts: list[str] = []
        waiting, sent_at = "", 0.0
        n_tokens = n_decoded = 0
        finish_reason: FinishReason = "length"
        started = first_at = time.perf_counter()
        try:
            sampler.accept(prompt)
            while True:
                token = sampler.sample(context)
                now = time.perf_counter()
                if n_tokens == 0:
                    first_at = now
                if vocabulary.is_end(token):
                    finish_reason = "stop"
                    break
                n_tokens += 1
                waiting += decoder.feed(token)
                if now - sent_at >= PIECE_S:
                    texts.append(waiting)
                    yield Piece(waiting, n_tokens)
                    waiting, sent_at = "", now
                if n_tokens == n_max:
                    break
                if not context.decode((token,)):
                    finish_reason = "cancelled"
                    break
                n_decoded += 1
                if self._threads:
                    self._threads.note(time.perf_counter() - now)
                    context.use_threads(self._threads.n)
        finally:
            sampler.close()
        seconds = time.perf_counter() - first_at
        waiting += decoder.flush()
        texts.append(waiting)
        if waiting or finish_reason == "cancelled":
            yield Piece(waiting, n_tokens)
        text = "".join(texts)
        return _Written(text, n_tokens, n_decoded, finish_reason, first_at - started, seconds)

    def _read(self, prompt: list[int]) -> Generator[Progress, None, bool]:
        """Read what is not in the cache yet; False if interrupted.

        The first step comes before any work: a stop that `generate` has just cleared is heard by
        who runs this.
        """
        context = self._context
        is_going_on = True
        while True:
            done = len(context.tokens)
            yield Progress("Reading the prompt", done, len(prompt), "tokens")
            if done == len(prompt) or not is_going_on:
                return is_going_on
            is_going_on = context.decode(prompt[done : done + context.n_ubatch])

    def _prompt_tokens(self, request: Generate) -> list[int]:
        text = request.prompt
        if text is None:
            text = self._render(request)
        tokens = self._model.vocabulary.tokenize(text)
        n_ctx = self._context.n_ctx
        if len(tokens) + 1 > n_ctx:
            raise ContextOverflow(
                f"The conversation is too long: {len(tokens):,} tokens, "
                f"and the context holds {n_ctx:,}.",
                hint="Start a new chat, or load the model with a longer context.",
            )
        # An empty text to continue: begin as the model's training texts did.
        return tokens or [max(0, self._model.vocabulary.bos)]

    def _render(self, request: Generate) -> str:
        if self._model.chat_template is None:
            return plain_text(request.messages)
        if self._template is None:
            self._template = ChatTemplate(self._model.chat_template)
        vocabulary = self._model.vocabulary
        return self._template.render(
            request.messages,
            vocabulary.text_of(vocabulary.bos),
            vocabulary.text_of(vocabulary.eos),
        )


def _require_numbers(context: Context) -> None:
    """Raise InferenceError for a model that computes NaN: samplers sort, and cannot sort that."""
    import numpy as np

    if not np.isfinite(context.logits().max()):
        raise InferenceError(
            "The model computes something that is not a number.",
            hint="Its file is damaged or was shrunk too far: choose another one.",
        )
