"""Speed of the KL divergence kernel against numpy, in the same run, alternating; medians.

Run by `make bench-native`. numpy computes in float32, as one would write it, on one thread.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from engine._native import compare_logits

Rows = NDArray[np.float32]


def numpy_log_softmax(rows: Rows) -> Rows:
    shifted: Rows = rows - rows.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def compare_with_numpy(reference: Rows, test: Rows, targets: NDArray[np.int32]) -> Rows:
    log_p, log_q = numpy_log_softmax(reference), numpy_log_softmax(test)
    i = np.arange(len(targets))
    kld = (np.exp(log_p) * (log_p - log_q)).sum(axis=1)
    same_top = log_p.argmax(axis=1) == log_q.argmax(axis=1)
    return np.stack([kld, -log_p[i, targets], -log_q[i, targets], same_top])


class Case:
    """One size of the problem: the same rows for numpy and for the kernel."""

    def __init__(self, n_rows: int, n_vocab: int) -> None:
        rng = np.random.default_rng(n_vocab)
        self.reference = rng.normal(scale=4.0, size=(n_rows, n_vocab)).astype(np.float32)
        noise = rng.normal(scale=0.1, size=self.reference.shape)
        self.test = (self.reference + noise).astype(np.float32)
        self.targets = rng.integers(0, n_vocab, n_rows).astype(np.int32)
        self.figures = np.empty((3, n_rows))
        self.same_top = np.empty(n_rows, np.bool_)

    def numpy(self) -> Rows:
        return compare_with_numpy(self.reference, self.test, self.targets)

    def native(self, n_threads: int) -> None:
        kld, nll_reference, nll_test = self.figures
        compare_logits(
            self.reference,
            self.test,
            self.targets,
            kld,
            nll_reference,
            nll_test,
            self.same_top,
            n_threads,
        )

    def one_thread(self) -> None:
        self.native(n_threads=1)

    def all_cores(self) -> None:
        self.native(n_threads=0)


def alternating_medians(runs: Sequence[Callable[[], object]], repetitions: int) -> list[float]:
    """The median seconds of each of `runs`, which take turns so that a busy moment hits all."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(repetitions):
        for run, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]


def main() -> None:
    parser = argparse.ArgumentParser(description="KL divergence of logits: native against numpy.")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--repetitions", type=int, default=15)
    options = parser.parse_args()

    print(f"{options.rows} rows, median of {options.repetitions} alternating runs")
    print(f"{'n_vocab':>8}  {'numpy':>9}  {'1 thread':>17}  {f'{os.cpu_count()} cores':>17}")
    for n_vocab in (2_048, 32_000, 128_256, 151_936):
        case = Case(options.rows, n_vocab)
        runs = (case.numpy, case.one_thread, case.all_cores)
        baseline, *natives = alternating_medians(runs, options.repetitions)
        # numpy sums in float32 here; tests/native compares with float64 at a tight tolerance.
        np.testing.assert_allclose(case.figures[0], case.numpy()[0], rtol=1e-2, atol=1e-5)
        columns = (f"{taken * 1e3:6.1f} ms {baseline / taken:6.1f}x" for taken in natives)
        print(f"{n_vocab:>8}  {baseline * 1e3:6.1f} ms  {'  '.join(columns)}")


if __name__ == "__main__":
    main()
