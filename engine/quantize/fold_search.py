"""The scales of a fold: those with which the target types round its matrices best.

Scales that make columns with large inputs larger spend precision where it counts: s = rms(x)^a is
AWQ (arXiv 2306.00978), s = max|x|^a / max|w|^(1-a) SmoothQuant (arXiv 2211.10438), and rms(x)^a /
rms(w)^(1-a) lies between them. Each is tried on ggml's own rounding, and judged by the error of the
output: of the weights, and of the inputs too, which llama.cpp rounds to 8 bits as it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.ggml_types import GgmlType
from engine.jobs import Progress
from engine.quantize.fold import Columns, Fold, Folded, InputStatistics
from engine.quantize.matrices import n_matrices
from engine.quantize.rounding import product
from engine.workers import wait

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.source import ModelSource

    ScalesOf = Callable[[float], NDArray[np.float32]]
    Magnitudes = NDArray[np.float64]

N_WEIGHTS = 2**19
"""As many of each matrix, in whole rows, stand for all: their error is that of all to 0.3 %."""
N_EXPERTS = 4  # of a tensor with many, those that see most tokens stand for all
N_HELD_OUT = 256
FORMS = ("AWQ", "SmoothQuant", "rms")
LEAST_GAIN = 0.01
"""The share of the error that a fold has to take away."""
SMALLEST, LARGEST = 1e-2, 1e2
# Exponents in twentieths: first some over all, then those around the best.
COARSE = (4, 8, 12, 16, 20)
FINE = (2, 1)


class _Input(NamedTuple):
    """What is known of the input of a matrix.

    `importance` is [n_cols], `moments` are the diagonal blocks of E[x x^T], or None; `held_out`
    [n_samples, n_cols] may hold nothing.
    """

    importance: NDArray[np.float32]
    n_tokens: int
    moments: list[NDArray[np.float32]] | None
    held_out: NDArray[np.float32]


class _Sample(NamedTuple):
    """Rows of one matrix, the type they will have, and their input."""

    rows: NDArray[np.float32]
    type: GgmlType
    input: _Input


def search_folds(
    folds: Sequence[Fold],
    source: ModelSource,
    statistics: InputStatistics,
    types: Mapping[str, GgmlType],
    *,
    n_weights: int = N_WEIGHTS,
    least_gain: float = LEAST_GAIN,
    forms: Collection[str] = FORMS,
    n_threads: int = 1,
) -> Generator[Progress, None, tuple[Folded, ...]]:
    """Find the scales of those folds that gain something with the `types` of their tensors.

    `source` and `statistics` are those of the model as it is: folds do not depend on each other.
    Scales of `forms` are tried.
    The result does not depend on `n_threads`. Raises what reading them raises.
    """
    search = _Search(source, statistics, types, n_weights, least_gain, forms)
    pool = ThreadPoolExecutor(max(1, n_threads), thread_name_prefix="fold")
    try:
        started = [pool.submit(search.find, fold) for fold in folds]
        found = []
        for number, future in enumerate(started):
            done = Progress("Folding", number, len(folds), "steps")
            yield done
            found.append((yield from wait(future, done)))
        return tuple(folded for folded in found if folded)
    finally:
        search.is_stopped.set()
        pool.shutdown(cancel_futures=True)


class _Search:
    def __init__(
        self,
        source: ModelSource,
        statistics: InputStatistics,
        types: Mapping[str, GgmlType],
        n_weights: int,
        least_gain: float,
        forms: Collection[str],
    ) -> None:
        self.source = source
        self.statistics = statistics
        self.types = types
        self.n_weights = n_weights
        self.least_gain = least_gain
        self.forms = forms
        self.tensors = {tensor.name: tensor for tensor in source.tensors}
        self.is_stopped = Event()
        self.reading = Lock()

    def find(self, fold: Fold) -> Folded | None:
        """The best scales; None if they gain too little."""
        with self.reading:
            known: dict[tuple[str, int], _Input] = {}
            samples = [sample for part in fold.columns for sample in self._samples(part, known)]
        if not samples:
            return None
        plain = _error(fold, samples, None)
        best = Folded(fold, _ones(fold))
        scales_of_form = _forms(fold, samples)
        for form in self.forms:
            scales_of = scales_of_form[form]

            def error_of(a: float, scales_of: ScalesOf = scales_of) -> float:
                return inf if self.is_stopped.is_set() else _error(fold, samples, scales_of(a))

            exponent, error = _best_exponent(error_of)
            gain = 1 - error / plain if plain > 0 else 0.0
            if gain > best.gain:
                best = Folded(fold, scales_of(exponent), form, exponent, gain)
        return best if best.gain >= self.least_gain else None

    def _samples(self, part: Columns, known: dict[tuple[str, int], _Input]) -> list[_Sample]:
        """Of a tensor that will be rounded, and whose input was seen."""
        import numpy as np

        tensor = self.tensors[part.tensor]
        target = self.types.get(part.tensor, GgmlType.F32)
        importance = self.statistics.importance(part.tensor)
        if not target.is_quantized or importance is None:
            return []
        n_all = n_matrices(tensor)
        n_tokens = np.broadcast_to(self.statistics.n_tokens(part.tensor), n_all)
        matrices = np.arange(n_all) if part.matrix is None else np.array([part.matrix])
        matrices = matrices[np.argsort(-n_tokens[matrices], kind="stable")]
        matrices = matrices[n_tokens[matrices] > 0][:N_EXPERTS]
        samples = []
        for i in matrices.tolist():
            i_input = i if len(importance) > 1 else 0
            key = self.statistics.shared_input(part.tensor), i_input
            if key not in known:
                known[key] = self._input(part.tensor, i_input, importance, int(n_tokens[i]))
            n_rows = tensor.n_rows // n_all
            n = min(n_rows, max(1, self.n_weights // tensor.n_cols // len(matrices)))
            chosen = i * n_rows + np.arange(n) * n_rows // n
            rows = np.concatenate([self.source.rows(tensor, j, j + 1) for j in chosen.tolist()])
            samples.append(_Sample(rows, target, known[key]))
        return samples

    def _input(
        self, tensor: str, i_input: int, importance: NDArray[np.float32], n_tokens: int
    ) -> _Input:
        import numpy as np

        moments = self.statistics.second_moment_blocks(tensor, i_input)
        held_out = self.statistics.held_out(tensor, i_input)
        if held_out is None:
            held_out = np.zeros((0, importance.shape[1]), np.float32)
        n = min(N_HELD_OUT, len(held_out))
        spread = np.arange(n) * len(held_out) // max(1, n)
        return _Input(importance[i_input], n_tokens, moments, held_out[spread])


def _best_exponent(error_of: Callable[[float], float]) -> tuple[float, float]:
    """The exponent with the least error, and that error."""
    errors: dict[int, float] = {}
    steps: Sequence[int] = COARSE
    for distance in (*FINE, 0):
        for step in steps:
            if step not in errors and 1 <= step <= 20:
                errors[step] = error_of(step / 20)
        best = min(errors, key=lambda step: errors[step])
        steps = (best - distance, best + distance)
    return best / 20, errors[best]


def _ones(fold: Fold) -> NDArray[np.float32]:
    import numpy as np

    return np.ones(fold.n_channels, np.float32)


def _forms(fold: Fold, samples: Sequence[_Sample]) -> dict[str, ScalesOf]:
    """What gives the scales for an exponent, by name."""
    import numpy as np

    def rms(values: Iterable[NDArray[np.float32]], weights: Sequence[float]) -> Magnitudes:
        mean = np.average(list(values), axis=0, weights=weights)
        return _positive(np.sqrt(fold.to_channels(mean).mean(axis=1)))

    def largest(values: Iterable[NDArray[np.float32]]) -> Magnitudes:
        columns = np.max([np.abs(x).max(axis=0, initial=0) for x in values], axis=0)
        return _positive(fold.to_channels(columns).max(axis=1))

    rms_x = rms((s.input.importance for s in samples), [s.input.n_tokens for s in samples])
    squares = [(s.rows / (np.sqrt((s.rows**2).mean()) + 1e-30)) ** 2 for s in samples]
    rms_w = rms((square.mean(axis=0) for square in squares), [1] * len(samples))
    max_w = largest(s.rows for s in samples)
    max_x = largest(s.input.held_out for s in samples)
    if not any(len(s.input.held_out) for s in samples):
        max_x = rms_x
    return {
        "AWQ": lambda a: _normal(rms_x**a),
        "SmoothQuant": lambda a: _normal(max_x**a / max_w ** (1 - a)),
        "rms": lambda a: _normal(rms_x**a / rms_w ** (1 - a)),
    }


def _positive(values: NDArray[Any]) -> Magnitudes:
    """Channels that are hardly there count as small ones, not as none."""
    import numpy as np

    return np.maximum(values.astype(np.float64), max(float(values.max()) * SMALLEST**2, 1e-30))


def _normal(scales: Magnitudes) -> NDArray[np.float32]:
    import numpy as np

    scales = scales / np.sqrt(scales.max() * scales.min())
    return np.clip(scales, SMALLEST, LARGEST).astype(np.float32)


def _error(fold: Fold, samples: Sequence[_Sample], scales: NDArray[np.float32] | None) -> float:
    """By how much the outputs change, in shares of their mean square, added up over matrices."""
    import numpy as np

    factors = fold.to_columns(_ones(fold) if scales is None else scales)
    return float(np.sum([_error_of(sample, factors) for sample in samples]))


def _error_of(sample: _Sample, factors: NDArray[np.float32]) -> float:
    import numpy as np

    from engine.llama.ggml import dequantize_rows, quantize_rows

    importance = sample.input.importance / factors**2
    stored = quantize_rows(sample.type, sample.rows * factors, importance)
    rounded = dequantize_rows(sample.type, stored)
    of_weights = _mean_square(sample, rounded / factors - sample.rows)
    of_inputs = 0.0
    if len(sample.input.held_out):
        x = sample.input.held_out / factors
        changes = product(x - rounded_input(x, sample.type), rounded.T)
        of_inputs = float(np.square(changes, dtype=np.float64).sum() / len(x))
    return (of_weights + of_inputs) / max(_mean_square(sample, sample.rows), 1e-30)


def _mean_square(sample: _Sample, rows: NDArray[np.float32]) -> float:
    """E|rows x|^2"""
    if sample.input.moments is None:
        return float((rows**2 @ sample.input.importance).sum())
    total, first = 0.0, 0
    for moment in sample.input.moments:
        part = rows[:, first : first + len(moment)]
        total += float((product(part, moment) * part).sum())
        first += len(moment)
    return total


def rounded_input(x: NDArray[np.float32], weights: GgmlType) -> NDArray[np.float32]:
    """Inputs as llama.cpp's CPU backend rounds them before it multiplies: to 8 bits in blocks.

    Blocks of 256 with types that have such (Q8_K), else of 32 (Q8_0): ggml-cpu.c, `vec_dot_type`.
    """
    import numpy as np

    blocks = x.reshape(len(x), -1, 256 if weights.block_size == 256 else 32)
    steps = np.abs(blocks).max(axis=2, keepdims=True) / np.float32(127)
    codes = np.rint(blocks / np.where(steps > 0, steps, np.float32(1)))
    rounded: NDArray[np.float32] = (codes * steps).reshape(x.shape)
    return rounded
