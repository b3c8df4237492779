"""Numbers as Snug says them: short, with a unit, two significant digits. Knows no Qt."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def _short(value: float) -> str:
    """Two significant digits below 10, whole numbers above, no trailing zero: 4.9, 16, 8."""
    if value < 9.95:
        return f"{value:.1f}".removesuffix(".0")
    return f"{value:.0f}"


def _scaled(value: float, units: tuple[str, ...]) -> str:
    index = 0
    # 999.5 already rounds to 1000, which belongs to the next unit.
    while value >= 999.5 and index < len(units) - 1:
        value /= 1000
        index += 1
    return f"{_short(value)}{units[index]}"


def format_bytes(size_bytes: float) -> str:
    """4_920_000_000 -> "4.9 GB"; GB are 10^9 bytes."""
    return _scaled(size_bytes, (" bytes", " kB", " MB", " GB", " TB"))


def format_bytes_exact(size_bytes: int) -> str:
    """4920734976 -> "4,920,734,976 bytes", for tooltips."""
    return f"{size_bytes:,} bytes (1 GB is 1,000,000,000 bytes)"


def format_count(count: float) -> str:
    """8_030_000_000 -> "8B", 656_000 -> "656K", 16_384 -> "16K"; parameters and tokens."""
    return _scaled(count, ("", "K", "M", "B", "T"))


def format_duration(seconds: float) -> str:
    """0.01 -> "under 0.1 s", 0.42 -> "0.4 s", 75 -> "1 min 15 s", 4000 -> "1 h 7 min"."""
    if 0 < seconds < 0.05:
        return "under 0.1 s"
    if seconds < 59.5:
        return f"{_short(seconds)} s"
    whole = round(seconds)
    if whole < 600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def format_time_left(seconds: float | None) -> str:
    """What a progress line says: "about 2 min left", or nothing while it is not known."""
    if seconds is None:
        return ""
    if seconds < 5:
        return "a few seconds left"
    if seconds < 57.5:
        return f"about {round(seconds / 5) * 5} s left"
    return f"about {format_duration(max(1, round(seconds / 60)) * 60)} left"


def format_speed(per_second: float, unit: str) -> str:
    """Bytes become "120 MB/s"; anything else "42 tokens/s"; tokens are said "tok"."""
    if unit == "bytes":
        return f"{format_bytes(per_second)}/s"
    return f"{_short(per_second)} {'tok' if unit == 'tokens' else unit}/s"


def format_percent(fraction: float) -> str:
    """0.123 -> "12 %"; only a finished thing says "100 %"."""
    return f"{min(99, int(fraction * 100)) if fraction < 1 else 100} %"


def format_path(path: str | Path) -> str:
    """A path as people read it: what lies in the home folder begins with "~" (not on Windows)."""
    with contextlib.suppress(RuntimeError, ValueError):  # nobody's home, or not in it
        if os.name != "nt":
            return str("~" / Path(path).relative_to(Path.home()))
    return str(path)


def plural(count: int, one: str, many: str = "") -> str:
    """plural(1, "model") -> "1 model", plural(3, "model") -> "3 models"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def shown(text: str) -> str:
    """`text` without what would steer a terminal: it may hold a name from anywhere."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text).rstrip()
