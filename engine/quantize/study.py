"""What is found out of a model before it is shrunk to a size: its inputs, and what tensors matter.

Each figure is kept on the workbench as soon as it is known, by all that it depends on beside the
model, the texts and the effort: another size, other pins or types find what they need of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from engine.calibrate.job import Calibrate
from engine.calibrate.statistics import Statistics
from engine.calibrate.texts import bundled_texts, split
from engine.ggml_types import GgmlType
from engine.gguf_values import TensorInfo
from engine.jobs import Notice, Progress, Step
from engine.llama.free_text import write_freely
from engine.llama.model import load_model
from engine.model_writer import Plan, write_model
from engine.quantize.allocate import Choice, Item
from engine.quantize.budget import padded_bytes
from engine.quantize.candidates import Profile, candidate_types, coarse_type
from engine.quantize.choice import name_of
from engine.quantize.effort import Effort
from engine.quantize.encode import Care, Encoder
from engine.quantize.fold import Folded
from engine.quantize.fold_search import FORMS, search_folds
from engine.quantize.folds import folds_of
from engine.quantize.given_statistics import of_another, open_given
from engine.quantize.matrices import n_matrices
from engine.quantize.reading import plan_of, require_memory
from engine.quantize.rounding_errors import coarse_error, rounding_error
from engine.quantize.sensitivity import Group, Sensitivities, each_matters, role_of
from engine.quantize.workbench import MODEL, READING, STATISTICS, Workbench
from engine.source import open_source
from engine.workers import in_order, n_cores, threads, wait

if TYPE_CHECKING:
    from engine.llama.model import Model
    from engine.quantize.choice import Chosen
    from engine.quantize.fold import InputStatistics
    from engine.source import ModelSource

WRITTEN, OWN_WORDS = "written.json", "own-words.tokens"
MATTERS, ERRORS, FOLDS, FOLDED_ERRORS = (
    f"{name}.json" for name in ("matters", "errors", "folds", "folded-errors")
)


class Study:
    """The model `source`, without folds, on the workbench; `model` is a GGUF file of it."""

    def __init__(self, source: ModelSource, bench: Workbench, effort: Effort, n_threads: int):
        self._source = source
        self._bench = bench
        self._effort = effort
        self._n_threads = n_threads
        self.model = Path()
        self._reading = Path()
        self._texts: tuple[str, ...] = ()
        self.unused: tuple[str, ...] = ()
        """Tensors that nothing could be measured of; known after `matters`."""

    def prepare(self, path: str) -> Generator[Step, None, Path]:
        """Return the model as a GGUF file: a checkpoint is written as one, in the types it has.

        Raises OutOfMemory if it cannot be read in memory.
        """
        reading = plan_of(self._source, is_compact=self._effort.reads_compact)
        twice = 8 * sum(tensor.n_elements for tensor in self._source.tensors)
        require_memory(max(reading.size_bytes, twice if self._effort.correct_chunks else 0))
        self.model = Path(path)
        if self.model.is_dir():
            self.model = self._bench.path(MODEL)
            yield from self._write(plan_of(self._source, is_compact=False), self.model)
        self._reading = self.model
        if self._effort.reads_compact:
            self._reading = self._bench.path(READING)
            yield from self._write(reading, self._reading)
        return self.model

    def _write(self, plan: Plan, path: Path) -> Generator[Progress, None, None]:
        """Write the model to the workbench, unless that was done before."""
        if not path.exists():
            stage = "Preparing the model"
            yield from write_model(self._source, plan, str(path), stage, self._n_threads)

    def calibrate(
        self, path: str, texts: Sequence[str], given: str = ""
    ) -> Generator[Step, None, Statistics]:
        """Let it read `texts` (none: those that come with Snug) and some of its own words.

        Statistics that are `given` in a file are taken instead. Raises what `open_given` does.
        """
        yield from self.prepare(path)
        self._texts = tuple(texts) or bundled_texts()
        if given:
            statistics = open_given(given, self._source)
            try:
                if told := of_another(given, statistics, self._source):
                    yield Notice(told)
            except BaseException:  # it may be cancelled here
                statistics.close()
                raise
            return statistics
        if self._effort.own_chunks:
            self._texts += ((yield from self._own_words()),)
        made = str(self._bench.path(STATISTICS))
        yield from Calibrate(
            model=str(self._reading),
            out=made,
            texts=self._texts,
            chunks=self._effort.chunks,
            n_ctx=self._effort.n_ctx,
            n_threads=self._n_threads,
            n_held_out=self._effort.held_out,
            overwrite=True,
            can_go_on=True,
        ).run()
        return Statistics.open(made)

    def _own_words(self) -> Generator[Step, None, str]:
        """What the model writes by itself: text like that which it has learned from.

        (Williams et al., Self-calibration for language model quantization, arXiv 2410.17170.)
        """
        path = self._bench.path(OWN_WORDS)
        if not path.exists():
            model = yield from load_model(self._reading)
            try:
                texts = yield from write_freely(
                    model,
                    self._effort.own_chunks,
                    self._effort.n_ctx,
                    self._n_threads,
                    self._bench.load(WRITTEN, list[list[int]]) or [],
                    partial(self._bench.save, WRITTEN),
                )
            finally:
                model.close()
            self._bench.save(OWN_WORDS, [token for text in texts for token in text])
        return str(path)

    def matters(
        self, tensors: Sequence[TensorInfo], statistics: Statistics
    ) -> Generator[Step, None, dict[str, float]]:
        """How many nats of KL divergence a relative error of 1 in each tensor's output would cost.

        By its linear part; the runs are with errors of a few hundredths at most.
        """
        encoder = Encoder(statistics, Care(feedback=False))
        coarse = {tensor.name: coarse_type(tensor) for tensor in tensors}
        errors = {}
        for done, tensor in enumerate(tensors):
            yield Progress("Looking at the tensors", done, len(tensors), "tensors")
            errors[tensor.name] = coarse_error(
                self._source,
                tensor,
                coarse[tensor.name],
                encoder,
                statistics,
                self._effort.sample_rows,
            )
            self._source.forget()
        groups = grouped(tensors, self._effort.most_runs)
        known = {g.tensors: g for g in self._bench.load(MATTERS, list[Group]) or []}
        if any(names_of(group) not in known for group in groups):
            yield from self._run(groups, coarse, encoder, known)
        measured = [known[names_of(group)] for group in groups]
        self.unused = tuple(name for group in measured for name in group.unused)
        return each_matters(measured, errors)

    def _run(
        self,
        groups: Sequence[Sequence[TensorInfo]],
        coarse: Mapping[str, GgmlType],
        encoder: Encoder,
        known: dict[tuple[str, ...], Group],
    ) -> Generator[Step, None, None]:
        """Measure the groups that are not `known` yet, and keep each on the workbench."""
        stage = "Finding out what matters"
        with closing(open_source(self._reading)) as loaded:
            model = yield from load_model(self._reading, is_copied=True)
            try:
                chunks = yield from self._chunks(model)
            except BaseException:
                model.close()
                raise
            some = spread(chunks, self._effort.run_chunks)
            folder = self._bench.folder
            runs = Sensitivities(
                self._source, loaded, model, some, encoder, self._n_threads, folder
            )
            with closing(runs):
                yield from runs.read_original(Progress(stage, 0, len(groups), "steps"))
                for done, group in enumerate(groups):
                    if (names := names_of(group)) in known:
                        continue
                    meanwhile = Progress(stage, done, len(groups), "steps")
                    known[names] = yield from runs.measure(group, coarse, meanwhile)
                    self._bench.save(MATTERS, list(known.values()))

    def _chunks(self, model: Model) -> Generator[Step, None, list[list[int]]]:
        """The texts as `model` reads them."""
        texts = [Path(text) for text in self._texts]
        with threads(1, "texts") as thread:
            work = thread.submit(
                split, texts, model.vocabulary, model.chat_template, self._effort.n_ctx
            )
            return (yield from wait(work, Progress("Reading the texts", 0, None, "tokens")))

    def corrected(self, chosen: Chosen, care: Care) -> Generator[Step, None, Chosen]:
        """The same, to be rounded with `care`, where each matrix makes up for what was lost."""
        from engine.quantize.correct import correct

        def some(model: Model) -> Generator[Step, None, list[list[int]]]:
            return spread((yield from self._chunks(model)), self._effort.correct_chunks)

        return (yield from correct(chosen, care, some, self._bench, self._n_threads))

    def folds(
        self, statistics: Statistics, types: Mapping[str, GgmlType]
    ) -> Generator[Step, None, tuple[Folded, ...]]:
        """The scales that are worth moving, for tensors that will have `types`."""
        import numpy as np

        possible = folds_of(self._source.metadata, self._source.tensors)
        of_all = self._bench.load(FOLDS, dict[str, dict[str, list[float]]]) or {}
        known = of_all.get(name := name_of(types))
        if known is None:
            found = yield from self.search_folds(statistics, types)
            known = {folded.fold.name: folded.scales.tolist() for folded in found}
            self._bench.save(FOLDS, {**of_all, name: known})
        return tuple(
            Folded(fold, np.array(known[fold.name], np.float32))
            for fold in possible
            if fold.name in known
        )

    def search_folds(
        self,
        statistics: Statistics,
        types: Mapping[str, GgmlType],
        forms: Collection[str] = FORMS,
    ) -> Generator[Step, None, tuple[Folded, ...]]:
        """The same of `forms` of scales, without the workbench."""
        return (
            yield from search_folds(
                folds_of(self._source.metadata, self._source.tensors),
                self._source,
                statistics,
                types,
                forms=forms,
                n_threads=self._n_threads or n_cores(),
            )
        )

    def items(
        self,
        source: ModelSource,
        tensors: Sequence[TensorInfo],
        statistics: InputStatistics,
        care: Care,
        matters: Mapping[str, float],
        profile: Profile,
        *,
        folds: str = "",
    ) -> Generator[Step, None, list[Item]]:
        """What each type would cost each of `tensors` of `source`.

        They are measured as they will be rounded, with `care`; `folds` is the name of those that
        `source` has.
        """
        stage, file = ("Trying types again", FOLDED_ERRORS) if folds else ("Trying types", ERRORS)
        of_all = self._bench.load(file, dict[str, dict[str, dict[str, float]]]) or {}
        known = of_all.setdefault(folds, {})
        types = {
            tensor.name: candidate_types(
                tensor, profile, has_importance=statistics.importance(tensor.name) is not None
            )
            for tensor in tensors
        }
        n_threads = self._n_threads or n_cores()
        # The types of one tensor together: what they need of its inputs takes memory.
        unknown = [
            (tensor, target)
            for tensor in tensors
            for target in types[tensor.name]
            if target.name not in known.get(tensor.name, {})
        ]
        n_left = Counter(tensor.name for tensor, _ in unknown)
        coming = [t for t in tensors if t.name in n_left and n_matrices(t) == 1]
        encoder = Encoder(statistics, care, n_threads, coming)

        def measure(one: tuple[TensorInfo, GgmlType]) -> float:
            rows = self._effort.sample_rows
            return rounding_error(source, *one, encoder, statistics, rows)

        errors: dict[str, float] = {}
        with closing(encoder), threads(n_threads, "types") as pool:
            for (tensor, target), future in in_order(pool, measure, unknown, n_threads + 1):
                done = Progress(stage, len(tensors) - len(n_left), len(tensors), "tensors")
                yield done
                errors[target.name] = yield from wait(future, done)
                if len(errors) == n_left[tensor.name]:
                    known[tensor.name] = known.get(tensor.name, {}) | errors
                    errors = {}
                    del n_left[tensor.name]
                    self._bench.save(file, of_all)
                    source.forget()
        return [
            Item(
                tensor.name,
                tuple(
                    Choice(
                        t,
                        padded_bytes(tensor, t),
                        matters[tensor.name] * known[tensor.name][t.name],
                    )
                    for t in types[tensor.name]
                ),
            )
            for tensor in tensors
        ]


def grouped(tensors: Sequence[TensorInfo], most: int) -> list[list[TensorInfo]]:
    """Put tensors into at most `most` groups, roughly: by role, then by neighbouring layers."""
    if len(tensors) <= most:
        return [[tensor] for tensor in tensors]
    roles: dict[str, list[TensorInfo]] = {}
    for tensor in tensors:
        roles.setdefault(role_of(tensor.name), []).append(tensor)
    n_bands = max(1, most // len(roles))
    return [band for role in roles.values() for band in _bands(role, n_bands)]


def spread(chunks: Sequence[list[int]], most: int) -> list[list[int]]:
    """At most so many of `chunks`, from all of them."""
    n = min(most, len(chunks))
    return [chunks[i * len(chunks) // n] for i in range(n)]


def names_of(group: Iterable[TensorInfo]) -> tuple[str, ...]:
    return tuple(tensor.name for tensor in group)


def _bands(tensors: Sequence[TensorInfo], n: int) -> list[list[TensorInfo]]:
    n = min(n, len(tensors))
    bounds = [i * len(tensors) // n for i in range(n + 1)]
    return [list(tensors[a:b]) for a, b in pairwise(bounds)]
