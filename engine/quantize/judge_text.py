"""The text that a result is judged on: never one that the model was calibrated with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.calibrate.texts import bundled_texts, read_bytes
from engine.errors import EngineError

BUNDLED = Path(__file__).resolve().parents[2] / "resources" / "judge" / "text.txt"
"""Shares no line with the texts in resources/calibration."""


def judge_text(wanted: str, calibrated: Sequence[str]) -> Path:
    """The text to judge on: the file `wanted`, "" for the one that comes with Snug.

    `calibrated` are the texts to calibrate with, none for those that come with Snug. Raises
    EngineError if one of them is the same file or holds the same, and what `read_bytes` does.
    """
    text = Path(wanted) if wanted else BUNDLED
    content = read_bytes(text)
    for other in calibrated or bundled_texts():
        if read_bytes(Path(other)) == content:
            raise EngineError(
                f"{text.name} is among the texts to calibrate with: a result would be judged by"
                " what it was made for.",
                hint="Judge on another text, or leave this one out of those to calibrate with.",
            )
    return text
