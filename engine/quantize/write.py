"""Writing the quantized file: what it will hold, known beforehand, and its bytes.

The same file as `llama-quantize` writes: its order of tensors, its metadata, its bytes. Knows
recipes only as the types they give.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from typing import TYPE_CHECKING, TypeVar

import msgspec

from engine.errors import CorruptFile, UnsupportedTensor
from engine.gguf import TensorInfo, Value, gguf_size_bytes, write_gguf
from engine.quantize.recipe import Recipe, tensor_types
from engine.splits import SPLIT_KEYS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.source import ModelSource

T = TypeVar("T")

QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION
# Numbers in a chunk: 2 MiB as float32, and 50 ms of the slowest type, so that a cancel is quick.
CHUNK_ELEMENTS = 2**19
_PATIENCE_S = 0.05  # the longest time between two steps of a job, with some room


class Plan(msgspec.Struct, frozen=True):
    """A file to be written: its header, and the tensors of the source in the same order."""

    metadata: dict[str, Value]
    tensors: tuple[TensorInfo, ...]
    sources: tuple[TensorInfo, ...]
    size_bytes: int

    @property
    def bits_per_weight(self) -> float:
        n_elements = sum(tensor.n_elements for tensor in self.tensors)
        return 8 * sum(tensor.n_bytes for tensor in self.tensors) / max(1, n_elements)

    @property
    def source_bytes(self) -> int:
        return sum(tensor.n_bytes for tensor in self.sources)


def plan(source: ModelSource, recipe: Recipe) -> Plan:
    """Lay out the file that `recipe` makes of `source`; its size is exact.

    Raises UnsupportedTensor when `source` is quantized already.
    """
    _require_unquantized(source)
    types = tensor_types(recipe, source.tensors, source.metadata)
    by_name = {tensor.name: tensor for tensor in source.tensors}
    sources = tuple(by_name[name] for name in types)
    tensors = tuple(TensorInfo(tensor.name, tensor.shape, types[tensor.name]) for tensor in sources)
    stamps = {
        "general.quantization_version": Value.u32(QUANTIZATION_VERSION),
        "general.file_type": Value.u32(recipe.file_type),
    }
    dropped = (*SPLIT_KEYS, *stamps)
    metadata = {key: value for key, value in source.metadata.items() if key not in dropped}
    metadata |= stamps
    return Plan(metadata, tensors, sources, gguf_size_bytes(metadata, tensors))


def write(
    source: ModelSource, to_do: Plan, out: str, n_threads: int = 0, *, overwrite: bool = False
) -> Generator[int, None, None]:
    """Quantize `source` into the file `out`, which appears whole at the end or not at all.

    Yields the bytes of the source done so far, at least every 100 ms; `n_threads` 0 is all cores.
    Raises CorruptFile naming the tensor that holds NaN or infinity, and what `write_gguf` raises.
    """
    n_threads = n_threads or _n_cores()
    done_bytes = 0
    with write_gguf(out, to_do.metadata, to_do.tensors, overwrite=overwrite) as writer:
        workers = ThreadPoolExecutor(n_threads, thread_name_prefix="quantize")
        # Apart, because a slow disk must hold up neither the workers nor a cancel.
        disk = ThreadPoolExecutor(1, thread_name_prefix="write")
        try:
            for n_bytes, data in _in_order(workers, _chunks(source, to_do), 2 * n_threads + 2):
                quantized = yield from _wait(data, done_bytes)
                written = disk.submit(writer.write, quantized.data)
                yield from _wait(written, done_bytes)
                done_bytes += n_bytes
                yield done_bytes
        finally:
            workers.shutdown(cancel_futures=True)
            disk.shutdown(cancel_futures=True)


def _chunks(
    source: ModelSource, to_do: Plan
) -> Iterator[tuple[int, Callable[[], NDArray[np.uint8]]]]:
    """Every piece of work as (bytes of the source, what makes the bytes to write)."""
    for old, new in zip(to_do.sources, to_do.tensors, strict=True):
        n_rows = max(1, CHUNK_ELEMENTS // max(1, old.n_cols))
        for start in range(0, old.n_rows, n_rows):
            stop = min(old.n_rows, start + n_rows)
            n_bytes = (stop - start) * old.row_bytes
            yield n_bytes, _Chunk(source, old, new, start, stop)


class _Chunk:
    """Some rows of a tensor; calling it makes their bytes in the new type."""

    def __init__(
        self, source: ModelSource, old: TensorInfo, new: TensorInfo, start: int, stop: int
    ) -> None:
        self._source = source
        self._old, self._new = old, new
        self._rows = (start, stop)

    def __call__(self) -> NDArray[np.uint8]:
        """Return uint8 [n_rows, row_bytes]."""
        import numpy as np

        from engine.llama.ggml import is_valid, quantize_rows

        if self._old.type != self._new.type:
            rows = self._source.rows(self._old, *self._rows)
            try:
                return quantize_rows(self._new.type, rows)
            except UnsupportedTensor as e:
                raise _corrupt(self._old) from e
        copied = np.frombuffer(self._source.raw(self._old, *self._rows), np.uint8)
        if not is_valid(self._old.type, copied):
            raise _corrupt(self._old)
        return copied.reshape(-1, self._old.row_bytes)


def _in_order(
    workers: ThreadPoolExecutor,
    chunks: Iterator[tuple[int, Callable[[], NDArray[np.uint8]]]],
    n_ahead: int,
) -> Iterator[tuple[int, Future[NDArray[np.uint8]]]]:
    """Start up to `n_ahead` chunks and hand them out in order: that bounds the memory."""
    started: deque[tuple[int, Future[NDArray[np.uint8]]]] = deque()
    for n_bytes, make in chunks:
        started.append((n_bytes, workers.submit(make)))
        if len(started) == n_ahead:
            yield started.popleft()
    while started:
        yield started.popleft()


def _wait(future: Future[T], done_bytes: int) -> Generator[int, None, T]:
    while True:
        try:
            return future.result(_PATIENCE_S)
        except NotYet:
            yield done_bytes


def _require_unquantized(source: ModelSource) -> None:
    for tensor in source.tensors:
        if tensor.type.is_quantized:
            raise UnsupportedTensor(
                "This model is quantized already; shrinking it again loses more than it saves.",
                hint="Start from the original checkpoint, or from an F16, BF16 or F32 file.",
                details=f"{tensor.name} is {tensor.type.name}",
            )


def _corrupt(tensor: TensorInfo) -> CorruptFile:
    return CorruptFile(
        f"The tensor {tensor.name} holds numbers that are infinite, or not numbers at all.",
        hint="The file is damaged or was not converted well: get it again.",
    )


def _n_cores() -> int:
    """The cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
