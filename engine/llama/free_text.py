"""Text that a model writes when nobody asks it anything: what it has learned, by its own measure.

Many sequences are written at once, from the token that begins a text, each next token drawn as the
model expects it.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

from engine._native import AbortFlag
from engine.errors import CorruptFile, InferenceError
from engine.fit.shape import Shape
from engine.jobs import Progress
from engine.llama.library import library
from engine.llama.model import Model, out_of_memory
from engine.llama.threads import default_n_threads
from engine.workers import threads, wait

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

N_AT_ONCE = 16
MOST_CACHE_BYTES = 512 << 20
"""What the keys and values of all that is written at once may take."""


def write_freely(
    model: Model,
    n_texts: int,
    n_tokens: int,
    n_threads: int = 0,
    texts: Sequence[list[int]] = (),
    keep: Callable[[list[list[int]]], None] = lambda _texts: None,
) -> Generator[Progress, None, list[list[int]]]:
    """Let `model` write `n_texts` of `n_tokens` each, as tokens; the same ones each time.

    `texts` are the first ones, from another time; `keep` gets all that there are now and then.
    Raises OutOfMemory, CorruptFile for a model that computes no numbers, InferenceError.
    """
    cache_bytes = Shape.from_metadata(model.metadata).kv_cache_bytes(n_tokens)
    n_at_once = max(1, min(N_AT_ONCE, n_texts, MOST_CACHE_BYTES // max(1, cache_bytes)))
    writer = _Writer(model, n_at_once, n_tokens, n_threads)
    texts = list(texts)
    try:
        with threads(1, "write-freely") as thread:  # each new one would cost ggml new threads
            while len(texts) < n_texts:
                begun = len(texts)
                writer.begin(seed=begun)
                for position in range(n_tokens - 1):
                    written = begun * n_tokens + (position + 1) * n_at_once
                    done = Progress("Letting it write", written, n_texts * n_tokens, "tokens")
                    yield from wait(thread.submit(writer.step), done, writer.abort.set)
                    yield done
                texts += writer.tokens.tolist()
                keep(texts)
        return texts[:n_texts]
    finally:
        writer.close()


class _Writer:
    """A context of its own; `tokens` are what it has written, int32 [n_texts, n]."""

    def __init__(self, model: Model, n_texts: int, n_tokens: int, n_threads: int) -> None:
        import numpy as np

        c = self._c = library().c
        vocabulary = model.vocabulary
        self._first = max(0, vocabulary.bos if vocabulary.bos >= 0 else vocabulary.eos)
        self._n_vocab = vocabulary.n_tokens
        self._n_texts = n_texts
        self._name = model.path.name
        self.abort = AbortFlag()
        self.tokens: NDArray[np.int32] = np.empty((n_texts, 0), np.int32)
        params = c.llama_context_default_params()
        params.n_ctx = n_texts * n_tokens
        params.n_seq_max = params.n_batch = params.n_ubatch = params.n_outputs_max = n_texts
        params.n_threads = params.n_threads_batch = n_threads or default_n_threads()
        params.no_perf = True
        params.abort_callback = c.ggml_abort_callback(self.abort.callback_address)
        params.abort_callback_data = self.abort.data_address
        library().log_lines.clear()
        self._handle = c.llama_init_from_model(model.handle, params)
        if not self._handle:
            lines = list(library().log_lines)
            raise out_of_memory(
                lines, "texts of its own", "Close other programs, or choose less effort."
            ) or InferenceError("The model could not be started.", details="\n".join(lines))
        self._memory = c.llama_get_memory(self._handle)
        self._batch = c.llama_batch_init(n_texts, 0, 1)

    def begin(self, seed: int) -> None:
        """Begin new texts."""
        import numpy as np

        self._c.llama_memory_clear(self._memory, False)
        self._random = np.random.Generator(np.random.PCG64(seed))
        self.tokens = np.full((self._n_texts, 1), self._first, np.int32)

    def step(self) -> None:
        """Write the next token of each text; raises CancelledError when aborted."""
        import numpy as np

        batch, position = self._batch, self.tokens.shape[1] - 1
        batch.n_tokens = self._n_texts
        for i, token in enumerate(self.tokens[:, -1].tolist()):
            batch.token[i], batch.pos[i], batch.logits[i] = token, position, 1
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, i
        status = self._c.llama_decode(self._handle, batch)
        if self.abort.is_set:
            raise CancelledError
        if status:
            raise InferenceError(
                f"{self._name} could not write.", details=f"llama_decode returned {status}"
            )
        pointer = self._c.llama_get_logits(self._handle)
        logits = np.ctypeslib.as_array(pointer, (self._n_texts, self._n_vocab))
        if not np.isfinite(logits.max(axis=1)).all():
            raise CorruptFile(
                f"What {self._name} expects next is not a number.",
                hint="The model is damaged or was not converted well: get it again.",
            )
        # The greatest of logits with Gumbel noise is drawn as softmax would have it.
        noise = self._random.gumbel(size=logits.shape)
        drawn = (logits + noise).argmax(axis=1).astype(np.int32)
        self.tokens = np.concatenate([self.tokens, drawn[:, np.newaxis]], axis=1)

    def close(self) -> None:
        self._c.llama_batch_free(self._batch)
        self._c.llama_free(self._handle)
