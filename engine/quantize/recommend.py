"""The job that chooses a recipe for this computer."""

from __future__ import annotations

from collections.abc import Generator
from typing import ClassVar

from engine.fit.recommend import Recommendation
from engine.hardware import Computer
from engine.jobs import Job, Progress


class Recommend(Job, frozen=True):
    """Choose a recipe for a checkpoint folder or a 16- or 32-bit GGUF file on this computer.

    `n_ctx` is the context to have room for, 0 a useful one. Weights that lie on a lattice count as
    a shrink will keep them; to see that there are none takes a row of each matrix. Raises
    UnsupportedTensor for a source that is quantized already, and what reading it raises.
    """

    Result: ClassVar = Recommendation

    source: str
    n_ctx: int = 0
    computer: Computer | None = None
    """Another computer than this one, for those who ask before they buy."""

    def run(self) -> Generator[Progress, None, Recommendation]:
        from engine.convert.view import CheckpointView
        from engine.fit.recommend import recommend
        from engine.hardware import detect
        from engine.llama.devices import devices
        from engine.source import open_source

        yield Progress("Looking at the model", 0, None, "steps")
        source = open_source(self.source)
        try:
            if isinstance(source, CheckpointView):
                for n_bytes in source.find_lattices():
                    yield Progress("Looking for a lattice", n_bytes, None, "bytes")
            return recommend(source, self.computer or detect(devices()), self.n_ctx)
        finally:
            source.close()
