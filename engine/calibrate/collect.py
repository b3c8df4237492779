"""Lets a model read chunks of tokens, and looks at what flows into its matrices meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine.calibrate.inputs import Input
from engine.calibrate.sums import Sums
from engine.errors import UnsupportedArchitecture
from engine.llama.context import Context
from engine.llama.model import Model
from engine.llama.observe import Observer, Product

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

N_SURVEYED = 32
"""Tokens that are read to see which matrices there are."""


class Collector:
    """A model that reads chunks of `n_ctx` tokens, up to `n_together` at once.

    For one thread at a time, except `interrupt`.
    """

    def __init__(self, model: Model, n_ctx: int, n_threads: int, n_together: int = 1) -> None:
        """Raises OutOfMemory. The model stays with the caller."""
        self._vocabulary = model.vocabulary
        self._name = model.path.name
        self._context = Context(
            model,
            n_ctx * n_together,
            n_threads=n_threads,
            n_batch=n_ctx * n_together,
            n_ubatch=n_ctx * n_together,
            n_outputs_max=n_ctx * n_together,
            observer=Observer(self._wants, self._see),
            n_sequences=n_together,
        )
        self.n_threads = self._context.n_threads
        self._look: _Survey | _Reading | None = None

    def survey(self, chunk: Sequence[int]) -> tuple[Input, ...]:
        """Return the inputs of the model's matrices, in the order of the computation.

        A few tokens of `chunk` are read for it. Raises UnsupportedArchitecture if there are none.
        """
        tokens = chunk[:N_SURVEYED]
        survey = _Survey()
        self._read(tokens, survey)
        inputs = survey.inputs(len(tokens))
        if not inputs:
            raise UnsupportedArchitecture(
                f"Nothing can be seen of what {self._name} computes.",
                hint="Choose a language model for chat or text.",
            )
        return inputs

    def collect(
        self,
        chunks: Sequence[Sequence[int]],
        inputs: Sequence[Input],
        sums: Sums,
        is_held_out: NDArray[np.bool_],
    ) -> bool:
        """Read `chunks` and add what flows into `inputs` to `sums`; False if interrupted.

        The first token of each gives way to BOS, if the model adds one. `is_held_out` [n_tokens]
        tells which tokens go into the sample instead. Raises CorruptFile, InferenceError.
        """
        tokens = [list(chunk) for chunk in chunks]
        for chunk in tokens if self._vocabulary.adds_bos else ():
            chunk[0] = self._vocabulary.bos
        look = _Reading(inputs, sums, is_held_out)
        if len(tokens) == 1:
            return self._read(tokens[0], look)
        self._look = look
        return self._context.read_together(tokens)

    def interrupt(self) -> None:
        """Stop `collect`, from any thread; it stays stopped."""
        self._context.abort.set()

    def close(self) -> None:
        self._context.close()

    def _read(self, tokens: Sequence[int], look: _Survey | _Reading) -> bool:
        self._look = look
        self._context.clear()
        return self._context.decode(tokens, len(tokens))

    def _wants(self, product: Product) -> bool:
        return self._look is not None and self._look.wants(product)

    def _see(self, product: Product) -> bool:
        if self._look is not None and not self._context.abort.is_set:
            self._look.see(product)
        return True


class _Survey:
    """Which matrices there are, and which of them share an input."""

    def __init__(self) -> None:
        self._by_input: dict[tuple[int, int], list[Product]] = {}
        self._known: set[str] = set()

    def wants(self, product: Product) -> bool:
        if product.weight.endswith(".weight") and product.weight not in self._known:
            self._known.add(product.weight)
            self._by_input.setdefault(product.input_id, []).append(product)
        return False

    def see(self, product: Product) -> None:
        raise AssertionError(product.weight)

    def inputs(self, n_tokens: int) -> tuple[Input, ...]:
        found = []
        for products in self._by_input.values():
            first = products[0]
            n_rows = first.n_rows if first.is_routed else first.n_rows // first.n_matrices
            alike = [p.weight for p in products if p.n_matrices == first.n_matrices]
            if n_rows % n_tokens == 0:
                one = Input(
                    tensors=tuple(alike),
                    n_cols=first.n_cols,
                    n_matrices=first.n_matrices,
                    rows_per_token=n_rows // n_tokens,
                    is_routed=first.is_routed,
                    n_used=first.n_slots * n_tokens // n_rows,
                )
                found.append(one)
        return tuple(found)


class _Reading:
    """One chunk: each input is wanted once, whichever of its matrices comes first."""

    def __init__(self, inputs: Sequence[Input], sums: Sums, is_held_out: NDArray[np.bool_]) -> None:
        self._of = {tensor: one for one in inputs for tensor in one.tensors}
        self._sums = sums
        self._is_held_out = is_held_out
        self._seen: set[tuple[int, int]] = set()

    def wants(self, product: Product) -> bool:
        if product.weight not in self._of or product.input_id in self._seen:
            return False
        self._seen.add(product.input_id)
        return True

    def see(self, product: Product) -> None:
        one = self._of[product.weight]
        if one.is_routed:
            self._sums.add_routed(one, product.rows(), product.experts(), self._is_held_out)
        else:
            self._sums.add(one, product.rows(), self._is_held_out)
