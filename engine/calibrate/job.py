"""The job that finds out what flows into a model's matrices."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec

from engine.errors import AlreadyExists, CorruptFile, FormatError, InferenceError
from engine.jobs import Job, Progress, Step
from engine.workers import wait

if TYPE_CHECKING:
    from engine.llama.model import Model

VERSION = 4
"""Of what a file of the same key holds."""
SHORTEST_N_CTX = 32


class Calibrated(msgspec.Struct, frozen=True):
    """Statistics of `n_tensors`, from `n_tokens` that were read in `n_chunks`.

    `few_tokens` are the experts, by tensor, that fewer tokens went to than their input has columns.
    `peak_bytes` is the most memory this process has taken so far. With `is_reused` the file was
    there already, and nothing was read.
    """

    path: str
    n_tokens: int
    n_chunks: int
    n_tensors: int
    size_bytes: int
    few_tokens: dict[str, tuple[int, ...]]
    seconds: float
    peak_bytes: int
    is_reused: bool


class Calibrate(Job, frozen=True):
    """Let the GGUF `model` read `texts` and write statistics of its inputs to the file `out`.

    `texts` empty takes those that come with Snug. Of them the first `chunks` chunks of `n_ctx`
    tokens are read, 0 = all. `n_held_out` tokens go into a sample instead of the sums. A file
    `out` that was made from the same model, texts and settings is taken as it is; another one is
    replaced with `overwrite` only. The bytes do not depend on `n_threads`. Cancelled, paused or
    failed, it leaves nothing, unless it `can_go_on`: then what it has read is kept beside `out` now
    and then, and not read again the next time. Raises what loading a model and writing a file
    raise, FormatError for a line that is no conversation, InferenceError for texts that are too
    short, CorruptFile for a model that computes no numbers.
    """

    Result: ClassVar = Calibrated

    model: str
    out: str
    texts: tuple[str, ...] = ()
    chunks: int = 0
    n_ctx: int = 512
    n_threads: int = 0
    n_held_out: int = 512
    overwrite: bool = False
    can_go_on: bool = False

    def run(self) -> Generator[Step, None, Calibrated]:
        from engine.calibrate.texts import bundled_texts
        from engine.llama.model import load_model
        from engine.source import refuse_to_replace

        started = time.monotonic()
        if self.n_ctx < SHORTEST_N_CTX:
            raise InferenceError(
                f"Chunks of {self.n_ctx} tokens are too short to calibrate with.",
                hint=f"Take at least {SHORTEST_N_CTX}; 512 is usual.",
            )
        texts = tuple(Path(text) for text in self.texts or bundled_texts())
        for file in (Path(self.model), *texts):
            refuse_to_replace(file, Path(self.out))
        key = yield from self._key(texts)
        is_there = self._is_there(key)
        if not is_there:
            model = yield from load_model(self.model)
            try:
                yield from self._read(model, texts, key)
            finally:
                model.close()
        return self._result(started, is_reused=is_there)

    def _key(self, texts: Sequence[Path]) -> Generator[Progress, None, str]:
        """Return what the file is made from as one word: the model, the texts and the settings."""
        from engine.calibrate.texts import read_bytes
        from engine.copying import hash_file, told
        from engine.llama.model import open_model_file
        from engine.splits import model_files

        size_bytes = open_model_file(self.model).size_bytes
        parts = [repr((VERSION, self.chunks, self.n_ctx, self.n_held_out))]
        for part in model_files(Path(self.model)):
            steps = told("Looking at the model", hash_file(part), size_bytes)
            parts.append((yield from steps))
        for text in texts:
            parts += [ascii(text.name), hashlib.sha256(read_bytes(text)).hexdigest()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _is_there(self, key: str) -> bool:
        """Whether the file that is to be made exists; raises AlreadyExists if it is another one."""
        from engine.calibrate.statistics import Statistics

        out = Path(self.out)
        if not out.is_file():
            return False
        try:
            with Statistics.open(out) as statistics:
                if statistics.key == key:
                    return True
        except (CorruptFile, FormatError):
            pass
        if not self.overwrite:
            raise AlreadyExists(
                f"{out.name} exists already, and is not of this model, these texts and settings.",
                hint="Choose another name, or remove the old file first.",
                details=str(out),
            )
        return False

    def _read(self, model: Model, texts: Sequence[Path], key: str) -> Generator[Step, None, None]:
        import numpy as np

        from engine.calibrate.collect import Collector
        from engine.calibrate.inputs import describe, held_out_tokens, together
        from engine.calibrate.snapshots import Snapshots
        from engine.calibrate.sums import new_statistics
        from engine.calibrate.texts import split
        from engine.calibrate.vectors import digest_of
        from engine.fit.shape import Shape
        from engine.gguf import GgufFile

        reading = Progress("Reading the texts", 0, None, "tokens")
        surveyor = Collector(model, self.n_ctx, self.n_threads)
        with closing(surveyor), ThreadPoolExecutor(1, thread_name_prefix="survey") as thread:
            splitting = thread.submit(
                split, texts, model.vocabulary, model.chat_template, self.n_ctx, self.chunks
            )
            chunks = yield from wait(splitting, reading)
            inputs = yield from wait(thread.submit(surveyor.survey, chunks[0]), reading)
        shape = Shape.from_metadata(model.metadata)
        cache_bytes, n_vocab = shape.kv_cache_bytes(self.n_ctx), model.vocabulary.n_tokens
        n_together = 1
        if not model.has_state:
            n_together = together(inputs, self.n_ctx, len(chunks), n_vocab, cache_bytes)
        collector = Collector(model, self.n_ctx, self.n_threads, n_together)
        # One thread for all chunks: each new one would cost ggml a new set of OpenMP threads.
        with closing(collector), ThreadPoolExecutor(1, thread_name_prefix="calibrate") as thread:
            n_tokens = len(chunks) * self.n_ctx
            held_out = held_out_tokens(n_tokens, self.n_held_out)
            is_held_out = np.zeros((len(chunks), self.n_ctx), np.bool_)
            is_held_out.reshape(-1)[held_out] = True
            names = [text.name for text in texts]
            with GgufFile.open(self.model) as file:
                digest = digest_of(file)
            metadata = describe(
                inputs,
                key=key,
                datasets=names,
                n_chunks=len(chunks),
                n_ctx=self.n_ctx,
                model=digest,
            )
            with new_statistics(
                Path(self.out),
                metadata,
                inputs,
                len(held_out),
                collector.n_threads,
                overwrite=self.overwrite,
            ) as sums:
                snapshots = Snapshots(Path(self.out), key, is_wanted=self.can_go_on)
                restoring = thread.submit(snapshots.restore, sums)
                begun = yield from wait(restoring, reading, snapshots.interrupt)
                for start in range(begun, len(chunks), n_together):
                    done = Progress("Calibrating", start * self.n_ctx, n_tokens, "tokens")
                    yield done
                    some = chunks[start : start + n_together]
                    sums.is_last_pass = start + n_together >= len(chunks)
                    apart = is_held_out[start : start + n_together].reshape(-1)
                    future = thread.submit(collector.collect, some, inputs, sums, apart)
                    yield from wait(future, done, collector.interrupt)
                    if snapshots.is_due and not sums.is_last_pass:
                        saving = thread.submit(snapshots.save, sums, start + n_together)
                        yield from wait(saving, done, snapshots.interrupt)
                yield Progress("Calibrating", n_tokens, n_tokens, "tokens")
        snapshots.remove()

    def _result(self, started: float, *, is_reused: bool) -> Calibrated:
        from engine.calibrate.statistics import Statistics
        from engine.files import bytes_on_disk

        with Statistics.open(self.out) as statistics:
            return Calibrated(
                path=self.out,
                n_tokens=statistics.n_tokens_read,
                n_chunks=statistics.n_tokens_read // self.n_ctx,
                n_tensors=len(statistics.tensors),
                size_bytes=bytes_on_disk(Path(self.out)),
                few_tokens=statistics.few_tokens(),
                seconds=time.monotonic() - started,
                peak_bytes=_peak_bytes(),
                is_reused=is_reused,
            )


def _peak_bytes() -> int:
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
