"""Speed of rounding, and what it gains for the output, against ggml's quantization with an imatrix.

Run by `make bench-native`. Random weights; inputs that go together, with columns of different size.
Each is run in turn on the same rows. Time is that of the processor on one thread, of the clock on
more. The error is that on inputs that nothing was fitted to, ggml's being 1.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from engine import _native
from engine.ggml_types import GgmlType
from engine.llama.ggml import quantize_chunk, quantize_rows
from engine.quantize.rounding import Curvature, held_out_errors

Rows = NDArray[np.float32]
Quantize = Callable[[GgmlType, Rows, Rows], NDArray[np.uint8]]
TYPES = (GgmlType.Q2_K, GgmlType.Q3_K, GgmlType.IQ4_XS, GgmlType.Q4_K, GgmlType.Q6_K, GgmlType.Q4_0)
# with feedback, sweeps, refits
STEPS = {
    "feedback": (True, 0, 0),
    "+ 1 sweep": (True, 1, 0),
    "+ 1 refit": (True, 1, 1),
    "+ 2 refits": (True, 1, 2),
}


def inputs(n_samples: int, n_cols: int, rng: np.random.Generator) -> Rows:
    """Columns of lognormal size, mixed by directions whose variance falls as i^-0.7."""
    directions = np.random.default_rng(1).normal(size=(n_cols, n_cols)).astype(np.float32)
    directions *= (np.arange(1, n_cols + 1, dtype=np.float32) ** -0.35)[:, np.newaxis]
    sizes = np.exp(0.6 * np.random.default_rng(2).normal(size=n_cols)).astype(np.float32)
    mixed: Rows = rng.standard_normal((n_samples, n_cols), dtype=np.float32) @ directions * sizes
    return mixed / np.float32(np.sqrt(n_cols))


class Case:
    """Rows of one width, and what is known of their inputs."""

    def __init__(self, n_rows: int, n_cols: int, n_threads: int) -> None:
        rng = np.random.default_rng(n_cols)
        n_tokens = 8 * n_cols
        x = inputs(n_tokens, n_cols, rng)
        self.held_out = inputs(512, n_cols, rng)
        self.rows = (0.05 * rng.standard_normal((n_rows, n_cols))).astype(np.float32)
        self.n_threads = n_threads
        moment = x.T @ x / np.float32(n_tokens)
        self.importance = np.diagonal(moment).copy()
        self.factor_seconds = seconds(lambda: self.factor(moment, n_tokens), n_threads)

    def factor(self, moment: Rows, n_tokens: int) -> None:
        self.curvature = Curvature.of(moment, n_tokens, n_threads=self.n_threads)

    def stock(self, ggml_type: GgmlType, quantize: Quantize) -> NDArray[np.uint8]:
        """ggml's bytes, each thread with a part of the rows."""
        parts = np.array_split(self.rows, self.n_threads)
        with ThreadPoolExecutor(self.n_threads) as threads:
            done = threads.map(lambda part: quantize(ggml_type, part, self.importance), parts)
        return np.concatenate(list(done))

    def ours(
        self, ggml_type: GgmlType, stock: NDArray[np.uint8], steps: tuple[bool, int, int]
    ) -> NDArray[np.uint8]:
        blocks, errors = stock.copy(), np.empty(len(stock))
        _native.round_rows(
            ggml_type.name,
            self.rows,
            self.curvature.moment[0],
            self.curvature.order[0],
            self.curvature.feedback[0],
            self.curvature.pivots[0],
            blocks,
            errors,
            *steps,
            self.n_threads,
        )
        return blocks

    def error(self, ggml_type: GgmlType, stored: NDArray[np.uint8]) -> float:
        return float(held_out_errors(ggml_type, self.rows, stored, self.held_out).sum())


def by_ggml(ggml_type: GgmlType, rows: Rows, importance: Rows) -> NDArray[np.uint8]:
    stored = np.empty((len(rows), ggml_type.row_bytes(rows.shape[1])), np.uint8)
    quantize_chunk(ggml_type, rows, importance, stored)
    return stored


def seconds(run: Callable[[], object], n_threads: int) -> float:
    clock = time.process_time if n_threads == 1 else time.perf_counter
    start = clock()
    run()
    return clock() - start


def report(case: Case, ggml_type: GgmlType, repetitions: int) -> str:
    stock = case.stock(ggml_type, by_ggml)
    same: tuple[Quantize, ...] = by_ggml, quantize_rows
    runs: list[Callable[[], object]] = [partial(case.stock, ggml_type, by) for by in same]
    runs += [partial(case.ours, ggml_type, stock, steps) for steps in STEPS.values()]
    times = [[seconds(run, case.n_threads) for run in runs] for _ in range(repetitions)]
    of_ggml, of_same, *of_ours = (statistics.median(column) for column in zip(*times, strict=True))
    of_error = case.error(ggml_type, stock)
    columns = [f"{ggml_type.name:7}"]
    columns += [f"{case.rows.size / taken / 1e6:10.1f}" for taken in (of_ggml, of_same)]
    for steps, time_taken in zip(STEPS.values(), of_ours, strict=True):
        error = case.error(ggml_type, case.ours(ggml_type, stock, steps)) / of_error
        columns.append(f"{case.rows.size / time_taken / 1e6:6.1f} {error:8.3f}")
    return "  ".join(columns)


def main() -> None:
    parser = argparse.ArgumentParser(description="Rounding for the output against ggml's.")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()

    print(f"million weights a second, error; {options.threads} thread(s), {options.rows} rows")
    for n_cols in (2048, 4096):
        case = Case(options.rows, n_cols, options.threads)
        print(f"\n{n_cols} columns, factored in {case.factor_seconds:.1f} s")
        names = [f"{name:>10}" for name in ("ggml", "the same")]
        print("  ".join([" " * 7, *names, *(f"{name:>15}" for name in STEPS)]))
        for ggml_type in TYPES:
            print(report(case, ggml_type, options.repetitions), flush=True)


if __name__ == "__main__":
    main()
