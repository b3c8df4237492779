"""A model loaded to talk with: reads what is new in a conversation and writes the answer."""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator
from pathlib import Path

from engine import fit, hardware
from engine.chat import ChatTemplate, plain_text
from engine.errors import ContextOverflow, InferenceError, OutOfMemory
from engine.inference import Answer, FinishReason, Generate, LoadSettings, ModelInfo
from engine.inspect import describe
from engine.jobs import Piece, Progress, Step
from engine.llama.context import Context, default_n_threads
from engine.llama.ggml import devices
from engine.llama.model import Model, StreamDecoder, load_model, open_model_file
from engine.llama.sampler import Sampler

PIECE_S = 0.03
"""How long text gathers before it is sent: a screen shows no more, and each piece wakes readers
on cores that compute."""


class Session:
    """One loaded model and the conversation in its KV cache.

    For one thread, except `interrupt`. `close` frees the memory.
    """

    def __init__(self, model: Model, context: Context, info: ModelInfo) -> None:
        self.info = info
        self._model = model
        self._context = context
        self._template: ChatTemplate | None = None

    @staticmethod
    def load(path: str | Path, settings: LoadSettings) -> Generator[Step, None, Session]:
        """Load a model with a context that fits this computer.

        Raises what `load_model` raises, and OutOfMemory before anything is read if even the
        shortest context would not fit.
        """
        started = time.monotonic()
        n_ctx = _choose_n_ctx(path, settings)
        summary = describe(path)
        model = yield from load_model(path, settings.n_gpu_layers)
        try:
            n_threads = settings.n_threads or default_n_threads()
            n_ubatch = _n_ubatch(model, n_threads)
            context = Context(model, n_ctx, n_threads=n_threads, n_ubatch=n_ubatch)
        except BaseException:
            model.close()
            raise
        gpus = [device.description for device in devices() if device.kind != "cpu"]
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
            n_threads=n_threads,
            device=gpus[0] if gpus and settings.n_gpu_layers != 0 else "CPU",
            load_seconds=time.monotonic() - started,
        )
        return Session(model, context, info)

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
        context, vocabulary = self._context, self._model.vocabulary
        context.abort.clear()
        prompt = self._prompt_tokens(request)
        n_reused = context.keep_prefix(prompt)
        started = time.perf_counter()
        # Before anything slow: a stop that came before `clear` is heard by who runs this.
        yield Progress("Reading the prompt", n_reused, len(prompt), "tokens")
        is_read = yield from self._read(prompt)
        if is_read:
            _require_numbers(context)
        read_s = time.perf_counter() - started

        seed = request.sampling.seed
        seed = secrets.randbelow(2**32 - 1) if seed is None else seed
        room = context.n_ctx - len(prompt)
        n_max = min(request.max_tokens or room, room)
        sampler = Sampler(request.sampling, vocabulary.n_tokens, seed)
        decoder = StreamDecoder(vocabulary)
        texts: list[str] = []
        waiting, n_tokens, sent_at, first_s = "", 0, 0.0, read_s
        finish_reason: FinishReason = "length" if is_read else "cancelled"
        try:
            sampler.accept(prompt[-request.sampling.repeat_last_n :])
            while is_read and n_tokens < n_max:
                token = sampler.sample(context)
                now = time.perf_counter()
                if n_tokens == 0:
                    first_s = now - started
                if vocabulary.is_end(token):
                    finish_reason = "stop"
                    break
                n_tokens += 1
                waiting += decoder.feed(token)
                if now - sent_at >= PIECE_S:
                    yield Piece(waiting, n_tokens)
                    texts.append(waiting)
                    waiting, sent_at = "", now
                if n_tokens < n_max and not context.decode((token,)):
                    finish_reason = "cancelled"
                    break
        finally:
            sampler.close()
        generation_s = time.perf_counter() - started - first_s
        waiting += decoder.flush()
        if waiting or finish_reason == "cancelled":
            yield Piece(waiting, n_tokens)
            texts.append(waiting)
        n_evaluated = len(prompt) - n_reused
        return Answer(
            text="".join(texts),
            prompt_tokens=len(prompt),
            prompt_tokens_evaluated=n_evaluated,
            prompt_tokens_per_second=n_evaluated / read_s,
            time_to_first_token_seconds=first_s,
            generation_tokens=n_tokens,
            generation_tokens_per_second=n_tokens / generation_s if generation_s > 0 else 0.0,
            finish_reason=finish_reason,
            n_ctx=context.n_ctx,
            n_ctx_used=len(context.tokens),
            seed=seed,
        )

    def _read(self, prompt: list[int]) -> Generator[Progress, None, bool]:
        """Read what is not in the cache yet; False if interrupted."""
        context = self._context
        while (done := len(context.tokens)) < len(prompt):
            if not context.decode(prompt[done : done + context.n_ubatch]):
                yield Progress("Reading the prompt", len(context.tokens), len(prompt), "tokens")
                return False
            yield Progress("Reading the prompt", len(context.tokens), len(prompt), "tokens")
        return True

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


def _choose_n_ctx(path: str | Path, settings: LoadSettings) -> int:
    """Return the context length asked for, or the longest that fits; raises OutOfMemory."""
    file = open_model_file(path)
    shape = fit.Shape.from_metadata(file.metadata)
    weights_bytes = sum(tensor.n_bytes for tensor in file.tensors)
    computer = hardware.detect(devices())
    available = computer.memory_available_bytes
    if settings.n_gpu_layers != 0:
        available += sum(gpu.memory_free_bytes for gpu in computer.gpus)
    n_ctx = settings.n_ctx or fit.choose_n_ctx(shape, weights_bytes, available)
    needed = fit.predict(shape, weights_bytes, n_ctx).total_bytes
    if needed > available:
        raise OutOfMemory(
            f"{file.path.name} needs {needed / 1e9:.1f} GB of memory with a context of "
            f"{n_ctx:,} tokens, and {available / 1e9:.1f} GB are free.",
            hint="Close other programs, shrink the model further or choose a smaller one.",
        )
    return n_ctx


def _require_numbers(context: Context) -> None:
    """Raise InferenceError for a model that computes NaN: samplers sort, and cannot sort that."""
    import numpy as np

    if not np.isfinite(context.logits().max()):
        raise InferenceError(
            "The model computes something that is not a number.",
            hint="Its file is damaged or was shrunk too far: choose another one.",
        )


def _n_ubatch(model: Model, n_threads: int) -> int:
    """Return how many tokens to compute at once: 512, less where one matrix takes too long.

    A stop is heard between two operations of the graph, the longest of which multiplies a batch
    by a matrix of n_embd x n_ff. A core does some 50 GFLOP/s; 0.05 s of that are allowed.
    """
    shape = fit.Shape.from_metadata(model.metadata)
    flops_per_token = 2 * shape.n_embd * max(shape.n_ff, 1)
    n = int(n_threads * 50e9 * 0.05 / max(flops_per_token, 1))
    return next((u for u in (512, 256, 128, 64) if u <= n), 32)
