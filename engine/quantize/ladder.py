"""The job that makes a model with each of the named methods, and says how good each is.

All are judged on the same text against the same original, which is read once.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import msgspec

from engine.fit.run import KvType
from engine.jobs import Job, Progress, Step
from engine.quantize.effort import Effort, EffortName, effort_of
from engine.quantize.figures import QualityReport

if TYPE_CHECKING:
    from engine.calibrate.statistics import Statistics
    from engine.model_writer import Encode
    from engine.quantize.fold import InputStatistics
    from engine.quantize.methods import Method
    from engine.quantize.recipe import Recipe
    from engine.quantize.reference import Reference
    from engine.quantize.study import Study
    from engine.source import ModelSource


class Rung(msgspec.Struct, frozen=True):
    """One method: what it is called, the types it gave, and what became of the model.

    `seconds` are those of making the file, without what all calibrated methods share.
    """

    method: str
    words: str
    types: str
    size_bytes: int
    bits_per_weight: float
    seconds: float
    quality: QualityReport


class Rungs(msgspec.Struct, frozen=True):
    """The methods in the order of METHODS; `size_bytes` is that of the stock recipe.

    `best` is the method with the least mean KL divergence among those no larger (if all are, among
    all), and `kv_caches` what its model is with each type of KV cache that llama.cpp can give it.
    """

    rungs: tuple[Rung, ...]
    size_bytes: int
    best: str
    kv_caches: tuple[QualityReport, ...]


class Ladder(Job, frozen=True):
    """Compare `methods` (none: all) on `source`, a checkpoint folder or a 16- or 32-bit GGUF.

    Those that leave it open get the types, or the size, of the stock `recipe`. Calibrated with
    `texts` (none: what comes with Snug), judged on the first `chunks` chunks (0: all) of the file
    `text`. Each model is made in a folder of its own inside of `folder` ("": where temporary files
    lie) and removed; nothing is left. Raises FormatError for a method that there is not, what
    `Reference.open` and `compare` raise, and what shrinking raises.
    """

    Result: ClassVar = Rungs

    source: str
    text: str
    methods: tuple[str, ...] = ()
    recipe: str = "Q4_K_M"
    effort: EffortName = "balanced"
    texts: tuple[str, ...] = ()
    chunks: int = 0
    n_ctx: int = 512
    folder: str = ""
    n_threads: int = 0

    def run(self) -> Generator[Step, None, Rungs]:
        from engine.files import write_error
        from engine.quantize.methods import find_methods
        from engine.quantize.recipe import find_recipe
        from engine.scratch import scratch_folder
        from engine.source import open_source

        yield Progress("Reading the model", 0, None, "bytes")
        methods, recipe = find_methods(self.methods), find_recipe(self.recipe)
        parent = Path(self.folder) if self.folder else None
        source = open_source(self.source)
        try:
            with scratch_folder(parent) as folder:
                return (yield from self._climb(source, methods, recipe, folder))
        except OSError as error:
            raise write_error(error, parent or Path(self.source)) from error
        finally:
            source.close()

    def _climb(
        self, source: ModelSource, methods: tuple[Method, ...], recipe: Recipe, folder: Path
    ) -> Generator[Step, None, Rungs]:
        from engine.quantize.plan import plan
        from engine.quantize.reference import Reference
        from engine.quantize.study import Study
        from engine.quantize.workbench import Workbench

        size_bytes = plan(source, recipe).size_bytes
        effort = effort_of(self.effort, source)
        study = Study(source, Workbench(folder, None), effort, self.n_threads)
        original = yield from study.prepare(self.source)
        statistics: Statistics | None = None
        reference = yield from Reference.open(
            str(original),
            self.text,
            self.chunks,
            self.n_ctx,
            n_threads=self.n_threads,
            folder=folder,
        )
        try:
            if any(method.is_calibrated and not method.chooses_types for method in methods):
                statistics = yield from study.calibrate(self.source, self.texts)
            maker = _Maker(self, effort, source, study, statistics, recipe)
            climbed: list[Rung] = []
            best, path = None, folder / "best.gguf"
            for method in methods:
                made = folder / "model.gguf"
                rung = yield from _measured(maker, reference, method, made)
                climbed.append(rung)
                if best is None or _rank(rung, size_bytes) < _rank(best, size_bytes):
                    best = rung
                    made.replace(path)
                made.unlink(missing_ok=True)
            assert best  # there is a method
            caches: tuple[QualityReport, ...] = (best.quality,)
            for kv_type in _kv_types(source):
                caches += ((yield from reference.compare(str(path), kv_type)),)
            return Rungs(tuple(climbed), size_bytes, best.method, caches)
        finally:
            reference.close()
            if statistics:
                statistics.close()


class _Made(NamedTuple):
    size_bytes: int
    bits_per_weight: float
    types: str


class _Maker:
    """Makes a file with a method; `statistics` are there if one of the methods asks for them."""

    def __init__(
        self,
        job: Ladder,
        effort: Effort,
        source: ModelSource,
        study: Study,
        statistics: Statistics | None,
        recipe: Recipe,
    ) -> None:
        self._job = job
        self._effort = effort
        self._source = source
        self._study = study
        self._statistics = statistics
        self._recipe = recipe

    def make(self, method: Method, out: Path) -> Generator[Step, None, _Made]:
        from engine.model_writer import write_model
        from engine.quantize.plan import plan

        if method.chooses_types:
            return (yield from self._mixed(out))
        recipe = method.recipe or self._recipe
        source, statistics = self._source, self._seen(method)
        if method.folds and self._statistics:
            source, statistics = yield from self._folded(method, recipe, self._statistics)
        to_do = plan(source, recipe)
        yield from write_model(
            source,
            to_do,
            str(out),
            f"Shrinking: {method.words}",
            self._job.n_threads,
            encode=self._encode(method, statistics),
        )
        return _Made(to_do.size_bytes, to_do.bits_per_weight, recipe.name)

    def _seen(self, method: Method) -> InputStatistics | None:
        return self._statistics if method.is_calibrated else None

    def _mixed(self, out: Path) -> Generator[Step, None, _Made]:
        from engine.quantize.shrink_to_size import ShrinkToSize

        job = self._job
        shrunk = yield from ShrinkToSize(
            source=job.source,
            out=str(out),
            recipe=self._recipe.name,
            effort=job.effort,
            texts=job.texts,
            judges=False,
            n_threads=job.n_threads,
        ).run()
        return _Made(shrunk.size_bytes, shrunk.bits_per_weight, "measured")

    def _folded(
        self, method: Method, recipe: Recipe, statistics: Statistics
    ) -> Generator[Step, None, tuple[ModelSource, InputStatistics]]:
        from engine.quantize.fold import FoldedSource, FoldedStatistics
        from engine.quantize.recipe import tensor_types

        source = self._source
        types = tensor_types(recipe, source.tensors, source.metadata)
        folds = yield from self._study.search_folds(statistics, types, forms=(method.folds,))
        return (
            FoldedSource(source, folds),
            FoldedStatistics(statistics, source.tensors, folds),
        )

    def _encode(self, method: Method, statistics: InputStatistics | None) -> Encode:
        from engine.quantize.encode import Care, Encoder
        from engine.quantize.hqq import encode_hqq

        if method.rounding == "hqq":
            return encode_hqq
        effort, has_feedback = self._effort, method.rounding == "feedback"
        care = Care(feedback=has_feedback, sweeps=effort.sweeps, refits=effort.refits)
        return Encoder(statistics, care).encode


def _measured(
    maker: _Maker, reference: Reference, method: Method, out: Path
) -> Generator[Step, None, Rung]:
    started = time.monotonic()
    made = yield from maker.make(method, out)
    seconds = time.monotonic() - started
    quality = yield from reference.compare(str(out))
    return Rung(
        method=method.name,
        words=method.words,
        types=made.types,
        size_bytes=made.size_bytes,
        bits_per_weight=made.bits_per_weight,
        seconds=seconds,
        quality=quality,
    )


def _rank(rung: Rung, size_bytes: int) -> tuple[bool, float]:
    return rung.size_bytes > size_bytes, rung.quality.kld_mean


def _kv_types(source: ModelSource) -> tuple[KvType, ...]:
    """Those besides F16 that llama.cpp can give the model: heads of whole blocks of 32."""
    from engine.fit.shape import Shape

    shape = Shape.from_metadata(source.metadata)
    is_whole = shape.head_dim_k % 32 == 0 and shape.head_dim_v % 32 == 0
    return ("q8_0", "q4_0") if is_whole else ()
