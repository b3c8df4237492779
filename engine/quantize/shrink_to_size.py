"""The job that makes a model as good as it can be in a number of bytes, and says how good that is.

Calibrates, measures what each tensor matters, chooses a type for each, rounds, writes, and compares
the result with the original. What it has found out stays in a workbench beside the output, to go on
from after a kill; the output appears whole at the end.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import msgspec

from engine import __version__
from engine.convert.lora.choice import Lora
from engine.errors import EngineError
from engine.jobs import Job, Progress, Step
from engine.quantize.candidates import Profile
from engine.quantize.choice import Pin
from engine.quantize.effort import STAGES, Effort, EffortName, effort_of
from engine.quantize.figures import QualityReport
from engine.quantize.gate import Failure, Gate

if TYPE_CHECKING:
    from engine.files import Mark
    from engine.quantize.budget import Budget
    from engine.quantize.making import Made
    from engine.quantize.workbench import Workbench
    from engine.source import ModelSource


class ShrunkToSize(msgspec.Struct, frozen=True):
    """A model before and after; `source_bytes` is its size as a GGUF file of the source's types.

    `kept` says which version was kept ("ours" or "stock Q4_K_M"), `quality` how like the original
    it is, and `failures` what it does not reach. `seconds` are those of all sessions. The rest is
    in the report beside it.
    """

    path: str
    recipe: str
    kept: str
    source_bytes: int
    size_bytes: int
    bits_per_weight: float
    seconds: float
    quality: QualityReport | None
    failures: tuple[Failure, ...]


class Key(NamedTuple):
    """What a file is made from, as three words.

    What is found out of the model depends on `study` and `texts`: the model, the effort, and what
    it reads. `result` is all that only the files made from that depend on.
    """

    study: str
    texts: str
    result: str


class ShrinkToSize(Job, frozen=True):
    """Quantize a checkpoint folder or a 16- or 32-bit GGUF file to the GGUF file `out`.

    At most `size_bytes`, the whole file, or `bits_per_weight`, or in the size that the stock
    `recipe` gives. Which type each tensor gets is measured (`profile` "fast" leaves out what
    processors are slow with, `pins` come first), but for `keeps_types`: those of the recipe.
    `texts` is what to calibrate with, none is what comes with Snug. With the file `statistics`, of
    `Calibrate` or llama-imatrix, nothing is read for that, and texts only to tell what matters; an
    importance matrix alone leaves the rounding to ggml. The result is compared with
    the original on `judge_text` (empty: one that comes with Snug) if `judges`, and asked the probes
    with `probes`. If it fails the `gate`, larger ones are tried up to `most_bytes`, and at last the
    better of the stock recipe and ours is kept. The bytes depend on the source and these settings,
    not on `n_threads`. Raises UnsupportedTensor for a source that is quantized already and for
    pins that cannot be, TooSmall for a size that holds no version of the model, EngineError for a
    `judge_text` that is among `texts`, FormatError for `texts` that are none and `statistics` of
    another model, all before anything is measured; CorruptFile for data that
    are no numbers, and what reading the source and writing a file raise. It leaves its workbench
    when it was paused or killed, and when the computer failed it: a full disk, too little memory.
    """

    Result: ClassVar = ShrunkToSize
    can_resume: ClassVar = True
    stages: ClassVar = STAGES

    source: str
    out: str
    size_bytes: int = 0
    bits_per_weight: float = 0.0
    recipe: str | None = None
    keeps_types: bool = False
    most_bytes: int = 0
    effort: EffortName = "balanced"
    profile: Profile = "fast"
    pins: tuple[Pin, ...] = ()
    texts: tuple[str, ...] = ()
    judges: bool = True
    judge_text: str = ""
    probes: bool = False
    gate: Gate = Gate()
    n_threads: int = 0
    overwrite: bool = False
    loras: tuple[Lora, ...] = ()
    statistics: str = ""

    def run(self) -> Generator[Step, None, ShrunkToSize]:
        from engine.convert.view import CheckpointView
        from engine.output import check_output
        from engine.partial import Note
        from engine.quantize.choice import require_possible
        from engine.quantize.given_statistics import open_given
        from engine.quantize.judge_text import judge_text
        from engine.quantize.room import require_room
        from engine.quantize.workbench import workbench
        from engine.source import open_source, refuse_to_replace, source_marks

        started = time.monotonic()
        if not (self.size_bytes or self.bits_per_weight or self.recipe):
            raise EngineError(
                "Nothing says how small the model is to be.",
                hint="Give a size, bits per weight, or a recipe.",
            )
        yield Progress("Reading the model", 0, None, "bytes")
        given = filter(None, [self.statistics])
        for path in (self.source, *given, *(lora.folder for lora in self.loras)):
            refuse_to_replace(Path(path), Path(self.out))
        check_output(Path(self.out), size_bytes=0, overwrite=self.overwrite)
        if self.judges:
            judge_text(self.judge_text, self.texts)  # before the work, not after it
        marks = source_marks(Path(self.source), self.loras)
        key = self.key(marks)
        source = open_source(self.source, self.loras)
        try:
            if isinstance(source, CheckpointView):
                for n_bytes in source.find_lattices():
                    yield Progress("Looking for a lattice", n_bytes, None, "bytes")
            if not (self.recipe and self.keeps_types):
                require_possible(source, self.profile, self.pins, self.budget(source))
            if self.statistics:
                open_given(self.statistics, source).close()
            effort = effort_of(self.effort, source)
            require_room(self, source, effort)
            note = Note.of(self.placed(self.source, self.out), marks, self.size_bytes)
            with workbench(Path(self.out), note, key) as bench:
                if bench.has_new_texts:
                    yield Progress("The texts have changed: beginning again", 0, None, "bytes")
                made = yield from self._make(source, effort, bench)
                return self._finish(source, made, bench.times.before + time.monotonic() - started)
        finally:
            source.close()

    def _make(
        self, source: ModelSource, effort: Effort, bench: Workbench
    ) -> Generator[Step, None, Made]:
        from engine.quantize.making import Making

        making = Making(self, effort, source, bench)
        try:
            return (yield from making.run())
        finally:
            making.close()

    def _finish(self, source: ModelSource, made: Made, seconds: float) -> ShrunkToSize:
        from engine.gguf import gguf_size_bytes
        from engine.output import publish
        from engine.quantize.report import write_report

        out = Path(self.out)
        source_bytes = gguf_size_bytes(source.metadata, source.tensors)
        report = msgspec.structs.replace(made.report, source_bytes=source_bytes)
        publish(made.path, out, overwrite=self.overwrite)
        write_report(report, out)
        return ShrunkToSize(
            path=self.out,
            recipe=self.recipe or "",
            kept=made.name,
            source_bytes=source_bytes,
            size_bytes=report.size_bytes,
            bits_per_weight=report.bits_per_weight,
            seconds=seconds,
            quality=report.quality,
            failures=report.failures,
        )

    def budget(self, source: ModelSource) -> Budget:
        """The bytes that it may take, before any larger one is tried."""
        from engine.quantize.budget import Budget
        from engine.quantize.plan import plan
        from engine.quantize.recipe import find_recipe

        stock = plan(source, find_recipe(self.recipe)) if self.recipe else None
        return Budget(stock.size_bytes if stock else self.size_bytes, self.bits_per_weight)

    def key(self, marks: Mapping[str, Mark]) -> Key:
        """What the file is made from, the model with these `marks`: places and threads change none.

        Raises what `read_marks` does.
        """
        from engine.quantize.user_texts import read_marks
        from engine.source import source_marks

        given = source_marks(Path(self.statistics)) if self.statistics else {}
        study = __version__, self.effort, sorted(marks.items()), sorted(given.items())
        asked = msgspec.structs.replace(
            self,
            source="",
            out="",
            effort="balanced",
            texts=(),
            judge_text="",
            n_threads=0,
            overwrite=False,
            loras=(),  # their marks tell them
            statistics="",
        )
        judged_on = read_marks([self.judge_text] if self.judge_text else [])
        return Key(*map(_digest, (study, read_marks(self.texts), (asked, judged_on))))

    def placed(self, source: str, out: str) -> ShrinkToSize:
        """The same job for files that lie elsewhere by now."""
        source, out = str(Path(source).absolute()), str(Path(out).absolute())
        return msgspec.structs.replace(self, source=source, out=out)


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode("ascii", "backslashreplace")).hexdigest()
