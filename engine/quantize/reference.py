"""The original a model was made from: what it expects of a text and how it does on the probes.

Many models can be compared with it, on the same text, and it does its own part only once.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import FormatError, InferenceError, NotFound
from engine.files import read_error
from engine.fit.run import KvType
from engine.jobs import Progress, Step
from engine.llama.evaluate import Evaluator
from engine.quantize.figures import QualityReport, Scores, score, summarize
from engine.quantize.kept_logits import MOST_BYTES, KeptLogits
from engine.quantize.probes.ask import Answered, ask
from engine.quantize.probes.compare import ProbesReport, compare_answers
from engine.quantize.probes.probe import load_probes
from engine.workers import wait

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHORTEST_N_CTX = 8


class Reference:
    """A loaded reference and the chunks of a text; made by `open`. For one thread."""

    def __init__(
        self,
        evaluator: Evaluator,
        chunks: Sequence[Sequence[int]],
        path: str,
        kept: KeptLogits,
        n_threads: int,
    ) -> None:
        self._evaluator: Evaluator | None = evaluator
        self._n_threads = n_threads
        self._chunks = chunks
        self._path = path
        self._kept = kept
        self._answers: tuple[Answered | None, ...] | None = None
        # One thread for all chunks: each new one would cost ggml a new set of OpenMP threads.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compare")

    @staticmethod
    def open(
        path: str,
        text: str,
        chunks: int = 0,
        n_ctx: int = 512,
        *,
        n_threads: int = 0,
        most_kept_bytes: int = MOST_BYTES,
        folder: Path | None = None,
    ) -> Generator[Step, None, Reference]:
        """Load the GGUF at `path` and the first `chunks` (0: all) of `n_ctx` tokens of a file.

        It and what is compared with it run in `n_threads`, 0 = as many as are good here. Its logits
        are kept in `folder` up to `most_kept_bytes`: if that is all, the reference leaves memory
        before another model comes. The others are computed anew for each model. Raises
        InferenceError for a text that is too short, NotFound, StorageError, and what loading a
        model raises.
        """
        yield Progress("Reading the text", 0, None, "bytes")
        words = _read_text(Path(text))
        _require_sense(n_ctx)
        _require_file(path)
        evaluator = yield from Evaluator.load(path, n_ctx, n_threads)
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="tokenize") as thread:
                waiting = Progress("Reading the text", 0, None, "tokens")
                tokens = yield from wait(thread.submit(evaluator.tokenize, words), waiting)
            n_chunks = _n_chunks(len(tokens), n_ctx, chunks)
            starts = range(0, n_chunks * n_ctx, n_ctx)
            kept = KeptLogits(evaluator.n_scored, evaluator.n_vocab, most_kept_bytes, folder)
            read = [tokens[i : i + n_ctx] for i in starts]
            return Reference(evaluator, read, path, kept, n_threads)
        except BaseException:
            evaluator.close()
            raise

    def compare(self, model: str, kv_type: KvType = "f16") -> Generator[Step, None, QualityReport]:
        """Measure the GGUF `model`, its KV cache of `kv_type`, against this.

        Raises FormatError when the vocabularies differ, CorruptFile when a model computes NaN, and
        what loading a model raises.
        """
        _require_file(model)
        _require_same_vocabulary(model, self._path)
        yield from self._read_ahead()
        n_ctx = len(self._chunks[0])
        evaluator = yield from Evaluator.load(model, n_ctx, self._n_threads, kv_type)
        try:
            n_total, scores = len(self._chunks) * n_ctx, []
            for index in range(len(self._chunks)):
                done = Progress("Comparing", index * n_ctx, n_total, "tokens")
                yield done
                future = self._thread.submit(self._score, evaluator, index)
                scores.append((yield from wait(future, done, partial(self._interrupt, evaluator))))
        finally:
            evaluator.close()
        yield Progress("Comparing", n_total, n_total, "tokens")
        return summarize(scores, Path(model).name, kv_type)

    def _read_ahead(self) -> Generator[Progress, None, None]:
        """Let the reference read what can be kept: it need not stay beside another model then."""
        n, n_ctx = min(len(self._chunks), self._kept.capacity), len(self._chunks[0])
        while self._evaluator and self._kept.n < min(n, self._kept.capacity):
            done = Progress("Reading the text", self._kept.n * n_ctx, n * n_ctx, "tokens")
            yield done
            future = self._thread.submit(self._keep_next, self._evaluator)
            yield from wait(future, done, self._evaluator.interrupt)
        if self._kept.n == len(self._chunks):
            self._close_evaluator()

    def probe(self, model: str, kv_type: KvType = "f16") -> Generator[Step, None, ProbesReport]:
        """Ask this and the GGUF `model` the probes; raises what loading a model raises."""
        probes = load_probes()
        if self._answers is None:
            stage = "Asking the original"
            self._answers = yield from ask(self._path, probes, stage, "f16", self._n_threads)
        stage = "Asking the result"
        answers = yield from ask(model, probes, stage, kv_type, self._n_threads)
        return compare_answers(probes, self._answers, answers)

    def close(self) -> None:
        self._thread.shutdown()
        self._close_evaluator()
        self._kept.close()

    def _score(self, model: Evaluator, index: int) -> Scores:
        """Compare what both expect of a chunk; CancelledError if interrupted."""
        chunk = self._chunks[index]
        expected = self._expected(index)  # [n, n_vocab]
        found = None if expected is None else model.logits(chunk)  # [n, n_vocab]
        if expected is None or found is None:
            raise CancelledError
        return score(expected, found, model.targets(chunk))

    def _keep_next(self, evaluator: Evaluator) -> None:
        """Keep the reference's logits of one more chunk; CancelledError if interrupted."""
        logits = evaluator.logits(self._chunks[self._kept.n])
        if logits is None:
            raise CancelledError
        self._kept.append(logits)

    def _expected(self, index: int) -> NDArray[np.float32] | None:
        """The reference's logits of a chunk, float32 [n, n_vocab]; None if interrupted."""
        kept = self._kept.read(index)
        if kept is not None:
            return kept
        assert self._evaluator  # it is there as long as a chunk is not kept
        return self._evaluator.logits(self._chunks[index])

    def _interrupt(self, model: Evaluator) -> None:
        model.interrupt()
        if self._evaluator:
            self._evaluator.interrupt()

    def _close_evaluator(self) -> None:
        if self._evaluator:
            self._evaluator.close()
            self._evaluator = None


