"""ggml's own arithmetic on rows of numbers.

Every function may be called from several threads at once: ctypes lets go of the GIL meanwhile.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from engine.errors import UnsupportedTensor
from engine.ggml_types import GgmlType
from engine.llama.library import library

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class _TypeTraits(ctypes.Structure):
    """`struct ggml_type_traits` of ggml.h."""

    _fields_ = (
        ("type_name", ctypes.c_char_p),
        ("blck_size", ctypes.c_int64),
        ("blck_size_interleave", ctypes.c_int64),
        ("type_size", ctypes.c_size_t),
        ("is_quantized", ctypes.c_bool),
        ("to_float", ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)),
        ("from_float_ref", ctypes.c_void_p),
    )


def quantize_rows(
    ggml_type: GgmlType, rows: NDArray[np.float32], imatrix: NDArray[np.float32] | None = None
) -> NDArray[np.uint8]:
    """Quantize rows to `ggml_type`: float32 [n_rows, n_cols] -> bytes [n_rows, row_bytes].

    `imatrix` holds the importance of each column, float32 [n_cols]. The bytes are those of
    llama-quantize. Raises UnsupportedTensor for what the type cannot hold: NaN and infinity, rows
    of another length than whole blocks.
    """
    import numpy as np

    from engine import _native

    n_rows, n_cols = rows.shape
    if n_cols % ggml_type.block_size:
        raise UnsupportedTensor(
            f"Rows of {n_cols} numbers cannot be stored as {ggml_type.name}, "
            f"which needs a multiple of {ggml_type.block_size}."
        )
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    # ggml checks the scales it wrote, and a NaN does not always reach them.
    if rows.size and not (np.isfinite(rows.min()) and np.isfinite(rows.max())):
        raise _not_finite(ggml_type)
    if imatrix is not None:
        imatrix = np.ascontiguousarray(imatrix, dtype=np.float32)
        if imatrix.shape != (n_cols,):
            raise ValueError(f"importance matrix of shape {imatrix.shape} for {n_cols} columns")
    elif _requires_imatrix(ggml_type):
        raise ValueError(f"{ggml_type.name} needs an importance matrix")
    out = np.empty((n_rows, ggml_type.row_bytes(n_cols)), dtype=np.uint8)
    if ggml_type is GgmlType.F32:
        out[:] = rows.view(np.uint8)
    elif not _native.round_as_ggml(ggml_type.name, rows, imatrix, out):
        quantize_chunk(ggml_type, rows, imatrix, out)
    if not is_valid(ggml_type, out):
        raise _not_finite(ggml_type)
    return out


def quantize_chunk(
    ggml_type: GgmlType,
    rows: NDArray[np.float32],
    imatrix: NDArray[np.float32] | None,
    out: NDArray[np.uint8],
) -> None:
    """Let ggml write `rows` to `out`, as `quantize_rows` describes them; all contiguous.

    Raises UnsupportedTensor for a type that ggml cannot write.
    """
    quantize = library().function(
        "ggml_quantize_chunk",
        ctypes.c_size_t,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_void_p,
    )
    importance = None if imatrix is None else imatrix.ctypes.data
    n_rows, n_cols = rows.shape
    size = quantize(
        int(ggml_type), rows.ctypes.data, out.ctypes.data, 0, n_rows, n_cols, importance
    )
    if size != out.nbytes:
        raise UnsupportedTensor(f"ggml cannot write {ggml_type.name}.")


def dequantize_rows(ggml_type: GgmlType, data: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn stored rows into numbers: bytes [n_rows, row_bytes] -> float32 [n_rows, n_cols]."""
    import numpy as np

    data = _aligned(np.ascontiguousarray(data))
    n_rows, row_bytes = data.shape
    n_cols = row_bytes // ggml_type.block_bytes * ggml_type.block_size
    if ggml_type is GgmlType.F32:
        return data.view(np.float32)
    out = np.empty((n_rows, n_cols), dtype=np.float32)
    get_type_traits = library().function(
        "ggml_get_type_traits", ctypes.POINTER(_TypeTraits), ctypes.c_int
    )
    to_float = get_type_traits(int(ggml_type)).contents.to_float
    if not to_float:
        raise UnsupportedTensor(f"ggml cannot read {ggml_type.name}.")
    to_float(data.ctypes.data, out.ctypes.data, n_rows * n_cols)
    return out


def is_valid(ggml_type: GgmlType, data: NDArray[np.uint8]) -> bool:
    """Whether ggml finds only finite scales and whole blocks in contiguous stored rows."""
    validate = library().function(
        "ggml_validate_row_data", ctypes.c_bool, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t
    )
    data = _aligned(data)
    return bool(validate(int(ggml_type), data.ctypes.data, data.nbytes))


def _aligned(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`data`, or a copy of it: ggml reads floats and halves in place, a file has them anywhere."""
    return data.copy() if data.ctypes.data % 4 else data


def _requires_imatrix(ggml_type: GgmlType) -> bool:
    requires = library().function("ggml_quantize_requires_imatrix", ctypes.c_bool, ctypes.c_int)
    return bool(requires(int(ggml_type)))


def _not_finite(ggml_type: GgmlType) -> UnsupportedTensor:
    return UnsupportedTensor(
        f"A tensor holds numbers that {ggml_type.name} cannot store (infinite, or not a number).",
        hint="The file is damaged or was not converted well: get it again.",
    )
