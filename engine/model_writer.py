"""Writes a model file: what it will hold is planned beforehand, to the byte, and written in order.

Rows are copied, encoded or quantized by several threads, a few megabytes at a time. Knows nothing
of recipes and architectures: a plan says which type each tensor gets.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from itertools import islice, takewhile
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from engine.errors import CorruptFile, UnsupportedTensor
from engine.ggml_types import GgmlType
from engine.gguf import GgufWriter, TensorInfo, Value, gguf_size_bytes, write_gguf
from engine.jobs import Progress
from engine.partial import Note
from engine.workers import in_order, n_cores, threads, wait

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.source import ModelSource

    # Rows of a tensor, from a row on, [n_rows, n_cols], to the bytes of a type, [n_rows, n_bytes].
    Encode = Callable[[TensorInfo, GgmlType, NDArray[np.float32], int], NDArray[np.uint8]]
    Make = Callable[["Chunk"], NDArray[np.uint8]]

# Numbers in a chunk: 2 MiB as float32, and 50 ms of the slowest type, so that a cancel is quick.
CHUNK_ELEMENTS = 2**19
TILE_ROWS = 32  # the kernels round so many rows at once: of a part of a tile they do all
FORGET_BYTES = 128 << 20  # so much of the source is in memory, and a little more
N_COMPARED = 8  # chunks of what was left, and a few more


class Plan(msgspec.Struct, frozen=True, dict=True):
    """A file to be written: its header, and the tensors of the source in the same order.

    `only_finite` refuses NaN and infinity; without it they are passed on.
    """

    metadata: dict[str, Value]
    tensors: tuple[TensorInfo, ...]
    sources: tuple[TensorInfo, ...]
    only_finite: bool

    @cached_property
    def size_bytes(self) -> int:
        return gguf_size_bytes(self.metadata, self.tensors)

    @property
    def bits_per_weight(self) -> float:
        n_elements = sum(tensor.n_elements for tensor in self.tensors)
        return 8 * sum(tensor.n_bytes for tensor in self.tensors) / max(1, n_elements)

    @property
    def source_bytes(self) -> int:
        return sum(tensor.n_bytes for tensor in self.sources)


class Chunk(NamedTuple):
    """Rows `start` to `stop` of tensor number `i_tensor`, in the type it has and in the new one."""

    i_tensor: int
    old: TensorInfo
    new: TensorInfo
    start: int
    stop: int

    @property
    def source_bytes(self) -> int:
        return (self.stop - self.start) * self.old.row_bytes

    @property
    def new_bytes(self) -> tuple[int, int]:
        """Where it begins and ends in the new tensor."""
        return self.start * self.new.row_bytes, self.stop * self.new.row_bytes


def write_model(
    source: ModelSource,
    plan: Plan,
    out: str,
    stage: str,
    n_threads: int = 0,
    *,
    overwrite: bool = False,
    note: Note | None = None,
    encode: Encode | None = None,
) -> Generator[Progress, None, None]:
    """Write the file `out` as `plan` says; it appears whole at the end or not at all.

    Yields how far `stage` is in bytes of the source, at least every 100 ms; `n_threads` 0 is all
    cores. `encode` quantizes rows, from several threads; None does it as ggml. What a job of the
    same `note` has left is gone on from. Raises CorruptFile naming the
    tensor that holds NaN or infinity, UnsupportedTensor naming the one that F16 cannot hold, and
    what `write_gguf` raises.
    """
    n_threads = n_threads or n_cores()
    with (
        write_gguf(out, plan.metadata, plan.tensors, overwrite=overwrite, note=note) as writer,
        threads(n_threads, "quantize") as workers,
        # Apart, because a slow disk must hold up neither the workers nor a cancel.
        threads(1, "write") as disk,
    ):
        make = partial(_encode, source, plan.only_finite, encode or _by_ggml)
        n_left = yield from _left(writer, plan, workers, make)
        done_bytes = sum(chunk.source_bytes for chunk in islice(_chunks(plan), n_left))
        progress = Progress(stage, done_bytes, plan.source_bytes, "bytes")
        to_do = islice(_chunks(plan), n_left, None)
        for chunk, encoded in in_order(workers, make, to_do, 2 * n_threads + 2):
            data = yield from wait(encoded, progress)
            yield from wait(disk.submit(writer.write, data.data), progress)
            done = progress.done + chunk.source_bytes
            if done // FORGET_BYTES > progress.done // FORGET_BYTES:
                source.forget()
            progress = msgspec.structs.replace(progress, done=done)
            yield progress


def _chunks(plan: Plan) -> Iterator[Chunk]:
    """The whole work, in the order of the file."""
    for index, (old, new) in enumerate(zip(plan.sources, plan.tensors, strict=True)):
        n_tiles = max(1, CHUNK_ELEMENTS // TILE_ROWS // max(1, old.n_cols))
        n_rows = n_tiles * TILE_ROWS
        for start in range(0, old.n_rows, n_rows):
            yield Chunk(index, old, new, start, min(old.n_rows, start + n_rows))


def _left(
    writer: GgufWriter, plan: Plan, workers: ThreadPoolExecutor, make: Make
) -> Generator[Progress, None, int]:
    """How many chunks a job that was broken off has left; `writer` goes on after them.

    Some of them, the last one too, are made again and compared: a source may be another one all the
    same, and another version of Snug may write other bytes. If one differs, all is made anew.
    """
    left = takewhile(lambda c: writer.has(c.i_tensor, c.new_bytes[1]), _chunks(plan))
    n_left, done_bytes = sum(1 for _ in left), 0
    for number, chunk in enumerate(islice(_chunks(plan), n_left), 1):
        done_bytes += chunk.source_bytes
        if (n_left - number) % max(1, n_left // N_COMPARED):
            continue
        progress = Progress("Going on", done_bytes, plan.source_bytes, "bytes")
        yield progress
        data = yield from wait(workers.submit(make, chunk), progress)
        if writer.read(chunk.i_tensor, *chunk.new_bytes) != data.tobytes():
            return 0
        if number == n_left:
            writer.go_on(chunk.i_tensor, chunk.new_bytes[1])
    return n_left


def _encode(
    source: ModelSource, only_finite: bool, encode: Encode, chunk: Chunk
) -> NDArray[np.uint8]:
    """The bytes of `chunk` in its new type, uint8 [n_bytes]."""
    import numpy as np

    if chunk.old.type is chunk.new.type:
        data = np.frombuffer(source.raw(chunk.old, chunk.start, chunk.stop), np.uint8)
    elif chunk.new.type.is_float:
        data = _as_float(source, chunk)
    else:
        return _quantized(source, encode, chunk)
    if only_finite:
        from engine.llama.ggml import is_valid

        if not is_valid(chunk.new.type, data):
            raise corrupt(chunk.old)
    return data


def _as_float(source: ModelSource, chunk: Chunk) -> NDArray[np.uint8]:
    import numpy as np

    from engine.floats import from_float32, has_infinity

    rows = source.rows(chunk.old, chunk.start, chunk.stop)
    encoded = from_float32(rows, chunk.new.type)
    if chunk.new.type is GgmlType.F16 and has_infinity(encoded) and not np.isinf(rows).any():
        raise UnsupportedTensor(
            f"{chunk.old.name} holds numbers that are too large for F16.",
            hint="Keep this model in BF16 or F32 instead.",
            details=f"largest: {float(np.abs(rows).max()):g}",
        )
    return encoded.reshape(-1).view(np.uint8)


def _by_ggml(
    _tensor: TensorInfo, target: GgmlType, rows: NDArray[np.float32], _start: int
) -> NDArray[np.uint8]:
    from engine.llama.ggml import quantize_rows

    return quantize_rows(target, rows)


def _quantized(source: ModelSource, encode: Encode, chunk: Chunk) -> NDArray[np.uint8]:
    rows = source.rows(chunk.old, chunk.start, chunk.stop)
    try:  # ggml has seen to it that they are finite
        return encode(chunk.old, chunk.new.type, rows, chunk.start).reshape(-1)
    except UnsupportedTensor as error:
        raise corrupt(chunk.old) from error


def corrupt(tensor: TensorInfo) -> CorruptFile:
    """What is raised for a tensor with NaN or infinity in it."""
    return CorruptFile(
        f"The tensor {tensor.name} holds numbers that are infinite, or not numbers at all.",
        hint="The file is damaged or was not converted well: get it again.",
    )
