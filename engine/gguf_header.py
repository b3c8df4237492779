"""Reading the header of a GGUF made by a stranger.

Every length is checked against small caps and against the file before anything is allocated; every
defect is a CorruptFile with a sentence. The rules are those of ggml/src/gguf.cpp, so that what
passes here is not refused by llama.cpp for its form.
"""

from __future__ import annotations

from typing import Protocol

from engine._native import step_over_strings
from engine.errors import CorruptFile, UnsupportedTensor
from engine.ggml_types import GgmlType
from engine.gguf_values import NUMBERS, U32, U64, Array, TensorInfo, Value, ValueType

MAGIC = b"GGUF"
VERSION = 3
DEFAULT_ALIGNMENT = 32

# Far above any real model, far below what would hurt.
MAX_HEADER_BYTES = 512 << 20
MAX_STRING_BYTES = 16 << 20
MAX_ARRAY_ITEMS = 16 << 20
MAX_KEYS = 65_536
MAX_TENSORS = 100_000
MAX_TENSOR_NAME_BYTES = 63  # GGML_MAX_NAME without its terminator
MAX_DIMS = 4
MAX_ALIGNMENT = 1 << 20

READ_BYTES = 1 << 20
INCOMPLETE_HINT = "Download or copy it again: a part of it is missing."
DAMAGED_HINT = "Get the file again from where it came from."


