"""Writes packed weights in the layout of each method, from its formula, in plain numpy.

Every writer takes codes and scales and returns what a checkpoint stores: (dtype, array) by the end
of the name. What the weight is worth is computed beside it, in float32, as the method's authors do.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.helpers.checkpoints import write_json

Array = NDArray[Any]
Floats = NDArray[np.float32]
Stored = tuple[str, Array]
Packed = dict[str, Stored]

_DTYPES = {
    np.dtype("u1"): "U8", np.dtype("i1"): "I8", np.dtype("<i4"): "I32", np.dtype("<u4"): "I32",
    np.dtype("<i8"): "I64", np.dtype("<f2"): "F16", np.dtype("<f4"): "F32",
}  # fmt: skip


def stored(array: Array, dtype: str = "") -> Stored:
    """As it is, under its own dtype or the name of another one with as many bits."""
    return dtype or _DTYPES[array.dtype], array


def bf16(values: Floats) -> Stored:
    """Values that BF16 holds exactly."""
    bits = np.ascontiguousarray(values, np.float32).view("<u4")
    assert not (bits & 0xFFFF).any()
    return "BF16", (bits >> 16).astype("<u2")


def write_packed(folder: Path, tensors: Mapping[str, Stored], config: Mapping[str, Any]) -> Path:
    """A checkpoint of `tensors`, by their whole names, and a config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    header: dict[str, Any] = {}
    data = b""
    for name, (dtype, array) in tensors.items():
        content = np.ascontiguousarray(array).tobytes()
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
        data += content
    encoded = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(encoded)) + encoded + data)
    return folder


def bitstream(codes: Array, n_bits: int) -> Array:
    """Rows of codes to rows of words, the lowest bits first."""
    bits = codes[..., None] >> np.arange(n_bits) & 1
    flat = bits.reshape(*codes.shape[:-1], -1)
    padded = np.pad(flat, [(0, 0)] * (flat.ndim - 1) + [(0, -flat.shape[-1] % 32)])
    words: Array = np.packbits(padded.astype(np.uint8), axis=-1, bitorder="little").view("<u4")
    return words


def gptq(codes: Array, scales: Array, zeros: Array, n_bits: int, *, v1: bool = True) -> Packed:
    """`codes` [out, in], `scales` and `zeros` [out, n_groups]."""
    stored_zeros = zeros.astype(np.int64) - v1 & ((1 << n_bits) - 1)
    return {
        "qweight": stored(bitstream(codes, n_bits).T.astype("<u4")),
        "qzeros": stored(bitstream(stored_zeros.T, n_bits)),
        "scales": stored(scales.T),
    }


def awq(codes: Array, scales: Array, zeros: Array) -> Packed:
    """As `gptq`."""

    def packed(values: Array) -> Array:  # [n, out] -> [n, out / 8]
        order = values.reshape(len(values), -1, 8)[..., [0, 2, 4, 6, 1, 3, 5, 7]]
        return bitstream(order.reshape(len(values), -1), 4)

    return {
        "qweight": stored(packed(codes.T)),
        "qzeros": stored(packed(zeros.T.astype(np.int64))),
        "scales": stored(scales.T),
    }


def affine(codes: Array, scales: Array, zeros: Array, groups: Array) -> Floats:
    """(q - zero) * scale in float32, [out, in]; `groups` [in]."""
    steps = codes.astype(np.float32) - zeros.astype(np.float32)[:, groups]
    return steps * scales.astype(np.float32)[:, groups]


def four_bit(codes: Array, quant_map: Floats, absmax: Floats, shape: tuple[int, ...]) -> Packed:
    """bitsandbytes, 4 bits; `codes` flat, blocks of 64."""
    padded = np.pad(codes, (0, len(codes) % 2))
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": list(shape)}
    return {
        "weight": stored((padded[::2] << 4 | padded[1::2]).astype(np.uint8)[:, None]),
        "weight.absmax": stored(absmax),
        "weight.quant_map": stored(quant_map),
        "weight.quant_state.bitsandbytes__nf4": json_bytes(state),
    }


def json_bytes(value: Any) -> Stored:
    return stored(np.frombuffer(json.dumps(value).encode(), np.uint8))


def hqq(
    codes: Array, scales: Array, zeros: Array, n_bits: int, group_size: int, axis: int
) -> Packed:
    """`codes` [out, in], `scales` and `zeros` one for each group of the reshaped weight."""
    shape = (-1, group_size) if axis == 1 else (group_size, -1)
    parts = np.split(codes.reshape(shape).astype(np.uint8), 8 // n_bits)
    packed: Array = np.zeros_like(parts[0])
    for part in parts:
        packed = (packed << n_bits if n_bits < 8 else packed) | part
    per_group = (-1, 1) if axis == 1 else (1, -1)
    return {
        "W_q": stored(packed),
        "scale": stored(scales.reshape(per_group)),
        "zero": stored(zeros.reshape(per_group)),
        "nbits": stored(np.array(n_bits, "<i4")),
        "group_size": stored(np.array(group_size, "<i4")),
        "axis": stored(np.array(axis, "<i4")),
        "shape": stored(np.array(codes.shape, "<i8")),
        "packing": stored(np.frombuffer(f"{n_bits}bit_u8".encode(), np.uint8)),
    }


def pack_quantized(
    codes: Array, scales: Stored, zeros: Array | None, n_bits: int, *, splits_codes: bool = True
) -> Packed:
    """compressed-tensors; `zeros` [out, n_groups] count from 0 as codes do."""
    words = bitstream if splits_codes else padded_words
    found = {
        "weight_packed": stored(words(codes, n_bits)),
        "weight_scale": scales,
        "weight_shape": stored(np.array(codes.shape, "<i8")),
    }
    if zeros is not None:
        found["weight_zero_point"] = stored(words(zeros.T, n_bits).T.astype("<u4"))
    return found


def padded_words(codes: Array, n_bits: int) -> Array:
    """As `bitstream`, but a code that does not fit a word whole is in the next one."""
    per_word = 32 // n_bits
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % per_word))).astype("<u4")
    shifts = (np.arange(per_word) * n_bits).astype("<u4")
    lanes = padded.reshape(len(codes), -1, per_word) << shifts
    words: Array = np.bitwise_or.reduce(lanes, axis=-1)
    return words


def nibbles(codes: Array) -> Array:
    """Two codes to a byte along the last axis, the first one in the low half."""
    packed: Array = (codes[..., ::2] | codes[..., 1::2] << 4).astype(np.uint8)
    return packed