def _n_chunks(n_tokens: int, n_ctx: int, wanted: int) -> int:
    """How many chunks to compare of a text of `n_tokens`; InferenceError if it gives none."""
    n_chunks = n_tokens // n_ctx
    if n_chunks == 0:
        raise InferenceError(
            f"The text is too short to judge a model on: {n_tokens:,} tokens, and one chunk "
            f"takes {n_ctx:,}.",
            hint="Choose a longer text; a few pages are enough for a first impression.",
        )
    return min(n_chunks, wanted or n_chunks)


def _read_text(path: Path) -> str:
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


def _require_file(path: str) -> None:
    if Path(path).is_dir():
        raise FormatError(
            f"{Path(path).name} is a checkpoint folder, and only GGUF files can be compared.",
            hint="Convert it to a BF16 or F16 file first, and compare with that.",
        )


def _require_same_vocabulary(model: str, reference: str) -> None:
    from engine.splits import open_gguf

    a, b = open_gguf(model), open_gguf(reference)
    keys = ("tokenizer.ggml.model", "tokenizer.ggml.tokens")
    if any(a.get(key) != b.get(key) for key in keys):
        raise FormatError(
            f"{a.path.name} and {b.path.name} have different vocabularies, so what they expect"
            " cannot be compared.",
            hint="Choose the file that the model was made from as the reference.",
        )
