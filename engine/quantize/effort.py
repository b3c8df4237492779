"""How much work a shrink to a size does, by how much the user wants to wait."""

from __future__ import annotations

from typing import Literal

import msgspec

EffortName = Literal["fast", "balanced", "best"]


class Effort(msgspec.Struct, frozen=True):
    """`chunks` of 512 tokens to calibrate with, 0 = all; `own_chunks` of them the model writes.

    At most `most_runs` runs of `run_chunks` chunks tell what tensors matter: with more tensors than
    runs, those of one role in neighbouring layers go together. `sweeps` and `refits` are
    `round_rows`'s; `folds` tells whether scales are looked for that can move. The result is
    compared on `judge_chunks`.
    """

    chunks: int
    own_chunks: int
    most_runs: int
    run_chunks: int
    sweeps: int
    refits: int
    folds: bool
    judge_chunks: int


EFFORTS: dict[EffortName, Effort] = {
    "fast": Effort(
        chunks=16,
        own_chunks=0,
        most_runs=16,
        run_chunks=2,
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
        sweeps=2,
        refits=2,
        folds=False,
        judge_chunks=8,
    ),
    "best": Effort(
        chunks=0,
        own_chunks=192,
        most_runs=512,
        run_chunks=16,
        sweeps=3,
        refits=2,
        folds=True,
        judge_chunks=24,
    ),
}
