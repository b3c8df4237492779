"""How like the original a shrunk model still is, measured on a text.

The definitions of `llama-perplexity --kl-divergence`, but both models run side by side, so that the
original's probabilities are neither rounded nor stored.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

import msgspec

from engine.errors import CorruptFile, FormatError, InferenceError, NotFound
from engine.jobs import Job, Progress, Step

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.llama.evaluate import Evaluator

T = TypeVar("T")

SHORTEST_N_CTX = 8
_PATIENCE_S = 0.05  # the longest time between two steps of a job, with some room
# Mean KL divergence in nats, below which the words hold.
_VERDICTS = (
    (0.003, "practically identical"),
    (0.015, "nearly identical"),
    (0.05, "very close"),
    (0.15, "noticeably different"),
)
_WORST = "clearly worse"


class QualityReport(msgspec.Struct, frozen=True):
    """A model against its reference: KL divergences in nats over `n_tokens` predictions.

    `same_top_fraction` is how often both would choose the same next token.
    """

    kld_mean: float
    kld_median: float
    kld_p99: float
    kld_max: float
    same_top_fraction: float
    perplexity: float
    perplexity_reference: float
    n_tokens: int
    verdict: str


class Quality(Job, frozen=True):
    """Compare the GGUF `model` with the GGUF `reference` it was made from, on the file `text`.

    The text is read in chunks of `n_ctx` tokens, of each the second half is scored; `chunks` 0 is
    the whole text. Raises FormatError when the vocabularies differ, InferenceError when the text
    is too short, CorruptFile when a model computes NaN, and what loading a model raises.
    """

    Result: ClassVar = QualityReport

    model: str
    reference: str
    text: str
    chunks: int = 0
    n_ctx: int = 512

    def run(self) -> Generator[Step, None, QualityReport]:
        from engine.llama.evaluate import Evaluator

        yield Progress("Reading the text", 0, None, "bytes")
        text = _read_text(Path(self.text))
        _require_sense(self.n_ctx)
        _require_same_vocabulary(self.model, self.reference)
        reference = yield from Evaluator.load(self.reference, self.n_ctx)
        try:
            model = yield from Evaluator.load(self.model, self.n_ctx)
            try:
                return (yield from self._compare(reference, model, text))
            finally:
                model.close()
        finally:
            reference.close()

    def _compare(
        self, reference: Evaluator, model: Evaluator, text: str
    ) -> Generator[Step, None, QualityReport]:
        # One thread for all chunks: each new one would cost ggml a new set of OpenMP threads.
        with ThreadPoolExecutor(1, thread_name_prefix="compare") as thread:
            waiting = Progress("Reading the text", 0, None, "tokens")
            tokens = yield from _wait(thread.submit(reference.tokenize, text), waiting)
            n_chunks = self._n_chunks(len(tokens))
            n_total = n_chunks * self.n_ctx
            scores = []
            for start in range(0, n_total, self.n_ctx):
                done = Progress("Comparing", start, n_total, "tokens")
                yield done
                chunk = tokens[start : start + self.n_ctx]
                future = thread.submit(_score, reference, model, chunk)
                scores.append((yield from _wait(future, done, (reference, model))))
        yield Progress("Comparing", n_total, n_total, "tokens")
        return _report(scores, Path(self.model).name)

    def _n_chunks(self, n_tokens: int) -> int:
        """How many chunks to compare of a text of `n_tokens`; InferenceError if it gives none."""
        n_chunks = n_tokens // self.n_ctx
        if n_chunks == 0:
            raise InferenceError(
                f"The text is too short to judge a model on: {n_tokens:,} tokens, and one chunk "
                f"takes {self.n_ctx:,}.",
                hint="Choose a longer text; a few pages are enough for a first impression.",
            )
        return min(n_chunks, self.chunks or n_chunks)


def verdict(kld_mean: float) -> str:
    """Say in words what a mean KL divergence of `kld_mean` nats is like."""
    return next((words for limit, words in _VERDICTS if kld_mean < limit), _WORST)


class _Scores(msgspec.Struct, frozen=True):
    """The figures of one chunk, [n] each: see `compare_logits`."""

    kld: NDArray[np.float64]
    nll_reference: NDArray[np.float64]
    nll_model: NDArray[np.float64]
    same_top: NDArray[np.bool_]


def _score(reference: Evaluator, model: Evaluator, chunk: Sequence[int]) -> _Scores:
    """Let both models read `chunk` and compare what they expect; CancelledError if interrupted."""
    import numpy as np

    from engine._native import compare_logits

    expected = reference.logits(chunk)  # [n, n_vocab]
    found = None if expected is None else model.logits(chunk)  # [n, n_vocab]
    if expected is None or found is None:
        raise CancelledError
    targets = np.array(reference.targets(chunk), dtype=np.int32)  # [n]
    n = len(targets)
    scores = _Scores(np.empty(n), np.empty(n), np.empty(n), np.empty(n, dtype=np.bool_))
    compare_logits(
        expected,
        found,
        targets,
        scores.kld,
        scores.nll_reference,
        scores.nll_model,
        scores.same_top,
    )
    return scores


def _report(scores: Sequence[_Scores], name: str) -> QualityReport:
    import numpy as np

    kld = np.concatenate([s.kld for s in scores])
    nll_model = np.concatenate([s.nll_model for s in scores])
    nll_reference = np.concatenate([s.nll_reference for s in scores])
    if not (np.isfinite(kld).all() and np.isfinite(nll_model).all()):
        raise CorruptFile(
            f"The predictions of {name} or of its reference are not numbers.",
            hint="Shrink the model again; if that does not help, get the original again.",
        )
    return QualityReport(
        kld_mean=float(kld.mean()),
        kld_median=float(np.median(kld)),
        kld_p99=float(np.quantile(kld, 0.99)),
        kld_max=float(kld.max()),
        same_top_fraction=float(np.concatenate([s.same_top for s in scores]).mean()),
        perplexity=float(np.exp(nll_model.mean())),
        perplexity_reference=float(np.exp(nll_reference.mean())),
        n_tokens=len(kld),
        verdict=verdict(float(kld.mean())),
    )


def _wait(
    future: Future[T], meanwhile: Progress, at_work: Sequence[Evaluator] = ()
) -> Generator[Progress, None, T]:
    """Yield `meanwhile` until `future` is done.

    When the generator is closed, those `at_work` are interrupted.
    """
    try:
        while True:
            try:
                return future.result(_PATIENCE_S)
            except NotYet:
                yield meanwhile
    finally:
        # Again and again: an evaluator that only now begins forgets an interrupt.
        while at_work and not future.done():
            for evaluator in at_work:
                evaluator.interrupt()
            wait([future], _PATIENCE_S)


def _read_text(path: Path) -> str:
    from engine.files import read_error

    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError as e:
        raise NotFound(f"The text {path} does not exist.", hint="Check the name.") from e
    except OSError as e:
        raise read_error(e, path) from e


def _require_sense(n_ctx: int) -> None:
    if n_ctx < SHORTEST_N_CTX:
        raise InferenceError(
            f"Chunks of {n_ctx} tokens are too short to judge a model on.",
            hint=f"Take at least {SHORTEST_N_CTX}; 512 is usual.",
        )


def _require_same_vocabulary(model: str, reference: str) -> None:
    from engine.splits import open_gguf

    for path in (Path(model), Path(reference)):
        if path.is_dir():
            raise FormatError(
                f"{path.name} is a checkpoint folder, and only GGUF files can be compared.",
                hint="Convert it to a BF16 or F16 file first, and compare with that.",
            )
    a, b = open_gguf(model), open_gguf(reference)
    keys = ("tokenizer.ggml.model", "tokenizer.ggml.tokens")
    if any(a.get(key) != b.get(key) for key in keys):
        raise FormatError(
            f"{a.path.name} and {b.path.name} have different vocabularies, so what they expect"
            " cannot be compared.",
            hint="Choose the file that the model was made from as the reference.",
        )
