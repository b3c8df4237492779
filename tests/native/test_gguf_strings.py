"""Strings of a GGUF header are stepped over, and never beyond what is there."""

from __future__ import annotations

import random

from engine._native import step_over_strings
from engine.gguf_values import encode_string

MOST = 1 << 20


def test_strings_are_stepped_over() -> None:
    texts = ["", "a", "ü" * 100, "x" * 70_000]
    data = bytearray(b"head" + b"".join(map(encode_string, texts)) + b"tail")
    assert step_over_strings(data, 4, 4, MOST) == (len(data) - 4, 0)
    assert step_over_strings(data, 4, 0, MOST) == (4, 0)


def test_a_length_that_is_not_there_ends_it() -> None:
    """At every cut it stops before the first string whose length is not whole."""
    data = b"".join(map(encode_string, ["one", "two", "three"]))
    starts = [0, 11, 22, 35]
    for n_bytes in range(len(data)):
        position, n_left = step_over_strings(bytearray(data[:n_bytes]), 0, 3, MOST)
        assert position == starts[3 - n_left]
        assert n_left == 0 or n_bytes - position < 8


def test_a_string_that_is_too_long_ends_it() -> None:
    data = bytearray(encode_string("short") + encode_string("x" * 100))
    assert step_over_strings(data, 0, 2, 99) == (13, 1)


def test_garbage_is_survived() -> None:
    numbers = random.Random(3)
    for _ in range(2000):
        data = bytearray(numbers.randbytes(numbers.randrange(64)))
        start = numbers.randrange(80)
        position, n_left = step_over_strings(data, start, 1 << 62, 1 << 62)
        assert position >= start and n_left > 0