def aligned(n_bytes: int, alignment: int) -> int:
    """`n_bytes` rounded up to a multiple of `alignment`."""
    return -(-n_bytes // alignment) * alignment


class Readable(Protocol):
    """A file, or something that reads like one: fewer bytes than asked for only at its end."""

    def read(self, n_bytes: int, /) -> bytes: ...


def read_header(
    file: Readable, name: str, size_bytes: int
) -> tuple[dict[str, Value], tuple[TensorInfo, ...], int, int]:
    """Read metadata, tensors, the offset of the data section and the file's size in bytes.

    `name` is how messages call the file. Raises CorruptFile, UnsupportedTensor.
    """
    reader = _Reader(file, name, size_bytes)
    n_tensors, n_keys = _read_counts(reader)
    metadata = _read_metadata(reader, n_keys)
    alignment = _alignment(reader, metadata)
    tensors = tuple(_read_tensor(reader) for _ in range(n_tensors))
    if len({t.name for t in tensors}) < len(tensors):
        raise reader.damaged("two tensors have the same name")
    data_offset = aligned(reader.position, alignment) if tensors else reader.position
    _check_data(reader, tensors, data_offset, alignment)
    return metadata, tensors, data_offset, reader.size_bytes


class _Reader:
    """A cursor over the start of the file that reads on as needed."""

    def __init__(self, file: Readable, name: str, size_bytes: int) -> None:
        self.name = name
        self.size_bytes = size_bytes
        self.buffer = bytearray()
        self.position = 0
        self._file = file

    def need(self, n_bytes: int) -> int:
        """Make sure that `n_bytes` more are in the buffer, step over them, return their start."""
        start = self.position
        end = start + n_bytes
        if end > len(self.buffer):
            self._fill(end)
        self.position = end
        return start

    def _fill(self, end: int) -> None:
        if end > self.size_bytes:
            raise self.incomplete("the file ends within its header")
        if end > MAX_HEADER_BYTES:
            raise self.damaged("its header is too large")
        # Doubling keeps the number of reads small for large vocabularies.
        wanted = max(end - len(self.buffer), len(self.buffer), READ_BYTES)
        self.buffer += self._file.read(wanted)
        if end > len(self.buffer):
            raise self.incomplete("the file became shorter while it was read")

    def u32(self) -> int:
        start = self.need(4)
        value: int = U32.unpack_from(self.buffer, start)[0]
        return value

    def u64(self) -> int:
        start = self.need(8)
        value: int = U64.unpack_from(self.buffer, start)[0]
        return value

    def string(self, what: str) -> str:
        return self.take(self._string_bytes(what)).decode("utf-8", "surrogateescape")

    def take(self, n_bytes: int) -> bytes:
        start = self.need(n_bytes)
        return bytes(self.buffer[start : self.position])

    def step_over_strings(self, n_items: int, what: str) -> None:
        """Step over `n_items` strings, without a look into them: vocabularies are long."""
        while n_items:
            self.position, n_items = step_over_strings(
                self.buffer, self.position, n_items, MAX_STRING_BYTES
            )
            if n_items:  # the next one begins behind the buffer's end, or is too long
                self.need(self._string_bytes(what))
                n_items -= 1
        self.need(0)

    def _string_bytes(self, what: str) -> int:
        n_bytes = self.u64()
        if n_bytes > MAX_STRING_BYTES:
            raise self.damaged(f"{what} is {n_bytes} bytes long")
        return n_bytes

    def damaged(self, why: str) -> CorruptFile:
        return CorruptFile(
            f"{self.name} is damaged: {why}.",
            hint=DAMAGED_HINT,
            details=f"at byte {self.position} of {self.size_bytes}",
        )

    def incomplete(self, why: str) -> CorruptFile:
        return CorruptFile(
            f"{self.name} is incomplete: {why}.",
            hint=INCOMPLETE_HINT,
            details=f"at byte {self.position} of {self.size_bytes}",
        )


def _read_counts(reader: _Reader) -> tuple[int, int]:
    if reader.size_bytes == 0:
        raise CorruptFile(f"{reader.name} is empty.", hint=INCOMPLETE_HINT)
    if reader.size_bytes < len(MAGIC) or reader.take(len(MAGIC)) != MAGIC:
        raise CorruptFile(
            f"{reader.name} is not a GGUF model file.",
            hint="Choose a .gguf file, or the folder of a Hugging Face checkpoint.",
            details=f"It starts with {bytes(reader.buffer[:4])!r}, not with b'GGUF'.",
        )
    version = reader.u32()
    if version == 1 or version > VERSION:
        what = "for big-endian computers" if version & 0xFFFF == 0 else f"version {version}"
        raise CorruptFile(
            f"{reader.name} is a GGUF {what}, which Snug cannot read.",
            hint="Look for a current GGUF of this model.",
        )
    if version == 0:
        raise reader.damaged("its version is 0")
    n_tensors, n_keys = reader.u64(), reader.u64()
    if n_tensors > MAX_TENSORS:
        raise reader.damaged(f"it claims to hold {n_tensors} tensors")
    if n_keys > MAX_KEYS:
        raise reader.damaged(f"it claims to hold {n_keys} metadata keys")
    return n_tensors, n_keys


def _read_metadata(reader: _Reader, n_keys: int) -> dict[str, Value]:
    metadata: dict[str, Value] = {}
    for _ in range(n_keys):
        key = reader.string("a key")
        if not key:
            raise reader.damaged("a key is empty")
        if key in metadata:
            raise reader.damaged(f"the key {key!a} occurs twice")
        value_type = _value_type(reader, key)
        if value_type is ValueType.ARRAY:
            metadata[key] = Value(value_type, _read_array(reader, key))
        elif value_type is ValueType.STRING:
            metadata[key] = Value(value_type, reader.string(f"the value of {key!a}"))
        else:
            number = NUMBERS[value_type]
            start = reader.need(number.size)
            metadata[key] = Value(value_type, number.unpack_from(reader.buffer, start)[0])
    return metadata


def _value_type(reader: _Reader, key: str) -> ValueType:
    number = reader.u32()
    if number > max(ValueType):
        raise reader.damaged(f"the key {key!a} has an unknown type, {number}")
    return ValueType(number)


def _read_array(reader: _Reader, key: str) -> Array:
    item_type = _value_type(reader, key)
    if item_type is ValueType.ARRAY:
        raise reader.damaged(f"the key {key!a} holds an array of arrays")
    n_items = reader.u64()
    if n_items > MAX_ARRAY_ITEMS:
        raise reader.damaged(f"the key {key!a} claims to hold {n_items} items")
    start = reader.position
    if item_type is ValueType.STRING:
        reader.step_over_strings(n_items, f"an item of {key!a}")
    else:
        reader.need(n_items * NUMBERS[item_type].size)
    return Array(item_type, n_items, bytes(reader.buffer[start : reader.position]))


def _alignment(reader: _Reader, metadata: dict[str, Value]) -> int:
    value = metadata.get("general.alignment")
    if value is None:
        return DEFAULT_ALIGNMENT
    if value.type is not ValueType.UINT32:
        raise reader.damaged("its alignment is not a 32-bit number")
    alignment = int(value.value)
    if not 0 < alignment <= MAX_ALIGNMENT or alignment & (alignment - 1):
        raise reader.damaged(f"its alignment is {alignment}")
    return alignment


def _read_tensor(reader: _Reader) -> TensorInfo:
    name = reader.string("the name of a tensor")
    if len(name.encode("utf-8", "surrogateescape")) > MAX_TENSOR_NAME_BYTES:
        raise reader.damaged(f"the tensor name {name[:80]!a} is too long")
    n_dims = reader.u32()
    if n_dims > MAX_DIMS:
        raise reader.damaged(f"the tensor {name!a} has {n_dims} dimensions")
    shape = tuple(reader.u64() for _ in range(n_dims))
    type_id, offset = reader.u32(), reader.u64()
    try:
        tensor_type = GgmlType(type_id)
    except ValueError as e:
        raise UnsupportedTensor(
            f"{reader.name} uses a tensor type that this version of Snug does not know.",
            hint="Look for another file of this model, such as Q4_K_M.",
            details=f"tensor {name!a}, type {type_id}",
        ) from e
    tensor = TensorInfo(name, shape, tensor_type, offset)
    if tensor.n_cols % tensor.type.block_size:
        raise reader.damaged(
            f"the rows of {name!a} ({tensor.n_cols}) do not fit blocks of {tensor.type.name}"
        )
    if tensor.n_elements >= 1 << 63:
        raise reader.damaged(f"the tensor {name!a} is impossibly large")
    return tensor


def _check_data(
    reader: _Reader, tensors: tuple[TensorInfo, ...], data_offset: int, alignment: int
) -> None:
    """Check that the tensors follow each other without gaps and end within the file."""
    end = 0
    for tensor in tensors:
        if tensor.offset != end:
            raise reader.damaged(f"the data of {tensor.name!a} is not where it should be")
        last = end + tensor.n_bytes
        end = aligned(last, alignment)
    # The padding after the last tensor may be missing.
    missing = data_offset + last - reader.size_bytes if tensors else 0
    if missing > 0:
        raise reader.incomplete(f"{missing} of {data_offset + last} bytes are missing")
