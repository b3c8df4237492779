"""A GGUF file: its metadata, its tensor directory, its tensor data; reading and writing.

numpy is imported only when rows are read, so the window can list models. Knows nothing of what a
key means. Format: ggml/docs/gguf.md of llama.cpp.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from engine.errors import CorruptFile, UnsupportedTensor
from engine.files import read_error
from engine.gguf_header import DEFAULT_ALIGNMENT, MAGIC, VERSION, aligned, read_header
from engine.gguf_values import (
    U32,
    U64,
    Array,
    TensorInfo,
    Value,
    ValueType,
    encode,
    encode_string,
)
from engine.mapped import forget, map_file
from engine.output import OutputFile, new_file
from engine.partial import Note

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Array",
    "GgufFile",
    "GgufWriter",
    "TensorInfo",
    "Value",
    "ValueType",
    "gguf_size_bytes",
    "write_gguf",
]


class GgufFile:
    """An open GGUF; a ModelSource. Only `raw` and `rows` keep the file open, until `close`."""

    can_decode = False

    def __init__(
        self,
        path: Path,
        metadata: Mapping[str, Value],
        tensors: tuple[TensorInfo, ...],
        data_offset: int,
        size_bytes: int,
    ) -> None:
        self.path = path
        self.metadata = metadata
        self.tensors = tensors
        self.data_offset = data_offset
        self.size_bytes = size_bytes
        self._map: mmap.mmap | None = None

    @classmethod
    def open(cls, path: str | PathLike[str]) -> GgufFile:
        """Read the header of `path`.

        Raises NotFound, StorageError, CorruptFile, or UnsupportedTensor for a tensor type that
        ggml does not know.
        """
        path = Path(fspath(path))
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe: opening it may wait
            raise CorruptFile(f"{path.name} is no ordinary file.", hint="Choose a .gguf file.")
        try:
            with path.open("rb") as file:
                return cls(path, *read_header(file, path.name, os.fstat(file.fileno()).st_size))
        except OSError as e:
            raise read_error(e, path) from e

    def get(self, key: str, default: Any = None) -> Any:
        """The plain value of `key`, without its type."""
        found = self.metadata.get(key)
        return default if found is None else found.value

    def raw(self, tensor: TensorInfo, start: int, stop: int) -> memoryview:
        """Rows `start` to `stop` of `tensor` as stored, without a copy."""
        if self._map is None:
            self._map = self._mapped()
        at = self.data_offset + tensor.offset
        return memoryview(self._map)[at + start * tensor.row_bytes : at + stop * tensor.row_bytes]

    def rows(self, tensor: TensorInfo, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop` of a F32, F16 or BF16 tensor, float32 [stop - start, n_cols].

        Raises UnsupportedTensor for a quantized tensor.
        """
        from engine.floats import to_float32

        if not tensor.type.is_float:
            raise UnsupportedTensor(
                f"{self.path.name} is already quantized ({tensor.name} is {tensor.type.name}).",
                hint="Start from the original checkpoint, or from an F16, BF16 or F32 file.",
            )
        return to_float32(self.raw(tensor, start, stop), tensor.type).reshape(-1, tensor.n_cols)

    def _mapped(self) -> mmap.mmap:
        mapped = map_file(self.path)
        if len(mapped) != self.size_bytes:
            mapped.close()
            raise CorruptFile(
                f"{self.path.name} changed while it was read.",
                hint="Wait until it is complete, then try again.",
            )
        return mapped

    def forget(self) -> None:
        """Let go of the memory that what was read takes."""
        if self._map is not None:
            forget(self._map)

    def close(self) -> None:
        """Let go of the file; it is closed with the last view of it."""
        # Not closed here: the traceback of an error still holds views, and would become another.
        self._map = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class GgufWriter:
    """Takes the tensor data of a new GGUF in the order of `tensors`, in pieces of any size.

    What a job that was broken off has left can be looked at with `has` and `read`; `go_on` says
    from where on it is written anew, and without that all of it is.
    """

    def __init__(
        self, output: OutputFile, header: bytes, tensors: Sequence[TensorInfo], alignment: int
    ) -> None:
        self.tensors = tuple(tensors)
        self._output = output
        sizes = (aligned(tensor.n_bytes, alignment) for tensor in tensors)
        self._begins = tuple(accumulate(sizes, initial=len(header)))
        self._index = 0
        is_empty = self._begins[-1] == len(header)
        if is_empty or output.read(0, len(header)) != header:
            output.keep(0)
            output.write(header)
            self._pass_whole()

    def has(self, index: int, n_bytes: int) -> bool:
        """Whether the first `n_bytes` of tensor number `index`, and all before, were left."""
        return self._begins[index] + n_bytes <= self._output.n_kept

    def read(self, index: int, start: int, stop: int) -> bytes:
        """The bytes `start` to `stop` of tensor number `index` that were left."""
        return self._output.read(self._begins[index] + start, stop - start)

    def go_on(self, index: int, n_bytes: int) -> None:
        """Write next what comes after the first `n_bytes` of tensor number `index`."""
        self._output.keep(self._begins[index] + n_bytes)
        self._index = index
        self._pass_whole()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data` to the current tensor; a piece never reaches into the next tensor."""
        if self._output.n_kept:
            self.go_on(0, 0)
        if self.is_complete:
            raise ValueError("more data than tensors")
        data = memoryview(data).cast("B")
        if self._output.n_bytes + len(data) > self._end:
            raise ValueError(f"more data than {self.tensors[self._index].name} holds")
        self._output.write(data)
        self._pass_whole()

    @property
    def is_complete(self) -> bool:
        return self._index == len(self.tensors)

    @property
    def _end(self) -> int:
        """Where the data of the current tensor end."""
        return self._begins[self._index] + self.tensors[self._index].n_bytes

    def _pass_whole(self) -> None:
        """Go to the next tensor that has yet to be written, over the padding."""
        while not self.is_complete and self._output.n_bytes == self._end:
            self._output.write(bytes(self._begins[self._index + 1] - self._end))
            self._index += 1


@contextmanager
def write_gguf(
    path: str | PathLike[str],
    metadata: Mapping[str, Value],
    tensors: Sequence[TensorInfo],
    *,
    overwrite: bool = False,
    note: Note | None = None,
) -> Generator[GgufWriter, None, None]:
    """Create the GGUF `path`: the header at once, the data through the writer in the block.

    Metadata is written as given, in its order and with its types; tensor offsets are computed here
    (those in `tensors` are ignored). The file appears whole at the end of the block or not at all;
    what `note` is for says `new_file`. Raises AlreadyExists, NotFound, DiskFull (before any work),
    NotWritable; ValueError when the block gave too little data.
    """
    header, alignment = encode_header(metadata, tensors)
    size_bytes = len(header) + sum(aligned(t.n_bytes, alignment) for t in tensors)
    with new_file(path, size_bytes=size_bytes, overwrite=overwrite, note=note) as output:
        writer = GgufWriter(output, header, tensors, alignment)
        yield writer
        if not writer.is_complete:
            raise ValueError(f"{writer.tensors[writer._index].name} was not written")


def encode_header(
    metadata: Mapping[str, Value], tensors: Sequence[TensorInfo]
) -> tuple[bytes, int]:
    """The bytes up to the data section, padded, and the alignment."""
    alignment_value = metadata.get("general.alignment")
    alignment = DEFAULT_ALIGNMENT if alignment_value is None else int(alignment_value.value)
    parts = [MAGIC, U32.pack(VERSION), U64.pack(len(tensors)), U64.pack(len(metadata))]
    for key, value in metadata.items():
        parts += [encode_string(key), U32.pack(value.type), encode(value.type, value.value)]
    offset = 0
    for tensor in tensors:
        parts += [encode_string(tensor.name), U32.pack(len(tensor.shape))]
        parts += [U64.pack(n) for n in tensor.shape]
        parts += [U32.pack(tensor.type), U64.pack(offset)]
        offset += aligned(tensor.n_bytes, alignment)
    header = b"".join(parts)
    if tensors:
        header += bytes(aligned(len(header), alignment) - len(header))
    return header, alignment


def gguf_size_bytes(metadata: Mapping[str, Value], tensors: Sequence[TensorInfo]) -> int:
    """The exact size of the file that `write_gguf` would make."""
    header, alignment = encode_header(metadata, tensors)
    return len(header) + sum(aligned(t.n_bytes, alignment) for t in tensors)
