"""The job that makes a model as good as it can be in a number of bytes.

Calibrates, folds, measures what each tensor matters, chooses a type for each, rounds and writes.
What it has found out stays in a workbench beside the output, to go on from after a kill.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import msgspec

from engine.convert.lora.choice import Lora
from engine.jobs import Job, Progress, Step
from engine.quantize.effort import EFFORTS, EffortName
from engine.quantize.shrink import Shrunk

if TYPE_CHECKING:
    from engine.calibrate.statistics import Statistics
    from engine.model_writer import Plan
    from engine.partial import Note
    from engine.quantize.encode import Care
    from engine.quantize.fold import InputStatistics
    from engine.quantize.study import Study
    from engine.quantize.workbench import Workbench
    from engine.source import ModelSource


WORTH_FOLDING = 0.97  # of the expected divergence; smaller gains are not seen in the result


class _Chosen(NamedTuple):
    """A model with its folds, what is known of its inputs, and the file that it becomes.

    `cost` is the divergence from the original, in nats, that is expected of it; 0 if not known.
    """

    source: ModelSource
    statistics: InputStatistics
    plan: Plan
    cost: float


class ShrinkToSize(Job, frozen=True):
    """Quantize a checkpoint folder or a 16- or 32-bit GGUF file to the GGUF file `out`.

    At most `size_bytes`, the whole file, or `bits_per_weight`; or in the size that the stock
    `recipe` gives; else in that of the recipe that fits this computer. Which type each tensor gets
    is measured, but for `keeps_types`: those of the recipe. `texts` is what
    to calibrate with (none: what comes with Snug). The bytes depend on the source and these
    settings, not on `n_threads`. Raises UnsupportedTensor for a source that is quantized already,
    OutOfMemory when no recipe fits, TooSmall for a size that holds no version of the model,
    CorruptFile for data that are no numbers, and what reading the source and writing a file raise.
    """

    Result: ClassVar = Shrunk
    can_resume: ClassVar = True

    source: str
    out: str
    size_bytes: int = 0
    bits_per_weight: float = 0.0
    recipe: str | None = None
    keeps_types: bool = False
    effort: EffortName = "balanced"
    texts: tuple[str, ...] = ()
    n_threads: int = 0
    overwrite: bool = False
    loras: tuple[Lora, ...] = ()

    def run(self) -> Generator[Step, None, Shrunk]:
        from engine.output import check_output
        from engine.partial import Note
        from engine.quantize.workbench import workbench
        from engine.source import open_source, refuse_to_replace, source_marks

        yield Progress("Reading the model", 0, None, "bytes")
        for folder in (self.source, *(lora.folder for lora in self.loras)):
            refuse_to_replace(Path(folder), Path(self.out))
        check_output(Path(self.out), size_bytes=0, overwrite=self.overwrite)
        marks = source_marks(Path(self.source), self.loras)
        source = open_source(self.source, self.loras)
        try:
            note = Note.of(self.placed(self.source, self.out), marks, self.size_bytes)
            with workbench(Path(self.out), note) as bench:
                return (yield from self._shrink(source, bench, note))
        finally:
            source.close()

    def _shrink(
        self, source: ModelSource, bench: Workbench, note: Note | None
    ) -> Generator[Step, None, Shrunk]:
        from engine.gguf import gguf_size_bytes
        from engine.model_writer import write_model
        from engine.quantize.encode import Encoder
        from engine.quantize.study import Study

        started = time.monotonic()
        source_bytes = gguf_size_bytes(source.metadata, source.tensors)
        study = Study(source, bench, EFFORTS[self.effort], self.n_threads)
        statistics = yield from study.calibrate(self.source, self.texts)
        chosen = yield from self._choose(study, source, statistics)
        yield from write_model(
            chosen.source,
            chosen.plan,
            self.out,
            "Shrinking",
            self.n_threads,
            overwrite=self.overwrite,
            note=note,
            encode=Encoder(chosen.statistics, self._care).encode,
        )
        return Shrunk(
            path=self.out,
            recipe=self.recipe or "",
            source_bytes=source_bytes,
            size_bytes=chosen.plan.size_bytes,
            bits_per_weight=chosen.plan.bits_per_weight,
            seconds=time.monotonic() - started,
        )

    def _choose(
        self, study: Study, source: ModelSource, statistics: Statistics
    ) -> Generator[Step, None, _Chosen]:
        """Which type each tensor of `source` gets, and what is folded."""
        from engine.quantize.budget import Budget, choosable, plan_within
        from engine.quantize.fold import FoldedSource, FoldedStatistics
        from engine.quantize.plan import plan
        from engine.quantize.recipe import find_recipe

        recipe = find_recipe(self.recipe) if self.recipe else None
        stock = plan(source, recipe) if recipe else None
        if stock and self.keeps_types:
            return _Chosen(source, statistics, stock, 0.0)
        budget = Budget(stock.size_bytes if stock else self.size_bytes, self.bits_per_weight)
        tensors = choosable(source)
        matters = yield from study.matters(tensors, statistics)
        items = yield from study.items(source, tensors, statistics, self._care, matters, "any")
        plain = _Chosen(source, statistics, *plan_within(source, items, budget))
        if not EFFORTS[self.effort].folds:
            return plain
        folds = yield from study.folds(
            statistics, {tensor.name: tensor.type for tensor in plain.plan.tensors}
        )
        folded = FoldedSource(source, folds)
        seen = FoldedStatistics(statistics, source.tensors, folds)
        items = yield from study.items(
            folded, choosable(folded), seen, self._care, matters, "any", is_folded=True
        )
        other = _Chosen(folded, seen, *plan_within(folded, items, budget))
        return other if other.cost < WORTH_FOLDING * plain.cost else plain

    @property
    def _care(self) -> Care:
        from engine.quantize.encode import Care

        effort = EFFORTS[self.effort]
        return Care(sweeps=effort.sweeps, refits=effort.refits)

    def placed(self, source: str, out: str) -> ShrinkToSize:
        """The same job for files that lie elsewhere by now."""
        source, out = str(Path(source).absolute()), str(Path(out).absolute())
        return msgspec.structs.replace(self, source=source, out=out)
