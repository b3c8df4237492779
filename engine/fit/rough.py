"""A first guess at what fits, by what the hub tells of a model before its header is read."""

from __future__ import annotations

from engine.fit.run import MAIN_MEMORY
from engine.fit.verdict import usable_by_device
from engine.hardware import Computer

BITS_PER_WEIGHT = 4.9
"""Of Q4_K_M, by which a model is judged as long as no file of it is chosen."""


def size_at_four_bits(n_params: int) -> int:
    """About the bytes of a model's weights once it is shrunk to Q4_K_M."""
    return int(n_params * BITS_PER_WEIGHT / 8)


def needed_bytes(size_bytes: int) -> int:
    """What weights of `size_bytes` take to run: with a gigabyte for context and buffers."""
    return size_bytes + min(10**9, size_bytes)


def room_bytes(computer: Computer, releasable: dict[str, int] | None = None) -> int:
    """What a model may take here in all: main memory, and graphics cards with their own."""
    usable = usable_by_device(computer, releasable or {})
    cards = [gpu.name for gpu in computer.gpus if not gpu.shares_main_memory]
    return usable[MAIN_MEMORY] + sum(usable[name] for name in cards)
