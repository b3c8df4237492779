"""The parts of a GGUF header as values: typed metadata and tensor entries, and their encoding.

Knows nothing of files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from math import prod
from struct import Struct, iter_unpack, pack
from typing import Any

import msgspec

from engine.ggml_types import FileType, GgmlType

U32 = Struct("<I")
U64 = Struct("<Q")


class ValueType(IntEnum):
    """The type of a metadata value, with GGUF's own id."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


NUMBERS: dict[ValueType, Struct] = {
    ValueType.UINT8: Struct("<B"),
    ValueType.INT8: Struct("<b"),
    ValueType.UINT16: Struct("<H"),
    ValueType.INT16: Struct("<h"),
    ValueType.UINT32: Struct("<I"),
    ValueType.INT32: Struct("<i"),
    ValueType.FLOAT32: Struct("<f"),
    ValueType.BOOL: Struct("<?"),
    ValueType.UINT64: Struct("<Q"),
    ValueType.INT64: Struct("<q"),
    ValueType.FLOAT64: Struct("<d"),
}


class Array(Sequence[Any]):
    """A metadata array, kept as its bytes in the file and decoded when first looked into.

    A vocabulary of 150,000 tokens is copied from file to file without ever becoming strings.
    """

    __slots__ = ("_items", "_n", "item_type", "payload")

    def __init__(self, item_type: ValueType, n_items: int, payload: bytes) -> None:
        self.item_type = item_type
        self.payload = payload
        self._n = n_items
        self._items: list[Any] | None = None

    @classmethod
    def of(cls, item_type: ValueType, items: Sequence[Any]) -> Array:
        """Encode `items`; raises struct.error or OverflowError for a number that does not fit."""
        if item_type is ValueType.STRING:
            return cls(item_type, len(items), b"".join(map(encode_string, items)))
        code = NUMBERS[item_type].format[1:]
        return cls(item_type, len(items), pack(f"<{len(items)}{code}", *items))

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index: Any) -> Any:
        return self._decoded()[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._decoded())

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Array):
            return NotImplemented
        return self.item_type == other.item_type and self.payload == other.payload

    def __hash__(self) -> int:
        return hash((self.item_type, self.payload))

    def __repr__(self) -> str:
        return f"Array({self.item_type.name}, {self._n} items)"

    def _decoded(self) -> list[Any]:
        if self._items is None:
            if self.item_type is ValueType.STRING:
                self._items = _decode_strings(self.payload, self._n)
            else:
                self._items = [
                    x for (x,) in iter_unpack(NUMBERS[self.item_type].format, self.payload)
                ]
        return self._items


def _decode_strings(payload: bytes, n_items: int) -> list[str]:
    items, position = [], 0
    for _ in range(n_items):
        start = position + 8
        position = start + U64.unpack_from(payload, position)[0]
        items.append(payload[start:position].decode("utf-8", "surrogateescape"))
    return items


class Value(msgspec.Struct, frozen=True):
    """A metadata value with the type it has in the file.

    `value` is an int, float, bool, str or `Array`. Bytes that are no UTF-8 become lone surrogates,
    so that a copy of the file keeps them.
    """

    type: ValueType
    value: Any

    @staticmethod
    def u32(value: int) -> Value:
        return Value(ValueType.UINT32, value)

    @staticmethod
    def f32(value: float) -> Value:
        return Value(ValueType.FLOAT32, value)

    @staticmethod
    def boolean(value: bool) -> Value:
        return Value(ValueType.BOOL, value)

    @staticmethod
    def string(value: str) -> Value:
        return Value(ValueType.STRING, value)

    @staticmethod
    def array(item_type: ValueType, items: Sequence[Any]) -> Value:
        return Value(ValueType.ARRAY, Array.of(item_type, items))


class TensorInfo(msgspec.Struct, frozen=True):
    """A tensor of a GGUF: `shape` in ggml order (columns first), `offset` from the data section."""

    name: str
    shape: tuple[int, ...]
    type: GgmlType
    offset: int = 0

    @property
    def n_elements(self) -> int:
        return prod(self.shape)

    @property
    def n_cols(self) -> int:
        return self.shape[0] if self.shape else 1

    @property
    def n_rows(self) -> int:
        """Rows over all outer dimensions."""
        return prod(self.shape[1:])

    @property
    def row_bytes(self) -> int:
        return self.type.row_bytes(self.n_cols)

    @property
    def n_bytes(self) -> int:
        return self.row_bytes * self.n_rows


def mostly(tensors: Iterable[TensorInfo]) -> FileType:
    """The file type of `tensors`: the type of most of their numbers."""
    weight: Counter[GgmlType] = Counter()
    for tensor in tensors:
        weight[tensor.type] += tensor.n_elements
    most = max(weight, key=lambda stored: weight[stored], default=GgmlType.F32)
    return FileType.MXFP4_MOE if most is GgmlType.MXFP4 else FileType[most.name]


def encode_string(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return U64.pack(len(data)) + data


def encode(value_type: ValueType, value: Any) -> bytes:
    """The bytes of `value` after its type in a header."""
    if value_type is ValueType.STRING:
        return encode_string(value)
    if value_type is ValueType.ARRAY:
        return U32.pack(value.item_type) + U64.pack(len(value)) + bytes(value.payload)
    return NUMBERS[value_type].pack(value)
