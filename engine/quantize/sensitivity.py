"""How much the words of a model change when one of its tensors is rounded: measured, not guessed.

One tensor after the other is replaced by a coarse version of itself in the loaded model, which then
reads some text; the mean KL divergence of what it expects is what that tensor's error costs. For
small errors it is linear in the error's square (HIGGS, arXiv 2411.17525, theorem 1), so one run
tells what any other type would cost.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, TypeVar

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
from engine.quantize.kept_logits import KeptLogits
from engine.workers import in_order, n_cores, threads, wait

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.source import ModelSource

T = TypeVar("T")

CHUNK_ELEMENTS = 2**20  # with what rounding takes 10 MB, in each thread


class Group(msgspec.Struct, frozen=True):
    """Tensors that are made coarse together, and what that did: the mean KL divergence in nats.

    `unused` are those among them that the loaded model does not compute with, such as layers that
    guess tokens ahead: nothing was measured of them.
    """

    tensors: tuple[str, ...]
    divergence: float
    unused: tuple[str, ...] = ()


def each_matters(groups: Iterable[Group], errors: Mapping[str, float]) -> dict[str, float]:
    """What an error of 1 in each tensor of `groups` would cost in nats; `errors` are those it had.

    What was not measured is taken to matter as its role does in other layers, or as all do: by the
    median. Nothing at all would have it rounded as coarsely as can be.
    """
    found: dict[str, float] = {}
    unused: list[str] = []
    for group in groups:
        used = [name for name in group.tensors if name not in group.unused]
        total = sum(errors[name] for name in used)
        each = max(0.0, group.divergence / total) if total > 0 else 0.0
        found |= dict.fromkeys(used, each)
        unused += group.unused
    roles: dict[str, list[float]] = {}
    for name, each in found.items():
        roles.setdefault(role_of(name), []).append(each)
    of_all = list(found.values()) or [1.0]
    return found | {name: median(roles.get(role_of(name), of_all)) for name in unused}


def role_of(tensor: str) -> str:
    """The name without the layer."""
    return re.sub(r"^blk\.\d+\.(nextn\.)?", "", tensor)


class _Stretch(NamedTuple):
    """Rows of a tensor."""

    tensor: TensorInfo
    start: int
    stop: int


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
        folder: Path,
    ) -> None:
        """Takes over `model`, which was loaded `is_copied` from the file of `loaded`.

        That is `source`, or the same model in another type. `chunks` are tokens, of equal number.
        What the original says to them is kept in `folder`, as far as its disk has room. Raises
        OutOfMemory.
        """
        self._source = source
        self._loaded = loaded
        self._loaded_as = {tensor.name: tensor for tensor in loaded.tensors}
        self._chunks = chunks
        self._encoder = encoder
        self._n_threads = n_threads or n_cores()
        self._evaluator = Evaluator(model, len(chunks[0]), n_threads)
        try:
            self._weights = LoadedWeights(model)
        except BaseException:
            self._evaluator.close()
            raise
        shape = self._evaluator.n_scored, self._evaluator.n_vocab
        self._kept = KeptLogits(*shape, len(chunks) * 4 * math.prod(shape), folder)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sensitivity")

    @property
    def n_kept(self) -> int:
        """For how many chunks it is kept what the original says; known after `read_original`."""
        return self._kept.n

    def measure(
        self, group: Sequence[TensorInfo], coarse: Mapping[str, GgmlType], meanwhile: Progress
    ) -> Generator[Progress, None, Group]:
        """Make the tensors of `group` `coarse`, measure, and put them back as they were.

        Where what the original says is not kept it has to say it again: that takes longer, and
        changes nothing. Not measured to the end, they stay as they are: `close` is all that is
        left to do then.
        """
        import numpy as np

        names = tuple(tensor.name for tensor in group)
        tensors = [tensor for tensor in group if tensor.name in self._weights]
        unused = tuple(name for name in names if name not in self._weights)
        if not tensors:
            return Group(names, 0.0, unused)
        found = []
        if self._kept.n:
            yield from self._replace(tensors, coarse, meanwhile)
            found += yield from self._at_work(self._of_kept, meanwhile)
        for chunk in self._chunks[self._kept.n :]:
            yield from self._restore(tensors, meanwhile)
            expected = yield from self._at_work(partial(self._logits, chunk), meanwhile)
            yield from self._replace(tensors, coarse, meanwhile)
            compare = partial(self._divergences, chunk, expected.copy())
            found.append((yield from self._at_work(compare, meanwhile)))
        yield from self._restore(tensors, meanwhile)
        return Group(names, float(np.concatenate(found).mean()), unused)

    def read_original(self, meanwhile: Progress) -> Generator[Progress, None, None]:
        """Let the untouched model read the chunks; before the first `measure`.

        Raises CorruptFile for a model that computes no numbers.
        """
        yield from self._at_work(self._keep, meanwhile)

    def close(self) -> None:
        self._thread.shutdown()
        self._evaluator.close()
        self._kept.close()

    def _at_work(self, work: Callable[[], T], meanwhile: Progress) -> Generator[Progress, None, T]:
        future = self._thread.submit(work)
        return (yield from wait(future, meanwhile, self._evaluator.interrupt))

    def _keep(self) -> None:
        import numpy as np

        for chunk in self._chunks:
            logits = self._logits(chunk)
            if not np.isfinite(logits).all():
                raise CorruptFile(
                    "What this model expects next is not a number.",
                    hint="It is damaged or was not converted well: get it again.",
                )
            self._kept.append(logits)

    def _of_kept(self) -> list[NDArray[np.float64]]:
        found = []
        for index, chunk in enumerate(self._chunks[: self._kept.n]):
            expected = self._kept.read(index)
            assert expected is not None
            found.append(self._divergences(chunk, expected))
        return found

    def _divergences(
        self, chunk: Sequence[int], expected: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        """Those of each token of `chunk`, in nats; `expected` are the original's logits."""
        return score(expected, self._logits(chunk), self._evaluator.targets(chunk)).kld

    def _logits(self, chunk: Sequence[int]) -> NDArray[np.float32]:
        """A view, until the next call."""
        logits = self._evaluator.logits(chunk)
        if logits is None:
            raise CancelledError
        return logits

    def _replace(
        self,
        tensors: Sequence[TensorInfo],
        coarse: Mapping[str, GgmlType],
        meanwhile: Progress,
    ) -> Generator[Progress, None, None]:
        def make_coarse(piece: _Stretch) -> NDArray[np.generic]:
            tensor, start, stop = piece
            stored, target = self._loaded_as[tensor.name].type, coarse[tensor.name]
            rows = self._source.rows(tensor, start, stop)
            rounded = dequantize_rows(target, self._encoder.stock(tensor, target, rows, start))
            if stored.is_float:
                return from_float32(rounded, stored)
            return quantize_rows(stored, rounded)

        pieces = (piece for tensor in tensors for piece in _stretches(tensor))
        with threads(self._n_threads, "coarse") as pool:
            for piece, future in in_order(pool, make_coarse, pieces, self._n_threads + 1):
                yield meanwhile
                self._write(piece.tensor, piece.start, (yield from wait(future, meanwhile)))
                self._source.forget()  # beside the loaded model it would be there twice

    def _restore(
        self, tensors: Sequence[TensorInfo], meanwhile: Progress
    ) -> Generator[Progress, None, None]:
        import numpy as np

        for tensor in tensors:
            loaded = self._loaded_as[tensor.name]
            for _, start, stop in _stretches(tensor):
                yield meanwhile
                data = np.frombuffer(self._loaded.raw(loaded, start, stop), np.uint8)
                self._write(tensor, start, data)
                self._loaded.forget()

    def _write(self, tensor: TensorInfo, start: int, data: NDArray[np.generic]) -> None:
        import numpy as np

        flat = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        self._weights.write(tensor.name, flat, start * self._loaded_as[tensor.name].row_bytes)


def _stretches(tensor: TensorInfo) -> Iterator[_Stretch]:
    n_rows = max(1, CHUNK_ELEMENTS // tensor.n_cols)
    for start in range(0, tensor.n_rows, n_rows):
        yield _Stretch(tensor, start, min(tensor.n_rows, start + n_rows))
