"""Measures the speed of a model exactly as llama-bench does, with its default settings."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Generator

from engine.inference import Bench, BenchResult
from engine.inspect import describe
from engine.jobs import Progress, Step
from engine.llama.context import Context
from engine.llama.model import Model, Vocabulary, load_model
from engine.llama.threads import default_n_threads

_YIELD_S = 0.1
_SEED = 0
Run = Callable[[Context, Vocabulary, int], Generator[None, None, float]]


def measure(job: Bench) -> Generator[Step, None, BenchResult]:
    """Load the model and measure; raises what `load_model` raises, and OutOfMemory."""
    n_threads = job.n_threads or default_n_threads()
    summary = describe(job.model)
    model = yield from load_model(job.model)
    try:
        pp = yield from _speeds(model, job, n_threads, "Reading", job.n_prompt, _read_prompt)
        tg = yield from _speeds(model, job, n_threads, "Writing", job.n_generate, _generate)
        return BenchResult(
            pp_tokens_per_second=statistics.mean(pp),
            tg_tokens_per_second=statistics.mean(tg),
            pp_tokens_per_second_stddev=statistics.stdev(pp) if len(pp) > 1 else 0.0,
            tg_tokens_per_second_stddev=statistics.stdev(tg) if len(tg) > 1 else 0.0,
            n_prompt=job.n_prompt,
            n_generate=job.n_generate,
            n_threads=n_threads,
            repetitions=job.repetitions,
            model=summary.name,
            type=summary.type,
            size_bytes=summary.size_bytes,
            n_params=summary.n_params,
        )
    finally:
        model.close()


def _speeds(
    model: Model, job: Bench, n_threads: int, stage: str, n_tokens: int, run: Run
) -> Generator[Step, None, list[float]]:
    """Return the tokens per second of each repetition of `run`, in a context of its own."""
    if n_tokens == 0 or job.repetitions == 0:
        return [0.0]
    context = Context(model, n_tokens, n_threads=n_threads, n_outputs_max=0)
    speeds: list[float] = []
    try:
        # The warm-up reads the whole prompt, or writes one token.
        for warm_up in (True, *(False,) * job.repetitions):
            yield Progress(stage, len(speeds), job.repetitions, "steps")
            context.clear()
            n = 1 if warm_up and run is _generate else n_tokens
            timed = run(context, model.vocabulary, n)
            try:
                while True:
                    next(timed)
                    yield Progress(stage, len(speeds), job.repetitions, "steps")
            except StopIteration as stop:
                if not warm_up:
                    speeds.append(n / stop.value)
        return speeds
    finally:
        context.close()


def _read_prompt(
    context: Context, vocabulary: Vocabulary, n_tokens: int
) -> Generator[None, None, float]:
    """Read random tokens, a batch at a time; return the seconds it took."""
    tokens = _random_tokens(vocabulary, n_tokens)
    started = time.perf_counter()
    for start in range(0, n_tokens, context.n_batch):
        context.decode(tokens[start : start + context.n_batch])
    context.synchronize()
    seconds = time.perf_counter() - started
    yield
    return seconds


def _generate(
    context: Context, vocabulary: Vocabulary, n_tokens: int
) -> Generator[None, None, float]:
    """Read random tokens one by one; return the seconds, without those the caller took."""
    seconds, started = 0.0, time.perf_counter()
    for token in _random_tokens(vocabulary, n_tokens):
        context.decode((token,))
        context.synchronize()
        now = time.perf_counter()
        if now - started >= _YIELD_S:
            seconds += now - started
            yield
            started = time.perf_counter()
    return seconds + time.perf_counter() - started


def _random_tokens(vocabulary: Vocabulary, n_tokens: int) -> list[int]:
    choose = random.Random(_SEED)
    tokens = [choose.randrange(vocabulary.n_tokens) for _ in range(n_tokens)]
    if vocabulary.adds_bos:
        tokens[0] = vocabulary.bos
    return tokens
