"""The logits of a model for a text: what the quality of a shrunk model is measured with."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from engine.fit.run import KvType
from engine.jobs import Step
from engine.llama.context import Context
from engine.llama.model import Model, load_model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Evaluator:
    """Reads a text in chunks of `n_ctx` tokens as llama-perplexity does.

    Each chunk is read from an empty cache with BOS in place of its first token (if the model adds
    one), and its second half is scored, where every token has half a chunk before it.
    """

    def __init__(
        self, model: Model, n_ctx: int, n_threads: int = 0, kv_type: KvType = "f16"
    ) -> None:
        """Takes over `model`; raises OutOfMemory."""
        self._model = model
        self.n_ctx = n_ctx
        self.first_scored = n_ctx // 2
        self.n_scored = n_ctx - self.first_scored - 1
        try:
            self._context = Context(
                model,
                n_ctx,
                n_threads=n_threads,
                n_batch=n_ctx,
                n_outputs_max=n_ctx - self.first_scored,
                kv_type=kv_type,
            )
        except BaseException:
            model.close()
            raise
        self.n_vocab = model.vocabulary.n_tokens

    @classmethod
    def load(
        cls, path: str | Path, n_ctx: int, n_threads: int = 0, kv_type: KvType = "f16"
    ) -> Generator[Step, None, Self]:
        """Load the model at `path`; raises what `load_model` raises."""
        model = yield from load_model(path)
        return cls(model, n_ctx, n_threads, kv_type)

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of `text`, in which no words are special: as llama-perplexity does."""
        return self._model.vocabulary.tokenize(text, special=False)

    def targets(self, chunk: Sequence[int]) -> Sequence[int]:
        """Return the tokens that the rows of `logits` should have predicted."""
        return chunk[self.first_scored + 1 :]

    def logits(self, chunk: Sequence[int]) -> NDArray[np.float32] | None:
        """Return logits for the second half of `chunk`, float32 [n_scored, n_vocab].

        Row i follows token `first_scored` + i. A view, until the next call. None if interrupted.
        """
        if len(chunk) != self.n_ctx:
            raise ValueError(f"a chunk of {len(chunk)} tokens instead of {self.n_ctx}")
        tokens = list(chunk)
        if self._model.vocabulary.adds_bos:
            tokens[0] = self._model.vocabulary.bos
        n_outputs = self.n_ctx - self.first_scored
        self._context.clear()
        self._context.abort.clear()
        if not self._context.decode(tokens, n_outputs):
            return None
        # The last row would predict a token of the next chunk.
        return self._context.logits(n_outputs)[:-1]

    def interrupt(self) -> None:
        """Stop `logits`, from any thread."""
        self._context.abort.set()

    def close(self) -> None:
        self._context.close()
        self._model.close()
