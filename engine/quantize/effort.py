"""How much work a shrink to a size does, by how much the user wants to wait."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

import msgspec

from engine.calibrate.job import SHORTEST_N_CTX

if TYPE_CHECKING:
    from engine.source import ModelSource

EffortName = Literal["fast", "balanced", "best"]


# A core of a server reads 50e9 weights times tokens a second, with the second moments half of that,
# and rounds 1 to 3 million weights. Of 15 minutes on 8 cores, which are to do for 8e9 weights, the
# rounding alone takes 7; this is what can be read in 4, weights times tokens:
READABLE = 1.1e14
CHUNK_TOKENS = 512
FEWEST_CHUNKS = 8
FEWEST_TO_JUDGE = 4
FEWEST_RUNS = 9  # one for each kind of tensor in most models
MOST_WITH_REFITS = 3e9
MOST_WITH_SWEEPS = 5e9
MOST_READ_WHOLE = 5e8  # parameters; larger ones are read in 8 bits: less time, half the memory
MOST_IN_16_BITS = 2e9  # parameters that anybody has memory for, whatever the patience
MOST_CORRECTED = 5e7  # parameters that "balanced" has time for: each input reads the text anew
MOST_TWICE = 2e8  # parameters that are in memory twice for it, in F32
PATIENCE = {"fast": 0.25, "balanced": 1.0, "best": 16.0}


class Effort(msgspec.Struct, frozen=True):
    """`chunks` of `n_ctx` tokens to calibrate with, 0 = all; `own_chunks` of them the model writes.

    At most `most_runs` runs of `run_chunks` chunks tell what tensors matter: with more tensors than
    runs, those of one role in neighbouring layers go together. `sample_rows` of each tensor and
    `held_out` inputs tell what a type does to it. `sweeps` and `refits` are `round_rows`'s; `folds`
    tells whether scales are looked for that can move. The result is compared on `judge_chunks`.
    `correct_chunks` are read for each input to find out what its matrices make up for, 0 = nothing.
    `reads_compact` lets a copy in 8 bits read all of this.
    """

    chunks: int
    own_chunks: int
    most_runs: int
    run_chunks: int
    sample_rows: int
    held_out: int
    sweeps: int
    refits: int
    folds: bool
    judge_chunks: int
    correct_chunks: int = 0
    reads_compact: bool = False
    n_ctx: int = CHUNK_TOKENS


EFFORTS: dict[EffortName, Effort] = {
    "fast": Effort(
        chunks=16,
        own_chunks=0,
        most_runs=16,
        run_chunks=2,
        sample_rows=192,
        held_out=512,
        sweeps=1,
        refits=0,
        folds=False,
        judge_chunks=8,
    ),
    "balanced": Effort(
        chunks=320,
        own_chunks=128,
        most_runs=128,
        run_chunks=8,
        sample_rows=192,
        held_out=512,
        sweeps=2,
        refits=2,
        folds=False,
        judge_chunks=8,
        correct_chunks=32,
    ),
    "best": Effort(
        chunks=0,
        own_chunks=192,
        most_runs=512,
        run_chunks=16,
        sample_rows=192,
        held_out=512,
        sweeps=3,
        refits=2,
        folds=True,
        judge_chunks=24,
        correct_chunks=64,
    ),
}
"""For small models; see `effort_for`."""


def effort_for(
    name: EffortName, n_parameters: int, n_ctx_train: int = 0, n_active: int = 0
) -> Effort:
    """The effort `name` for a model of `n_parameters`: a large one gets less for each of them.

    `n_active` of them compute with each token, 0 = all: those of experts that it does not go to
    cost nothing to read, and each expert sees few tokens.

    One that was trained on fewer than 512 tokens at once, `n_ctx_train`, 0 = not known, reads as
    many in more and shorter chunks: what it makes of longer ones is nothing to go by.

    So that `balanced` takes about a quarter of an hour for 8 billion on 8 cores and `best` hours;
    how near it comes is in docs/measured.md, Shrinking at scale. `fast` takes half of it at 1
    billion; at 8, where both do the least that tells something, as long. Least is taken from what
    the result depends on most: the rounding; most from reading, whose figures are means already.
    """
    effort = EFFORTS[name]
    size = n_parameters / PATIENCE[name]
    n_chunks = int(READABLE / CHUNK_TOKENS / max(1, (n_active or n_parameters) / PATIENCE[name]))
    usual = effort.chunks + effort.own_chunks + effort.run_chunks * (effort.most_runs + 1)
    usual += 2 * effort.judge_chunks
    if n_chunks < usual:
        effort = _reading(effort, n_chunks)
    if size > MOST_CORRECTED or n_parameters > MOST_TWICE:
        effort = msgspec.structs.replace(effort, correct_chunks=0)
    if size > MOST_READ_WHOLE or n_parameters > MOST_IN_16_BITS:
        effort = msgspec.structs.replace(effort, reads_compact=True)
    if size > MOST_WITH_REFITS:
        effort = msgspec.structs.replace(
            effort, sample_rows=64, held_out=128, sweeps=min(1, effort.sweeps), refits=0
        )
    if size > MOST_WITH_SWEEPS:
        effort = msgspec.structs.replace(effort, sweeps=0)
    return _within(effort, n_ctx_train) if 0 < n_ctx_train < effort.n_ctx else effort


def effort_of(name: EffortName, source: ModelSource) -> Effort:
    """The effort `name` for the model `source`."""
    from engine.fit.shape import Shape

    n_parameters = sum(tensor.n_elements for tensor in source.tensors)
    shape = Shape.from_metadata(source.metadata)
    share = min(1.0, shape.n_experts_used / shape.n_experts) if shape.n_experts else 1.0
    n_of_experts = sum(t.n_elements for t in source.tensors if "_exps." in t.name)
    n_active = n_parameters - round((1.0 - share) * n_of_experts)
    return effort_for(name, n_parameters, shape.n_ctx_train, n_active)


def _within(effort: Effort, n_ctx: int) -> Effort:
    """`effort` in chunks of `n_ctx` tokens; of 32 at least, as less shows no context at all."""
    n_ctx = max(SHORTEST_N_CTX, n_ctx)
    times = max(1, effort.n_ctx // n_ctx)
    return msgspec.structs.replace(
        effort,
        n_ctx=n_ctx,
        chunks=times * effort.chunks,
        own_chunks=times * effort.own_chunks,
        run_chunks=times * effort.run_chunks,
        judge_chunks=times * effort.judge_chunks,
        correct_chunks=times * effort.correct_chunks,
    )


def _reading(effort: Effort, n_chunks: int) -> Effort:
    """`effort` with about `n_chunks` to read: a third to calibrate with."""
    most = effort.chunks or n_chunks
    chunks = min(most, max(FEWEST_CHUNKS, n_chunks // 3))
    # Writing a chunk takes as long as reading several: a large model learns nothing of itself.
    own_chunks = min(effort.own_chunks, chunks // 4) if chunks >= 4 * FEWEST_CHUNKS else 0
    judge_chunks = min(effort.judge_chunks, max(FEWEST_TO_JUDGE, n_chunks // 6))
    to_run = n_chunks - chunks - own_chunks - 2 * judge_chunks
    run_chunks = min(effort.run_chunks, max(1, to_run // (4 * FEWEST_RUNS)))
    most_runs = min(effort.most_runs, max(FEWEST_RUNS, to_run // run_chunks - 1))
    return msgspec.structs.replace(
        effort,
        chunks=chunks,
        own_chunks=own_chunks,
        run_chunks=run_chunks,
        most_runs=most_runs,
        judge_chunks=judge_chunks,
    )


STAGES: Mapping[str, float] = MappingProxyType({
    "Preparing the model": 0.02,
    "Letting it write": 0.1,
    "Calibrating": 0.14,
    "Looking at the tensors": 0.02,
    "Finding out what matters": 0.23,
    "Trying types": 0.24,
    "Folding": 0.03,
    "Trying types again": 0.03,
    "Correcting": 0.05,
    "Shrinking": 0.08,
    "Comparing": 0.03,
})  # fmt: skip
"""The stages of a shrink to a size and their shares of its time, roughly.

What is left is for a result that is not good enough: others are written and compared.
"""

_ALL_CHUNKS = 150  # of the texts that come with Snug, about
_WRITING = 4  # times the work of reading
_INPUTS = 50  # of a small model, each of which two models read half way for
_READ_PER_CORE = 30e9  # weights times tokens a second: what is below a server's is common
_ROUNDED_PER_CORE = 3e6  # weights a second, with feedback; each sweep takes as long again


def expected_seconds(effort: EffortName, n_weights: int) -> float:
    """How long a shrink of `n_weights` takes on this computer, to the order of magnitude."""
    from engine.workers import n_cores

    work = effort_for(effort, n_weights)
    runs = work.most_runs * work.run_chunks + 2 * work.judge_chunks
    n_chunks = (work.chunks or _ALL_CHUNKS) + _WRITING * work.own_chunks + runs
    n_chunks += _INPUTS * work.correct_chunks
    reading = CHUNK_TOKENS * n_chunks / _READ_PER_CORE
    rounding = (1 + work.sweeps + work.refits) / _ROUNDED_PER_CORE
    return n_weights * (reading + rounding) / n_cores()
