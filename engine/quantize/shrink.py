"""The job that makes a model smaller: any source, one recipe, one file."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec

from engine.convert.lora.choice import Lora
from engine.errors import OutOfMemory
from engine.jobs import Job, Progress

if TYPE_CHECKING:
    from engine.source import ModelSource


class Shrunk(msgspec.Struct, frozen=True):
    """A model before and after; `source_bytes` is its size as a GGUF file of the source's types."""

    path: str
    recipe: str
    source_bytes: int
    size_bytes: int
    bits_per_weight: float
    seconds: float


class Shrink(Job, frozen=True):
    """Quantize a checkpoint folder or a 16- or 32-bit GGUF file to the GGUF file `out`.

    `recipe` None takes the one that `engine.fit.recommend` gives for this computer, `n_threads` 0
    uses all cores. A checkpoint is read as it is, with `loras` merged into it: no 16-bit file in
    between. Raises UnsupportedTensor for a source that is quantized already, OutOfMemory when no
    recipe fits, CorruptFile for data that are no numbers, and what reading the source and writing a
    file raise. Paused or killed it leaves what it has, and the same job goes on from there.
    """

    Result: ClassVar = Shrunk
    can_resume: ClassVar = True

    source: str
    out: str
    recipe: str | None = None
    n_threads: int = 0
    overwrite: bool = False
    loras: tuple[Lora, ...] = ()

    def run(self) -> Generator[Progress, None, Shrunk]:
        from engine.convert.view import CheckpointView
        from engine.gguf import gguf_size_bytes
        from engine.model_writer import write_model
        from engine.partial import Note
        from engine.quantize.plan import plan
        from engine.quantize.recipe import find_recipe
        from engine.quantize.report import forget_report
        from engine.source import open_source, refuse_to_replace, source_marks

        started = time.monotonic()
        yield Progress("Reading the model", 0, None, "bytes")
        for folder in (self.source, *(lora.folder for lora in self.loras)):
            refuse_to_replace(Path(folder), Path(self.out))
        marks = source_marks(Path(self.source), self.loras)
        source = open_source(self.source, self.loras)
        try:
            if isinstance(source, CheckpointView):
                for n_bytes in source.find_lattices():
                    yield Progress("Looking for a lattice", n_bytes, None, "bytes")
            begun = begun_recipe(self.source, self.out, self.loras)
            recipe = find_recipe(self.recipe or begun or _recommended(source))
            to_do = plan(source, recipe)
            job = msgspec.structs.replace(self, recipe=recipe.name)
            note = Note.of(job.placed(self.source, self.out), marks, to_do.size_bytes)
            yield from write_model(
                source,
                to_do,
                self.out,
                "Shrinking",
                self.n_threads,
                overwrite=self.overwrite,
                note=note,
            )
            forget_report(Path(self.out))
            return Shrunk(
                path=self.out,
                recipe=recipe.name,
                source_bytes=gguf_size_bytes(source.metadata, source.tensors),
                size_bytes=to_do.size_bytes,
                bits_per_weight=to_do.bits_per_weight,
                seconds=time.monotonic() - started,
            )
        finally:
            source.close()

    def placed(self, source: str, out: str) -> Shrink:
        """The same job for files that lie elsewhere by now."""
        source, out = str(Path(source).absolute()), str(Path(out).absolute())
        return msgspec.structs.replace(self, source=source, out=out)


def begun_recipe(source: str, out: str, loras: Sequence[Lora] = ()) -> str | None:
    """The recipe with which a shrink of `source` with `loras` to `out` was begun and broken off."""
    from engine.partial import partial_of, read_note
    from engine.quantize.recipe import RECIPES
    from engine.source import source_marks

    note = read_note(partial_of(Path(out)))
    if note is None or note.sources != source_marks(Path(source), loras):
        return None
    job = note.read_job(Shrink)
    return job.recipe if job and job.recipe in RECIPES else None


def _recommended(source: ModelSource) -> str:
    from engine.fit.recommend import recommend
    from engine.hardware import detect
    from engine.llama.devices import devices

    recommendation = recommend(source, detect(devices()))
    if recommendation.recipe is None:
        raise OutOfMemory(
            recommendation.reason,
            hint="Choose a smaller model, close other programs, or name the type you want.",
        )
    return recommendation.recipe
