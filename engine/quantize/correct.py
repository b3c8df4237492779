"""The second round of a shrink: finds out what each matrix has to make up for (`corrected`).

The original and a copy that is rounded tensor by tensor read the same text, once for each input of
a matrix, in the order in which a model computes. So it is for small models.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from engine.calibrate.collect import Collector
from engine.calibrate.inputs import Input
from engine.calibrate.statistics import EMBEDDING
from engine.files import replace_bytes
from engine.ggml_types import GgmlType
from engine.gguf_values import TensorInfo
from engine.jobs import Progress, Step
from engine.llama.context import Context
from engine.llama.ggml import dequantize_rows
from engine.llama.model import Model, load_model
from engine.llama.observe import Observer, Product
from engine.llama.weights import LoadedWeights
from engine.model_writer import TILE_ROWS, Plan, write_model
from engine.quantize.choice import Chosen
from engine.quantize.corrected import TOKENS_AS_ONE, CorrectedSource, Moments
from engine.quantize.encode import Care, Encoder
from engine.workers import in_order, n_cores, threads, wait

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.quantize.workbench import Workbench
    from engine.source import ModelSource

CHUNK_ELEMENTS = 2**19


def correct(
    chosen: Chosen,
    care: Care,
    texts: Callable[[Model], Generator[Step, None, list[list[int]]]],
    bench: Workbench,
    n_threads: int,
) -> Generator[Step, None, Chosen]:
    """Return `chosen` with a source whose matrices make up for what is lost before them.

    They are rounded with `care`; `texts` gives chunks of tokens to read, all of one length. What is
    found out of each input is kept on the workbench. Raises OutOfMemory, and what writing a file
    raises.
    """
    made_from = chosen.plan.tensors, chosen.folds, care, TOKENS_AS_ONE
    digest = hashlib.sha256(repr(made_from).encode()).hexdigest()
    name = f"correction-{digest[:16]}"
    files = bench.load(f"{name}.json", dict[str, str])
    if files is None:
        files = yield from _corrections(chosen, care, texts, bench, name, n_threads)
        bench.save(f"{name}.json", files)
    paths = {tensor: bench.path(file) for tensor, file in files.items()}
    return chosen._replace(source=CorrectedSource(chosen.source, paths))


def _corrections(
    chosen: Chosen,
    care: Care,
    texts: Callable[[Model], Generator[Step, None, list[list[int]]]],
    bench: Workbench,
    name: str,
    n_threads: int,
) -> Generator[Step, None, dict[str, str]]:
    """Make what `CorrectedSource` takes; returns the names of the files by that of the tensor."""
    twin = bench.path(f"{name}.gguf")
    if not twin.exists():
        floats = _in_floats(chosen.source)
        yield from write_model(chosen.source, floats, str(twin), "Preparing the model", n_threads)
    with ExitStack() as stack:
        original = stack.enter_context(closing((yield from load_model(twin))))
        chunks = yield from texts(original)
        rounded = stack.enter_context(closing((yield from load_model(twin, is_copied=True))))
        if rounded.vocabulary.adds_bos:
            chunks = [[rounded.vocabulary.bos, *chunk[1:]] for chunk in chunks]
        n_ctx = len(chunks[0])
        with closing(Collector(rounded, n_ctx, n_threads)) as surveyor:
            inputs = surveyor.survey(chunks[0])
        pair = Pair(
            *(
                stack.enter_context(closing(InputReader(model, n_ctx, n_threads)))
                for model in (original, rounded)
            )
        )
        correction = Correction(chosen, care, pair, LoadedWeights(rounded), n_threads)
        stack.callback(correction.close)
        files = yield from correction.run(inputs, chunks, bench, name)
    twin.unlink(missing_ok=True)
    return {tensor: path.name for tensor, path in files.items()}


class Pair(NamedTuple):
    """The same model twice."""

    original: InputReader
    rounded: InputReader


class Correction:
    """Rounds one of `pair`, whose `weights` are in F32, as `chosen` is; `close` it at the end."""

    def __init__(
        self, chosen: Chosen, care: Care, pair: Pair, weights: LoadedWeights, n_threads: int
    ) -> None:
        self._chosen = chosen
        self._pair = pair
        self._weights = weights
        self._n_threads = n_threads or n_cores()
        self._encoder = Encoder(chosen.statistics, care, self._n_threads)
        self._source_of = {tensor.name: tensor for tensor in chosen.source.tensors}
        self._type_of = {tensor.name: tensor.type for tensor in chosen.plan.tensors}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="correct")

    def run(
        self,
        inputs: Sequence[Input],
        chunks: Sequence[Sequence[int]],
        bench: Workbench,
        name: str,
    ) -> Generator[Step, None, dict[str, Path]]:
        """Round all tensors in the order of `inputs`; returns the files of what is corrected."""
        plain = [one for one in inputs if self._is_correctable(one)]
        correctable = {tensor for one in plain for tensor in one.tensors}
        files: dict[str, Path] = {}
        begun = Progress("Correcting", 0, len(plain), "steps")
        for tensor in self._source_of.values():
            if tensor.name not in correctable:
                yield from self._round(tensor, files, begun)
        for done, one in enumerate(plain):
            meanwhile = Progress("Correcting", done, len(plain), "steps")
            tensors = [self._source_of[t] for t in one.tensors if self._is_rounded(t)]
            file = bench.path(f"{name}-{done}.npy")
            if tensors and not file.exists():
                replace_bytes(file, _as_file((yield from self._look(one, chunks, meanwhile))))
            files |= dict.fromkeys((tensor.name for tensor in tensors), file)
            for tensor in tensors:
                yield from self._round(tensor, files, meanwhile)
        return files

    def close(self) -> None:
        self._thread.shutdown()
        self._encoder.close()

    def _is_correctable(self, one: Input) -> bool:
        """Whether it is that of whole matrices that are written, and not of the embedding.

        Every input comes from the rows of that: it is rounded first, also where it is the output.
        """
        is_whole = one.n_block == one.n_cols and one.n_matrices == 1 and not one.is_routed
        known = all(tensor in self._type_of for tensor in one.tensors)
        return is_whole and known and EMBEDDING not in one.tensors

    def _is_rounded(self, tensor: str) -> bool:
        """Whether the file will hold it in another type than it comes in."""
        target = self._type_of.get(tensor)
        return not (target is None or target.is_float or target is self._source_of[tensor].type)

    def _look(
        self, one: Input, chunks: Sequence[Sequence[int]], meanwhile: Progress
    ) -> Generator[Step, None, NDArray[np.float32]]:
        """Let both models read, and return the correction of the matrices of `one`."""
        moments = Moments(one.n_cols, self._n_threads)
        for chunk in chunks:
            future = self._thread.submit(self._add, moments, chunk, one.name)
            yield from wait(future, meanwhile, self._interrupt)
        return (yield from wait(self._thread.submit(moments.correction), meanwhile))

    def _add(self, moments: Moments, chunk: Sequence[int], tensor: str) -> None:
        original = self._pair.original.read(chunk, tensor)
        moments.add(original, self._pair.rounded.read(chunk, tensor))

    def _interrupt(self) -> None:
        self._pair.original.interrupt()
        self._pair.rounded.interrupt()

    def _round(
        self, tensor: TensorInfo, files: dict[str, Path], meanwhile: Progress
    ) -> Generator[Step, None, None]:
        """Give the rounded model what its file will hold of `tensor`."""
        import numpy as np

        if tensor.name not in self._weights or not self._is_rounded(tensor.name):
            return
        target = self._type_of[tensor.name]
        source = CorrectedSource(self._chosen.source, files)

        def encoded(start: int, stop: int) -> NDArray[np.float32]:
            rows = source.rows(tensor, start, stop)
            return dequantize_rows(target, self._encoder.encode(tensor, target, rows, start))

        n_rows = max(1, CHUNK_ELEMENTS // tensor.n_cols // TILE_ROWS) * TILE_ROWS
        parts = [(a, min(tensor.n_rows, a + n_rows)) for a in range(0, tensor.n_rows, n_rows)]
        with threads(self._n_threads, "rounding") as pool:
            for (start, _), future in in_order(
                pool, lambda part: encoded(*part), parts, self._n_threads + 1
            ):
                rows = yield from wait(future, meanwhile)
                data = np.ascontiguousarray(rows).reshape(-1).view(np.uint8)
                self._weights.write(tensor.name, data, start * 4 * tensor.n_cols)
        self._chosen.source.forget()


class InputReader:
    """A model of which one input at a time is looked at; for one thread, `interrupt` excepted."""

    def __init__(self, model: Model, n_ctx: int, n_threads: int) -> None:
        """Raises OutOfMemory. The model stays with the caller."""
        self._context = Context(
            model,
            n_ctx,
            n_threads=n_threads,
            n_batch=n_ctx,
            n_ubatch=n_ctx,
            n_outputs_max=n_ctx,
            observer=Observer(self._wants, self._see),
        )
        self._tensor = ""
        self._rows: NDArray[np.float32] | None = None

    def read(self, chunk: Sequence[int], tensor: str) -> NDArray[np.float32]:
        """Return what flows into `tensor`, [n_tokens, n_cols]; no more is computed than it takes.

        Raises CancelledError once interrupted.
        """
        self._tensor = tensor
        rows = self._read(chunk, 1)
        # In the last layer only those tokens are left whose logits are wanted; to copy the logits
        # of all takes longer than all else.
        return rows if len(rows) == len(chunk) else self._read(chunk, len(chunk))

    def interrupt(self) -> None:
        self._context.abort.set()

    def close(self) -> None:
        self._context.close()

    def _read(self, chunk: Sequence[int], n_outputs: int) -> NDArray[np.float32]:
        self._rows = None
        self._context.clear()
        self._context.decode(chunk, n_outputs)
        if self._rows is None:
            raise CancelledError
        return self._rows

    def _wants(self, product: Product) -> bool:
        return self._rows is None and product.weight == self._tensor

    def _see(self, product: Product) -> bool:
        self._rows = product.rows()[0].copy()
        return False


def _in_floats(source: ModelSource) -> Plan:
    """The file of `source` with its matrices in F32."""
    tensors = [
        tensor if len(tensor.shape) == 1 else msgspec.structs.replace(tensor, type=GgmlType.F32)
        for tensor in source.tensors
    ]
    return Plan(dict(source.metadata), tuple(tensors), tuple(source.tensors), only_finite=True)


def _as_file(numbers: NDArray[np.float32]) -> bytes:
    import numpy as np

    file = io.BytesIO()
    np.save(file, numbers, allow_pickle=False)
    return file.getvalue()
