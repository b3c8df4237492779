"""A model at work: the KV cache, which tokens are in it, and the logits of the last ones."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from engine._native import AbortFlag
from engine.errors import EngineError, InferenceError
from engine.fit.run import KvType
from engine.llama.library import library
from engine.llama.memory import BufferMemory, memory_of, set_kv_type
from engine.llama.model import Model, out_of_memory
from engine.llama.threads import default_n_threads

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ABORTED = 2
_MEMORY_HINT = "Choose a shorter context length, or close other programs."


class Watcher(Protocol):
    """Is shown the computation of a context: see `engine.llama.observe`."""

    @property
    def callback(self) -> Any: ...
    def raise_error(self) -> None: ...


class Context:
    """One sequence of tokens that `model` has read. For one thread at a time, `abort` excepted.

    `tokens` are the ones whose keys and values are in the cache, in order. Setting `abort` ends a
    running `decode` within one step of the computation.
    """

    def __init__(
        self,
        model: Model,
        n_ctx: int,
        *,
        n_threads: int = 0,
        n_batch: int = 2048,
        n_ubatch: int = 512,
        n_outputs_max: int = 1,
        kv_type: KvType = "f16",
        observer: Watcher | None = None,
        n_sequences: int = 1,
    ) -> None:
        """Raises OutOfMemory when the KV cache or the buffers cannot be had.

        An `observer` slows the computation down; what it raises, `decode` raises. `n_sequences` can
        be read together; `n_ctx` is for all of them.
        """
        self._library = library()
        self._c = self._library.c
        self._model = model
        self._observer = observer
        self.abort = AbortFlag()
        self.tokens: list[int] = []
        self.n_threads = n_threads or default_n_threads()
        self.n_ubatch = min(n_ubatch, n_ctx)
        params = self._c.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = n_batch
        params.n_ubatch = n_ubatch
        params.n_outputs_max = n_outputs_max
        if n_sequences > 1:
            params.n_seq_max = n_sequences
            params.kv_unified = True  # the tokens are computed in the order in which they come
        params.n_threads = params.n_threads_batch = self.n_threads
        params.no_perf = True
        set_kv_type(params, kv_type)
        params.abort_callback = self._c.ggml_abort_callback(self.abort.callback_address)
        params.abort_callback_data = self.abort.data_address
        if observer:
            params.cb_eval = observer.callback
        self._library.log_lines.clear()
        with self._library.at_risk():  # devices without a layer are prepared too
            self._handle = self._c.llama_init_from_model(model.handle, params)
        if not self._handle:
            raise self._init_error(n_ctx)
        self.n_ctx: int = self._c.llama_n_ctx(self._handle)
        self._memory = self._c.llama_get_memory(self._handle)
        self._n_swa: int = self._c.llama_model_n_swa(model.handle)
        self._n_vocab = model.vocabulary.n_tokens
        # One batch for all calls: positions follow the cache by themselves.
        self.n_batch = min(n_batch, self.n_ctx)
        self._batch_tokens = (ctypes.c_int32 * self.n_batch)()
        self._wants_logits = (ctypes.c_int8 * self.n_batch)()
        self._batch = self._c.llama_batch_get_one(self._batch_tokens, 0)

    def decode(self, tokens: Sequence[int], n_outputs: int = 1) -> bool:
        """Read `tokens`, at most `n_batch`, after those in the cache; False if aborted before done.

        Then the logits after the last `n_outputs` of them are there. An abort leaves the cache as
        it was (or empty, for a model that cannot forget the half of it). Raises InferenceError.
        """
        if self.abort.is_set:  # a GPU does not ask
            return False
        n = len(tokens)
        self._batch.n_tokens = n
        self._batch_tokens[:n] = tokens
        if n_outputs == 1:
            self._batch.logits = None  # llama.cpp's default: the last one
        else:
            self._wants_logits[:n] = bytes(n - n_outputs) + b"\x01" * n_outputs
            self._batch.logits = self._wants_logits
        status = self._c.llama_decode(self._handle, self._batch)
        self._library.take_back()
        if self._observer:
            self._observer.raise_error()
        if status == 0:
            self.tokens.extend(tokens)
            return True
        self._keep(len(self.tokens))
        if status == _ABORTED:
            return False
        lines = list(self._library.log_lines)
        raise out_of_memory(lines, "the answer", _MEMORY_HINT) or InferenceError(
            "The model could not read the text.",
            hint="Start a new chat, or load the model again.",
            details="\n".join([f"llama_decode returned {status}", *lines]),
        )

    def read_together(self, sequences: Sequence[Sequence[int]]) -> bool:
        """Read several texts from an empty cache at once, as rows of tokens one after the other.

        False if aborted. All logits are computed, and forgotten. Raises InferenceError.
        """
        self.clear()
        batch = self._c.llama_batch_init(sum(map(len, sequences)), 0, 1)
        try:
            for number, tokens in enumerate(sequences):
                for position, token in enumerate(tokens):
                    i = batch.n_tokens
                    batch.token[i], batch.pos[i], batch.logits[i] = token, position, 1
                    batch.n_seq_id[i], batch.seq_id[i][0] = 1, number
                    batch.n_tokens += 1
            status: int = self._c.llama_decode(self._handle, batch)
        finally:
            self._c.llama_batch_free(batch)
        self._library.take_back()
        if self._observer:
            self._observer.raise_error()
        if status not in {0, _ABORTED}:
            raise InferenceError(
                "The model could not read the text.", details=f"llama_decode returned {status}"
            )
        return status == 0

    def use_threads(self, n_threads: int) -> None:
        """Compute what follows with `n_threads`."""
        if n_threads != self.n_threads:
            self.n_threads = n_threads
            self._c.llama_set_n_threads(self._handle, n_threads, n_threads)

    def synchronize(self) -> None:
        """Wait until the last `decode` is computed; a GPU may still be at it."""
        self._c.llama_synchronize(self._handle)

    def logits(self, n_outputs: int = 1) -> NDArray[np.float32]:
        """Return what `decode` computed, float32 [n_outputs, n_vocab]: a view, until the next."""
        import numpy as np

        pointer = self._c.llama_get_logits(self._handle)
        return np.ctypeslib.as_array(pointer, (n_outputs, self._n_vocab))

    def sample(self, chain: Any) -> int:
        """Let a sampler chain choose from the whole vocabulary and accept its choice."""
        token: int = self._c.llama_sampler_sample(chain, self._handle, -1)
        return token

    def keep_prefix(self, tokens: Sequence[int]) -> int:
        """Forget what differs from the beginning of `tokens`; return how many of them are kept.

        The last one is never kept, because its logits are needed.
        """
        n = 0
        for old, new in zip(self.tokens, tokens[:-1], strict=False):
            if old != new:
                break
            n += 1
        if n < len(self.tokens):
            self._keep(n)
        return len(self.tokens)

    def clear(self) -> None:
        self._c.llama_memory_clear(self._memory, False)
        self.tokens.clear()

    def memory(self) -> tuple[BufferMemory, ...]:
        """What the model and this context take, as llama.cpp counts it."""
        return memory_of(self._handle)

    def close(self) -> None:
        if self._handle:
            self._c.llama_free(self._handle)
            self._handle = None

    def _keep(self, n: int) -> None:
        """Cut the cache to its first `n` tokens, or empty it where the model's kind cannot.

        A recurrent state cannot go back. A sliding window has dropped what lies before it, so the
        tokens in front of position `n` may be gone already.
        """
        is_kept = n > 0 and self._c.llama_memory_seq_rm(self._memory, 0, n, -1)
        if is_kept and self._n_swa > 0:
            first = self._c.llama_memory_seq_pos_min(self._memory, 0)
            is_kept = 0 <= first <= max(0, n - self._n_swa)
        if is_kept:
            del self.tokens[n:]
        else:
            self.clear()

    def _init_error(self, n_ctx: int) -> EngineError:
        lines = list(self._library.log_lines)
        what = f"a context of {n_ctx:,} tokens"
        return out_of_memory(lines, what, _MEMORY_HINT) or InferenceError(
            f"The model {self._model.path.name} could not be started.",
            hint="Get the file again, or choose another one.",
            details="\n".join(lines),
        )
