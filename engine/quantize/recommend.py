"""The job that chooses a recipe for this computer."""

from __future__ import annotations

from collections.abc import Generator
from typing import ClassVar

from engine.fit import Recommendation
from engine.jobs import Job, Progress


class Recommend(Job, frozen=True):
    """Choose a recipe for a checkpoint folder or a 16- or 32-bit GGUF file on this computer.

    Raises UnsupportedTensor for a source that is quantized already, and what reading it raises.
    """

    Result: ClassVar = Recommendation

    source: str

    def run(self) -> Generator[Progress, None, Recommendation]:
        from engine.fit import recommend
        from engine.hardware import detect
        from engine.llama.ggml import devices
        from engine.source import open_source

        yield Progress("Looking at the model", 0, None, "steps")
        source = open_source(self.source)
        try:
            return recommend(source, detect(devices()))
        finally:
            source.close()
