"""The steps of a shrink to a size, one after the other, on its workbench."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from engine import __version__
from engine.files import as_write_error
from engine.gguf_values import TensorInfo
from engine.jobs import Step
from engine.llama.library import library
from engine.model_writer import write_model
from engine.quantize.budget import Budget
from engine.quantize.choice import Chooser, Chosen, stock_within
from engine.quantize.encode import Care, Encoder
from engine.quantize.figures import QualityReport
from engine.quantize.gate import OFF, check, is_better
from engine.quantize.given_statistics import told_of
from engine.quantize.judge_text import judge_text
from engine.quantize.plan import plan
from engine.quantize.recipe import find_recipe
from engine.quantize.reference import Reference
from engine.quantize.report import (
    OURS,
    STOCK_PREFIX,
    Candidate,
    ShrinkReport,
    Stage,
    TensorLine,
)
from engine.quantize.rounding import SCALAR_TYPES
from engine.quantize.study import OWN_WORDS, Study
from engine.quantize.workbench import JUDGED
from engine.words import format_percent, plural
from engine.workers import n_cores

if TYPE_CHECKING:
    from engine.calibrate.statistics import Statistics
    from engine.quantize.effort import Effort
    from engine.quantize.shrink_to_size import ShrinkToSize
    from engine.quantize.workbench import Workbench
    from engine.source import ModelSource

GROWTH = 1.08  # of the size, when a result is not good enough and may be larger
STOCK = Care(feedback=False)


class Made(NamedTuple):
    """A finished file on the workbench, what it is called, and all that is to be told of it."""

    path: Path
    name: str
    report: ShrinkReport


class _Version(NamedTuple):
    """A file on the workbench: ours, or that of a stock recipe; and who encoded it."""

    path: Path
    name: str
    chosen: Chosen
    care: Care
    encoder: Encoder
    quality: QualityReport | None


class Making:
    """The work of `job` on `source`; for one thread. `close` it at the end."""

    def __init__(
        self, job: ShrinkToSize, effort: Effort, source: ModelSource, bench: Workbench
    ) -> None:
        self._job = job
        self._effort = effort
        self._source = source
        self._bench = bench
        self._times = bench.times
        self._care = Care(sweeps=effort.sweeps, refits=effort.refits)
        self._study = Study(source, bench, effort, job.n_threads)
        self._statistics: Statistics | None = None
        self._reference: Reference | None = None
        self._best: _Version | None = None

    def run(self) -> Generator[Step, None, Made]:
        """Make versions until one passes the gate, and choose the best of them."""
        job = self._job
        with self._times.of("calibration"):
            self._statistics = yield from self._study.calibrate(
                job.source, job.texts, job.statistics
            )
        if not self._statistics.has_second_moments:
            self._care = STOCK
        if job.recipe and job.keeps_types:
            stock = plan(self._source, find_recipe(job.recipe))
            ours = Chosen(self._source, self._statistics, stock)
            versions = [(yield from self._version(OURS, ours, self._care))]
        else:
            versions = yield from self._ours(job.budget(self._source))
        if not self._passes(versions[-1]):
            size_bytes = versions[-1].chosen.plan.size_bytes
            if fallback := stock_within(self._source, size_bytes, job.pins):
                recipe, laid_out = fallback
                chosen = Chosen(self._source, self._statistics, laid_out)
                name = f"{STOCK_PREFIX}{recipe.name}"
                versions.append((yield from self._version(name, chosen, STOCK)))
        assert self._best
        best = self._best
        return Made(best.path, best.name, self._report(best, versions))

    def close(self) -> None:
        if self._reference:
            self._reference.close()
        if self._statistics:
            self._statistics.close()

    def _ours(self, budget: Budget) -> Generator[Step, None, list[_Version]]:
        """Our version in `budget`; and larger ones, as far as that is allowed, until one passes."""
        assert self._statistics
        with self._times.of("measuring"):
            chooser = yield from Chooser.measure(
                self._study,
                self._source,
                self._statistics,
                self._care,
                self._job.profile,
                self._job.pins,
                budget,
                folds=self._effort.folds,
            )
        chosen = chooser.within(budget)
        versions = [(yield from self._version(OURS, chosen, self._care))]
        size_bytes = chosen.plan.size_bytes
        while not self._passes(versions[-1]) and size_bytes < self._job.most_bytes:
            size_bytes = min(self._job.most_bytes, int(size_bytes * GROWTH))
            chosen = chooser.within(Budget(size_bytes))
            name = f"{OURS}, {size_bytes:,} bytes"
            versions.append((yield from self._version(name, chosen, self._care)))
        return versions

    def _version(self, name: str, chosen: Chosen, care: Care) -> Generator[Step, None, _Version]:
        """Write the file and compare it with the original, unless that was done before.

        Of two the worse one's file goes at once, its figures stay.
        """
        path = self._bench.path(f"{name}.gguf".replace(" ", "-").replace(",", ""))
        judged = f"{path.stem}{JUDGED}"
        coming = [
            new
            for old, new in zip(chosen.plan.sources, chosen.plan.tensors, strict=True)
            if new.type is not old.type and new.type in SCALAR_TYPES
        ]
        encoder = Encoder(chosen.statistics, care, self._job.n_threads or n_cores(), coming)
        quality = self._bench.load(judged, QualityReport) if self._job.judges else None
        if quality is None:
            yield from self._write(name, path, chosen, care, encoder)
        if quality is None and self._job.judges:
            with self._times.of(f"judging ({name})"):
                quality = yield from self._judge(path)
            self._bench.save(judged, quality)
        version = _Version(path, name, chosen, care, encoder, quality)
        self._keep_better(version)
        return version

    def _write(
        self, name: str, path: Path, chosen: Chosen, care: Care, encoder: Encoder
    ) -> Generator[Step, None, None]:
        if path.exists():
            return
        if care.feedback and self._effort.correct_chunks:
            with self._times.of(f"correcting ({name})"):
                chosen = yield from self._study.corrected(chosen, care)
        with self._times.of(f"rounding ({name})"), closing(encoder):
            yield from write_model(
                chosen.source,
                chosen.plan,
                str(path),
                "Shrinking",
                self._job.n_threads,
                note=self._bench.note(chosen.plan.size_bytes),
                encode=encoder.encode,
            )

    def _keep_better(self, version: _Version) -> None:
        """Let go of the file of `version`, or of the best one so far."""
        best, worse = self._best, version
        if best is None or not self._is_better(best, version):
            self._best, worse = version, best or version
        if worse is not self._best:
            with as_write_error(worse.path):
                worse.path.unlink(missing_ok=True)

    def _judge(self, path: Path) -> Generator[Step, None, QualityReport]:
        if self._reference is None:
            self._reference = yield from Reference.open(
                str(self._study.model),
                str(judge_text(self._job.judge_text, self._job.texts)),
                self._effort.judge_chunks,
                self._effort.n_ctx,
                n_threads=self._job.n_threads,
                folder=self._bench.folder,
            )
        quality = yield from self._reference.compare(str(path))
        if self._job.probes:
            probes = yield from self._reference.probe(str(path))
            quality = msgspec.structs.replace(quality, probes=probes)
        return quality

    def _passes(self, version: _Version) -> bool:
        return version.quality is None or not check(version.quality, self._job.gate)

    def _is_better(self, version: _Version, other: _Version) -> bool:
        assert version.quality is not None
        assert other.quality is not None
        return is_better(version.quality, other.quality, self._job.gate)

    def _report(self, best: _Version, versions: list[_Version]) -> ShrinkReport:
        job, laid_out = self._job, best.chosen.plan
        quality = best.quality
        return ShrinkReport(
            model=Path(job.out).name,
            size_bytes=laid_out.size_bytes,
            source=Path(job.source).name,
            source_bytes=0,
            recipe=job.recipe or best.name,
            bits_per_weight=laid_out.bits_per_weight,
            quality=quality,
            others=tuple(
                Candidate(other.name, other.chosen.plan.size_bytes, other.quality)
                for other in versions
                if other.quality and other is not best
            ),
            gate=None if job.gate == OFF else job.gate,
            failures=check(quality, job.gate) if quality else (),
            tensors=tuple(_line(tensor, best) for tensor in laid_out.tensors),
            settings=_settings(job),
            stages=tuple(Stage(*step) for step in self._times.steps.items()),
            versions={"snug": __version__, "llama.cpp": library().version},
            notes=self._notes(best, versions),
        )

    def _notes(self, best: _Version, versions: list[_Version]) -> tuple[str, ...]:
        notes = []
        if self._bench.has_new_texts:
            notes.append("It was begun again: its texts had changed since it was broken off.")
        if library().notice:
            notes.append(library().notice)
        if len(versions) > 1:
            notes.append(f"Of {len(versions)} versions this is the best: {best.name}.")
        if best.chosen.cost:
            notes.append(
                "From what its types do to each tensor alone, a mean KL divergence of "
                f"{best.chosen.cost:.5f} was expected."
            )
        if unused := self._study.unused:
            notes.append(
                f"Nothing could be measured of {plural(len(unused), 'tensor')} that this model does"
                f" not compute with here, such as {unused[0]}: taken to matter as others do."
            )
        assert self._statistics
        if self._job.statistics:
            notes.append(told_of(self._job.statistics, self._statistics, self._source))
        else:
            notes.append(_read(self._statistics))
        if best.quality:
            notes.append(self._compared(best.quality))
        few = self._statistics.few_tokens()
        if few:
            n = sum(map(len, few.values()))
            notes.append(f"Few tokens of the calibration text went to {n:,} of the experts.")
        return tuple(notes)

    def _compared(self, quality: QualityReport) -> str:
        n_ctx, wanted = self._effort.n_ctx, self._job.judge_text
        text = Path(wanted).name if wanted else "the text for it that comes with Snug"
        chunks = plural(quality.n_tokens // (n_ctx - n_ctx // 2 - 1), "chunk")
        return f"Compared with the original on the first {chunks} of {n_ctx} tokens of {text}."


def _read(statistics: Statistics) -> str:
    """What it was calibrated with."""
    own = "what it wrote by itself"
    texts = [own if name == OWN_WORDS else name for name in statistics.datasets]
    return f"Calibrated on {statistics.n_tokens_read:,} tokens of {', '.join(texts)}."


def _line(tensor: TensorInfo, version: _Version) -> TensorLine:
    old = next(t.type for t in version.chosen.plan.sources if t.name == tensor.name)
    way = "as it was"
    if old is not tensor.type and not tensor.type.is_float:
        way = "as llama-quantize"
        if version.chosen.statistics.importance(tensor.name) is None:
            way += ", without an imatrix"
        elif version.care.feedback and tensor.type in SCALAR_TYPES:
            way = share_words(version.encoder.share_of_ours(tensor))
    error = version.chosen.errors.get(tensor.name)
    return TensorLine(tensor.name, tensor.type.name, tensor.n_bytes, error, way)


def share_words(share: float | None) -> str:
    """How a tensor was rounded of which a `share` of the rows is not as llama-quantize has it.

    None is one that was begun before a pause: nobody has counted.
    """
    if share is None:
        return "feedback where it was better"
    if share in (0, 1):
        return "feedback" if share else "as llama-quantize"
    return f"feedback in {format_percent(max(0.01, share))} of rows"


def _settings(job: ShrinkToSize) -> dict[str, str]:
    told = msgspec.to_builtins(job)
    left_out = {"type", "source", "out", "gate", "overwrite", "texts", "loras"}
    left_out |= {"judge_text", "statistics"}
    found = {key: str(value) for key, value in told.items() if key not in left_out and value}
    if job.texts:
        found["texts"] = ", ".join(Path(text).name for text in job.texts)
    for key in ("judge_text", "statistics"):
        if path := getattr(job, key):
            found[key] = Path(path).name
    return found
