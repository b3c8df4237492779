"""Says in words whether a model fits this computer, and why (no Qt)."""

from __future__ import annotations

from typing import Literal

import msgspec

from engine.errors import EngineError
from engine.fit.memory import Memory, choose_n_ctx, predict, usable_bytes
from engine.fit.shape import Shape
from engine.hardware import Computer
from engine.library import Entry
from engine.splits import open_gguf
from engine.words import format_bytes, format_count

Tone = Literal["good", "caution", "bad", "neutral"]


class Verdict(msgspec.Struct, frozen=True):
    """A badge: a few words, the tone they are said in, and the sum behind them."""

    words: str
    tone: Tone
    reason: str
    memory: Memory | None = None
    n_ctx: int = 0


def judge(entry: Entry, computer: Computer) -> Verdict:
    """Predict how `entry` would run on `computer` with the memory that is free now."""
    if entry.summary is None:
        return Verdict("Cannot be used", "bad", entry.problem)
    if entry.summary.kind == "checkpoint":
        return Verdict("Shrink it to chat", "neutral", "A checkpoint is a source for shrinking.")
    try:
        shape = Shape.from_metadata(open_gguf(entry.path).metadata)
    except EngineError as error:
        return Verdict("Cannot be used", "bad", error.message)
    free_bytes = computer.memory_available_bytes
    weights_bytes = entry.summary.size_bytes
    n_ctx = choose_n_ctx(shape, weights_bytes, free_bytes)
    memory = predict(shape, weights_bytes, n_ctx)
    reason = sum_in_words(memory, n_ctx, free_bytes)
    if memory.total_bytes <= usable_bytes(free_bytes):
        return Verdict("Runs on the processor", "good", reason, memory, n_ctx)
    figures = f"needs {format_bytes(memory.total_bytes)}, {format_bytes(free_bytes)} free"
    if memory.total_bytes <= free_bytes:
        return Verdict(f"Might fit: {figures}", "caution", reason, memory, n_ctx)
    return Verdict(f"Too large: {figures}", "bad", reason, memory, n_ctx)


def sum_in_words(memory: Memory, n_ctx: int, free_bytes: int) -> str:
    """The memory a model takes, part by part, against what is free; one line a part."""
    parts = (
        (memory.weights_bytes, "weights"),
        (memory.kv_cache_bytes, f"context of {format_count(n_ctx)} tokens"),
        (memory.compute_bytes + memory.runtime_bytes, "buffers"),
    )
    lines = [f"{format_bytes(size_bytes)} {what}" for size_bytes, what in parts]
    lines.append(f"= {format_bytes(memory.total_bytes)} of {format_bytes(free_bytes)} free")
    lines.append("GB are 1,000,000,000 bytes.")
    return "\n".join(lines)
