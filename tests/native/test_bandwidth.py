"""The measured speeds: real kernels over real memory; only that they are of this world is told."""

from __future__ import annotations

import pytest

from engine._native import dot_bandwidth, read_bandwidth
from engine.ggml_types import GgmlType
from engine.llama.kernels import weight_bandwidth

SLOWEST, FASTEST = 1e8, 1e13


def test_memory_is_read() -> None:
    assert SLOWEST < read_bandwidth(2, 16 << 20) < FASTEST


@pytest.mark.parametrize("weights", [GgmlType.Q4_K, GgmlType.Q8_0, GgmlType.F16, GgmlType.F32])
def test_every_kernel_goes_through_weights(weights: GgmlType) -> None:
    assert SLOWEST < weight_bandwidth({weights: 1}, 2) < FASTEST


def test_a_mixture_is_as_fast_as_its_parts_together() -> None:
    parts = {GgmlType.Q4_K: 3 << 30, GgmlType.Q6_K: 1 << 30}
    assert SLOWEST < weight_bandwidth(parts, 2) < FASTEST
    assert weight_bandwidth({}, 2) == 0


def test_rows_must_have_bytes() -> None:
    with pytest.raises(ValueError, match="bytes"):
        dot_bandwidth(0, 1, 1 << 20, 256, 0, 256)
