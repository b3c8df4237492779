"""Bit fields, decoding and blocks against numpy; arguments that do not fit are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine import _native

Codes = NDArray[np.uint8]
seeds = st.integers(0, 2**32 - 1)


def unpacked(packed: Codes, chunk_bytes: int, n_bits: int, positions: list[int]) -> Codes:
    """All codes of whole chunks, [n, n_chunks * len(positions)]."""
    n_chunks = packed.shape[1] // chunk_bytes
    whole = packed[:, : n_chunks * chunk_bytes].reshape(len(packed), n_chunks, chunk_bytes)
    bits = np.unpackbits(whole, axis=-1, bitorder="little")
    weights = 1 << np.arange(n_bits)
    codes = [(bits[..., p : p + n_bits] * weights).sum(-1) for p in positions]
    return np.stack(codes, axis=-1).reshape(len(packed), -1).astype(np.uint8)


@st.composite
def chunks(draw: st.DrawFn) -> tuple[int, int, list[int]]:
    n_bytes = draw(st.integers(1, 8))
    n_bits = draw(st.integers(1, 8))
    places = st.integers(0, n_bytes * 8 - n_bits)
    n_codes = draw(st.sampled_from([1, 2, 4, 8, 10, 32]))
    return n_bytes, n_bits, draw(st.lists(places, min_size=n_codes, max_size=n_codes))


@settings(deadline=None)
@given(chunks(), st.integers(1, 3), st.integers(1, 9), st.integers(0, 7), seeds)
def test_codes_are_unpacked(
    chunk: tuple[int, int, list[int]], n_rows: int, n_chunks: int, n_more: int, seed: int
) -> None:
    n_bytes, n_bits, positions = chunk
    rng = np.random.default_rng(seed)
    packed = rng.integers(0, 256, (n_rows, n_chunks * n_bytes + n_more), dtype=np.uint8)
    wanted = unpacked(packed[:, : n_chunks * n_bytes], n_bytes, n_bits, positions)
    n_cols = int(rng.integers(1, wanted.shape[1] + 1))
    codes = np.full((n_rows, n_cols), 255, np.uint8)
    _native.unpack_codes(packed, n_bytes, n_bits, np.array(positions, np.int32), codes)
    assert np.array_equal(codes, wanted[:, :n_cols])


def test_words_at_an_odd_address_are_refused() -> None:
    words = np.zeros(9, np.uint8)[1:].view(np.uint32).reshape(1, 2)
    with pytest.raises(ValueError, match="must be aligned"):
        _native.transpose(words, np.empty((2, 1), np.uint32))


def test_the_last_chunk_may_be_cut() -> None:
    packed = np.array([[0b11_010_001, 0b0000000_1]], np.uint8)  # 1, 2, 7 and no fourth whole one
    positions = np.arange(0, 24, 3, dtype=np.int32)
    codes = np.zeros((1, 3), np.uint8)
    _native.unpack_codes(packed, 3, 3, positions, codes)
    assert codes.tolist() == [[1, 2, 7]]
    with pytest.raises(ValueError, match="as many rows and codes"):
        _native.unpack_codes(packed, 3, 3, positions, np.zeros((1, 6), np.uint8))


@settings(deadline=None)
@given(st.integers(1, 4), st.integers(1, 40), st.sampled_from([1, 2, 4, 8]), seeds)
def test_words_are_split(n_rows: int, n_cols: int, n_bits: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 2**32, (n_rows, n_cols), dtype=np.uint32)
    positions = rng.permutation(np.arange(0, 32, n_bits)).astype(np.int32)
    codes = np.empty((n_rows * len(positions), n_cols), np.uint8)
    _native.split_words(words, n_bits, positions, codes)
    wanted = words[:, None] >> positions.astype(np.uint32)[:, None] & ((1 << n_bits) - 1)
    assert np.array_equal(codes, wanted.reshape(codes.shape))


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 20), seeds)
def test_words_are_transposed(n_rows: int, n_cols: int, n_more: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    whole = rng.integers(0, 2**32, (n_rows, n_cols + n_more), dtype=np.uint32)
    part = whole[:, n_more:]
    target = np.empty((n_cols, n_rows), np.uint32)
    _native.transpose(part, target)
    assert np.array_equal(target, part.T)


@settings(deadline=None)
@given(
    st.integers(1, 4), st.integers(1, 100), st.integers(1, 9), st.booleans(), st.booleans(), seeds
)
def test_codes_are_decoded(
    n_rows: int, n_cols: int, n_groups: int, has_zeros: bool, is_ordered: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (n_rows, n_cols), dtype=np.uint8)
    table = rng.standard_normal(256, np.float32)
    groups = rng.integers(0, n_groups, n_cols).astype(np.int32)
    if is_ordered:
        groups.sort()
    scales = rng.standard_normal((n_rows, n_groups), np.float32)
    zeros = rng.standard_normal((n_rows, n_groups), np.float32) if has_zeros else None
    values = np.empty((n_rows, n_cols), np.float32)
    _native.decode_codes(codes, table, groups, scales, zeros, values)
    subtracted = zeros[:, groups] if zeros is not None else np.float32(0)
    assert np.array_equal(values, (table[codes] - subtracted) * scales[:, groups])


LAYOUTS = [(32, 4, 16, 2), (32, 4, 16, 4), (64, 4, 8, 4), (32, 8, 32, 2), (256, 2, 32, 2)]


@settings(deadline=None)
@given(st.sampled_from(LAYOUTS), st.integers(1, 3), st.integers(1, 3), st.booleans(), seeds)
def test_blocks_are_packed(
    layout: tuple[int, int, int, int], n_rows: int, n_blocks: int, head_is_last: bool, seed: int
) -> None:
    n_elements, n_bits, stride, head_bytes = layout
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 256, (n_rows, n_blocks * n_elements), dtype=np.uint8)
    heads = rng.integers(0, 256, (n_rows, n_blocks * head_bytes), dtype=np.uint8)
    offset = int(rng.integers(0, 256))
    n_bytes = head_bytes + n_elements * n_bits // 8
    blocks = np.empty((n_rows, n_blocks * n_bytes), np.uint8)
    _native.pack_blocks(codes, offset, heads, n_elements, n_bits, stride, head_is_last, blocks)
    per_byte = 8 // n_bits
    moved = (codes + np.uint8(offset)) & ((1 << n_bits) - 1)
    lanes = moved.reshape(n_rows, n_blocks, -1, per_byte, stride).astype(np.uint32)
    shifts = (np.arange(per_byte) * n_bits).astype(np.uint32)[:, None]
    packed = np.bitwise_or.reduce(lanes << shifts, axis=-2).astype(np.uint8)
    parts = [heads.reshape(n_rows, n_blocks, -1), packed.reshape(n_rows, n_blocks, -1)]
    wanted = np.concatenate(parts[::-1] if head_is_last else parts, axis=-1)
    assert np.array_equal(blocks, wanted.reshape(blocks.shape))


def u8(*shape: int) -> Codes:
    return np.zeros(shape, np.uint8)


def f32(*shape: int) -> NDArray[np.float32]:
    return np.zeros(shape, np.float32)


def i32(*numbers: int) -> NDArray[np.int32]:
    return np.array(numbers, np.int32)


def u32(*shape: int) -> NDArray[np.uint32]:
    return np.zeros(shape, np.uint32)


WRONG: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
    (_native.unpack_codes, (u8(2, 4), 4, 4, i32(0, 4), u8(3, 2))),
    (_native.unpack_codes, (u8(2, 4), 4, 4, i32(0, 4), u8(2, 3))),
    (_native.unpack_codes, (u8(2, 4), 4, 4, i32(0, 29), u8(2, 2))),
    (_native.unpack_codes, (u8(2, 4), 4, 4, i32(-1), u8(2, 1))),
    (_native.unpack_codes, (u8(2, 4), 4, 4, i32(), u8(2, 1))),
    (_native.unpack_codes, (u8(2, 4), 4, 4, np.zeros(33, np.int32), u8(2, 1))),
    (_native.unpack_codes, (u8(2, 9), 9, 4, i32(0), u8(2, 1))),
    (_native.unpack_codes, (u8(2, 4), 0, 4, i32(0), u8(2, 1))),
    (_native.unpack_codes, (u8(2, 4), 4, 9, i32(0), u8(2, 1))),
    (_native.split_words, (u32(2, 4), 4, i32(0, 4), u8(2, 4))),
    (_native.split_words, (u32(2, 4), 4, i32(0, 4), u8(4, 5))),
    (_native.split_words, (u32(2, 4), 4, i32(0, 29), u8(4, 4))),
    (_native.transpose, (u32(2, 4), u32(2, 4))),
    (_native.transpose, (u32(2, 8)[:, ::2], u32(4, 2))),
    (_native.transpose, (u32(2, 4)[::-1], u32(4, 2))),
    (_native.decode_codes, (u8(2, 4), f32(255), i32(0, 0, 0, 0), f32(2, 1), None, f32(2, 4))),
    (_native.decode_codes, (u8(2, 4), f32(256), i32(0, 0, 0, 1), f32(2, 1), None, f32(2, 4))),
    (_native.decode_codes, (u8(2, 4), f32(256), i32(0, 0, 0, -1), f32(2, 1), None, f32(2, 4))),
    (_native.decode_codes, (u8(2, 4), f32(256), i32(0, 0, 0), f32(2, 1), None, f32(2, 4))),
    (_native.decode_codes, (u8(2, 4), f32(256), i32(0, 0, 0, 0), f32(1, 1), None, f32(2, 4))),
    (_native.decode_codes, (u8(2, 4), f32(256), i32(0, 0, 0, 0), f32(2, 1), f32(2, 2), f32(2, 4))),
    (_native.decode_codes, (u8(2, 4), f32(256), i32(0, 0, 0, 0), f32(2, 1), None, f32(2, 5))),
    (_native.pack_blocks, (u8(2, 32), 0, u8(2, 2), 32, 4, 32, False, u8(2, 18))),
    (_native.pack_blocks, (u8(2, 32), 0, u8(2, 2), 32, 3, 16, False, u8(2, 18))),
    (_native.pack_blocks, (u8(2, 32), 0, u8(2, 2), 0, 4, 16, False, u8(2, 18))),
    (_native.pack_blocks, (u8(2, 48), 0, u8(2, 2), 32, 4, 16, False, u8(2, 18))),
    (_native.pack_blocks, (u8(2, 64), 0, u8(2, 3), 32, 4, 16, False, u8(2, 36))),
    (_native.pack_blocks, (u8(2, 32), 0, u8(1, 2), 32, 4, 16, False, u8(2, 18))),
    (_native.pack_blocks, (u8(2, 32), 0, u8(2, 2), 32, 4, 16, False, u8(2, 17))),
]


@pytest.mark.parametrize(("kernel", "arguments"), WRONG)
def test_arguments_that_do_not_fit_are_refused(
    kernel: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(ValueError, match=r"."):
        kernel(*arguments)


def test_arrays_are_never_copied() -> None:
    with pytest.raises(TypeError):
        _native.unpack_codes(u8(2, 4), 4, 4, i32(0, 4), u8(2, 4)[:, ::2])
    with pytest.raises(TypeError):
        _native.transpose(u32(2, 4).astype(np.int64), u32(4, 2))
    read_only = u8(2, 2)
    read_only.setflags(write=False)
    with pytest.raises(TypeError):
        _native.unpack_codes(u8(2, 4), 4, 4, i32(0, 4), read_only)


def test_nothing_to_do_is_fine() -> None:
    _native.unpack_codes(u8(0, 4), 4, 4, i32(0, 4), u8(0, 2))
    _native.unpack_codes(u8(2, 0), 4, 4, i32(0, 4), u8(2, 0))
    _native.transpose(u32(0, 4), u32(4, 0))
    _native.decode_codes(u8(2, 0), f32(256), i32(), f32(2, 0), None, f32(2, 0))
    _native.pack_blocks(u8(2, 0), 0, u8(2, 0), 32, 4, 16, False, u8(2, 0))
