"""Says in words whether a model fits this computer, and why (no Qt)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from engine.fit.run import MAIN_MEMORY
from engine.words import format_bytes

if TYPE_CHECKING:
    from engine.fit.estimate import Estimate
    from engine.fit.verdict import Verdict as Fit
    from engine.hardware import Computer
    from engine.library import Entry

Tone = Literal["good", "caution", "bad", "neutral"]


class Verdict(msgspec.Struct, frozen=True):
    """A badge: a few words, the tone they are said in, and the sum behind them."""

    words: str
    tone: Tone
    reason: str
    fit: Fit | None = None


class Conditions(msgspec.Struct, frozen=True):
    """What models are judged for.

    `n_ctx` is the context asked for, 0 what fits; `releasable` the bytes by device that become
    free first.
    """

    computer: Computer
    n_ctx: int = 0
    releasable: dict[str, int] = {}


def judge(entry: Entry, estimate: Estimate | None, conditions: Conditions) -> Verdict:
    """Predict how `entry` would run with the memory that is free."""
    if entry.summary is None:
        return Verdict("Cannot be used", "bad", entry.problem)
    if estimate is None:
        return Verdict("Shrink it to chat", "neutral", "A checkpoint is a source for shrinking.")
    from engine.fit.verdict import Asked, judge_estimate

    asked = Asked(conditions.n_ctx, is_capped=True)
    return say(
        judge_estimate(estimate, conditions.computer, asked, conditions.releasable), conditions
    )


def say(fit: Fit, conditions: Conditions) -> Verdict:
    """The badge for `fit`."""
    reason = f"{fit.words}\n\n{sums_in_words(fit)}"
    match fit.kind:
        case "gpu":
            return Verdict("Runs on the graphics card", "good", reason, fit)
        case "partly":
            return Verdict("Partly on the graphics card", "caution", reason, fit)
        case "cpu":
            return Verdict("Runs on the processor", "good", reason, fit)
        case "not":
            need_bytes = fit.held_bytes(MAIN_MEMORY)
            free_bytes = conditions.computer.memory_available_bytes
            free_bytes += conditions.releasable.get(MAIN_MEMORY, 0)
            figures = f"needs {format_bytes(need_bytes)}, {format_bytes(free_bytes)} free"
            if need_bytes <= free_bytes:
                return Verdict(f"Might fit: {figures}", "caution", reason, fit)
            return Verdict(f"Too large: {figures}", "bad", reason, fit)


def sums_in_words(fit: Fit) -> str:
    """The memory a model takes, part by part, on each device; one line a device."""
    lines = []
    for need in fit.needs:
        if need.weights_bytes or need.device == MAIN_MEMORY:
            where = "Main memory" if need.device == MAIN_MEMORY else need.device
            parts = (
                (need.weights_bytes, "weights"),
                (need.kv_bytes, "context"),
                (need.compute_bytes + need.runtime_bytes, "buffers"),
            )
            words = " + ".join(f"{format_bytes(size)} {what}" for size, what in parts)
            total, usable = format_bytes(need.total_bytes), format_bytes(fit.usable[need.device])
            lines.append(f"{where}: {words} = {total} of {usable} that may be used")
    lines.append("GB are 1,000,000,000 bytes.")
    return "\n".join(lines)
