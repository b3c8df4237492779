"""How much the words of a model change when one of its tensors is rounded: measured, not guessed.

One tensor after the other is replaced by a coarse version of itself in the loaded model, which then
reads some text; the mean KL divergence of what it expects is what that tensor's error costs. For
small errors it is linear in the error's square (HIGGS, arXiv 2411.17525, theorem 1), so one run
tells what any other type would cost.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from engine.errors import CorruptFile
from engine.floats import from_float32
from engine.ggml_types import GgmlType
from engine.gguf_values import TensorInfo
from engine.jobs import Progress
from engine.llama.evaluate import Evaluator
from engine.llama.ggml import dequantize_rows, quantize_rows
from engine.llama.model import Model
from engine.llama.weights import LoadedWeights
from engine.quantize.encode import Encoder
from engine.quantize.figures import score
from engine.quantize.kept_logits import MOST_BYTES, KeptLogits
from engine.workers import wait

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.source import ModelSource

CHUNK_ELEMENTS = 2**22


class Group(msgspec.Struct, frozen=True):
    """Tensors that are made coarse together, and what that did: the mean KL divergence in nats."""

    tensors: tuple[str, ...]
    divergence: float


class Sensitivities:
    """A loaded model of which tensors can be made coarse; for one thread."""

    def __init__(
        self,
        source: ModelSource,
        loaded: ModelSource,
        model: Model,
        chunks: Sequence[Sequence[int]],
        encoder: Encoder,
        n_threads: int,
    ) -> None:
        """Takes over `model`, which was loaded `is_copied` from the file of `loaded`.

        That is `source`, or the same model in another type.

        `chunks` are tokens, of equal number. Raises OutOfMemory.
        """
        self._source = source
        self._loaded = loaded
        self._loaded_as = {tensor.name: tensor for tensor in loaded.tensors}
        self._chunks = chunks
        self._encoder = encoder
        self._evaluator = Evaluator(model, len(chunks[0]), n_threads)
        try:
            self._weights = LoadedWeights(model)
        except BaseException:
            self._evaluator.close()
            raise
        self._kept = KeptLogits(
            self._evaluator.n_scored, self._evaluator.n_vocab, MOST_BYTES, folder=None
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sensitivity")

    def has(self, tensor: TensorInfo) -> bool:
        return tensor.name in self._weights

    def measure(
        self, group: Sequence[TensorInfo], coarse: Mapping[str, GgmlType], meanwhile: Progress
    ) -> Generator[Progress, None, Group]:
        """Make the tensors of `group` `coarse`, measure, and put them back as they were."""
        tensors = [tensor for tensor in group if self.has(tensor)]
        try:
            for tensor in tensors:
                yield from self._replace(tensor, coarse[tensor.name], meanwhile)
            work = self._thread.submit(self._divergence)
            divergence = yield from wait(work, meanwhile, self._evaluator.interrupt)
        finally:
            for tensor in tensors:
                self._restore(tensor)
        return Group(tuple(tensor.name for tensor in group), divergence)

    def close(self) -> None:
        self._thread.shutdown()
        self._evaluator.close()
        self._kept.close()

    def _divergence(self) -> float:
        import numpy as np

        found = []
        for index, chunk in enumerate(self._chunks):
            expected = self._kept.read(index)
            logits = self._evaluator.logits(chunk)
            if logits is None:
                raise CancelledError
            assert expected is not None
            found.append(score(expected, logits, self._evaluator.targets(chunk)).kld)
        return float(np.concatenate(found).mean())

    def read_original(self, meanwhile: Progress) -> Generator[Progress, None, None]:
        """Let the untouched model read the chunks; before the first `measure`.

        Raises CorruptFile for a model that computes no numbers.
        """
        import numpy as np

        def read() -> None:
            for chunk in self._chunks:
                logits = self._evaluator.logits(chunk)
                if logits is None:
                    raise CancelledError
                if not np.isfinite(logits).all():
                    raise CorruptFile(
                        "What this model expects next is not a number.",
                        hint="It is damaged or was not converted well: get it again.",
                    )
                self._kept.append(logits)

        work = self._thread.submit(read)
        yield from wait(work, meanwhile, self._evaluator.interrupt)

    def _replace(
        self, tensor: TensorInfo, target: GgmlType, meanwhile: Progress
    ) -> Generator[Progress, None, None]:
        for start, stop in _stretches(tensor):
            yield meanwhile
            rows = self._source.rows(tensor, start, stop)
            coarse = dequantize_rows(target, self._encoder.stock(tensor, target, rows, start))
            stored = self._loaded_as[tensor.name].type
            if stored.is_float:
                self._write(tensor, start, from_float32(coarse, stored))
            else:
                self._write(tensor, start, quantize_rows(stored, coarse))
            self._source.forget()  # beside the loaded model it would be there twice

    def _restore(self, tensor: TensorInfo) -> None:
        import numpy as np

        loaded = self._loaded_as[tensor.name]
        for start, stop in _stretches(tensor):
            self._write(
                tensor, start, np.frombuffer(self._loaded.raw(loaded, start, stop), np.uint8)
            )
            self._loaded.forget()

    def _write(self, tensor: TensorInfo, start: int, data: NDArray[np.generic]) -> None:
        import numpy as np

        flat = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        self._weights.write(tensor.name, flat, start * self._loaded_as[tensor.name].row_bytes)


def _stretches(tensor: TensorInfo) -> Iterator[tuple[int, int]]:
    n_rows = max(1, CHUNK_ELEMENTS // tensor.n_cols)
    for start in range(0, tensor.n_rows, n_rows):
        yield start, min(tensor.n_rows, start + n_rows)
