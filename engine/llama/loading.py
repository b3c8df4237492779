"""Loads a model the way it fits this computer: where its layers go, how long its context is."""

from __future__ import annotations

import logging
from collections.abc import Generator
from functools import partial
from pathlib import Path

import msgspec

from engine.errors import OutOfMemory
from engine.fit.estimate import Estimate
from engine.fit.memory import SHORTEST_N_CTX
from engine.fit.run import Run
from engine.fit.shape import Shape
from engine.fit.verdict import Asked, Verdict, judge_estimate
from engine.gguf import GgufFile
from engine.hardware import Computer, detect
from engine.inference import LoadSettings
from engine.jobs import Step
from engine.llama.context import Context
from engine.llama.devices import devices
from engine.llama.memory import BufferMemory, probes_of
from engine.llama.model import Model, load_model, open_model_file
from engine.llama.threads import default_n_threads
from engine.words import format_bytes

log = logging.getLogger(__name__)


class Loaded(msgspec.Struct, frozen=True):
    """A model with its context, and what it was expected to take and takes, in bytes.

    `taken` is by device, and empty where llama.cpp does not tell.
    """

    model: Model
    context: Context
    device: str
    predicted_bytes: int
    taken: dict[str, int]


def load_to_fit(path: str | Path, settings: LoadSettings) -> Generator[Step, None, Loaded]:
    """Load `path` as `settings` ask, and as it fits where they leave a choice.

    Memory that is refused all the same is asked for once more, with less. Raises what `load_model`
    raises, and OutOfMemory before anything is read if no way fits and `settings.anyway` is not set.
    """
    file = open_model_file(path)
    computer = detect(devices())
    n_threads = settings.n_threads or default_n_threads()
    has_gpu = any(device.kind in ("gpu", "igpu") for device in computer.devices)
    may_use_gpu = has_gpu and settings.n_gpu_layers != 0
    n_ubatch = 512 if may_use_gpu else _n_ubatch(Shape.from_metadata(file.metadata), n_threads)
    verdict, is_copied = choose(file, computer, settings, n_ubatch)
    if verdict.kind == "not" and not settings.anyway:
        need = sum(need.total_bytes for need in verdict.needs)
        raise OutOfMemory(
            f"{file.path.name} needs {format_bytes(need)} of memory with a context of "
            f"{verdict.run.n_ctx:,} tokens, and {format_bytes(sum(verdict.usable.values()))} "
            "may be used.",
            hint="Close other programs, shrink the model further or choose a smaller one.",
            details=verdict.words,
        )
    run = verdict.run
    load = partial(_load, path, n_threads=n_threads, n_ubatch=n_ubatch, is_copied=is_copied)
    # Graphics in the processor has no memory of its own to fill: llama.cpp decides.
    n_gpu_layers = None if computer.gpus else settings.n_gpu_layers
    try:
        model, context = yield from load(run, n_gpu_layers)
    except OutOfMemory as error:
        less = smaller(run, settings)
        if less is None:
            raise
        log.warning("memory was refused for %s: %s; trying %s", run, error.details, less)
        model, context = yield from load(less, n_gpu_layers)
    on_cpu = not may_use_gpu or (bool(computer.gpus) and verdict.kind == "cpu")
    loaded = Loaded(
        model=model,
        context=context,
        device="CPU" if on_cpu else _device(computer),
        predicted_bytes=sum(need.total_bytes - need.runtime_bytes for need in verdict.needs),
        taken=_by_device(context.memory()),
    )
    taken_bytes = sum(loaded.taken.values())
    log.info("memory: predicted %d, taken %d bytes", loaded.predicted_bytes, taken_bytes)
    return loaded


def choose(
    file: GgufFile, computer: Computer, settings: LoadSettings, n_ubatch: int
) -> tuple[Verdict, bool]:
    """How to run `file` here, by what llama.cpp says that it would take; and whether to copy it.

    Where the CPU's kernels rearrange weights, a mapped file would be in memory beside their copy.
    A model that does not fit is mapped all the same: it then runs slowly from the disk.
    """
    estimate = Estimate.of(file.metadata, file.tensors)
    with probes_of(file, estimate, n_ubatch) as probes:
        verdict = judge_estimate(
            estimate,
            computer,
            Asked(settings.n_ctx, settings.kv_type, settings.n_gpu_layers, settings.is_capped),
            needs=lambda run: probes.needs(run, computer.gpus),
        )
        return verdict, verdict.kind != "not" and probes.is_rearranged(verdict.run)


def smaller(run: Run, settings: LoadSettings) -> Run | None:
    """What to try after memory was refused: fewer layers on the GPU, else a shorter context."""
    if run.n_gpu_layers > 0:
        return msgspec.structs.replace(run, n_gpu_layers=run.n_gpu_layers * 3 // 4)
    if settings.n_ctx or run.n_ctx <= SHORTEST_N_CTX:
        return None
    return msgspec.structs.replace(run, n_ctx=max(SHORTEST_N_CTX, run.n_ctx // 2))


def _load(
    path: str | Path,
    run: Run,
    n_gpu_layers: int | None,
    *,
    n_threads: int,
    n_ubatch: int,
    is_copied: bool,
) -> Generator[Step, None, tuple[Model, Context]]:
    """`n_gpu_layers` None takes the ones of `run`."""
    if n_gpu_layers is None:
        n_gpu_layers = run.n_gpu_layers
    model = yield from load_model(path, n_gpu_layers, run.n_cpu_experts, is_copied=is_copied)
    try:
        context = Context(
            model, run.n_ctx, n_threads=n_threads, n_ubatch=n_ubatch, kv_type=run.kv_type
        )
    except BaseException:
        model.close()
        raise
    return model, context


def _by_device(buffers: tuple[BufferMemory, ...]) -> dict[str, int]:
    taken: dict[str, int] = {}
    for buffer in buffers:
        taken[buffer.device] = taken.get(buffer.device, 0) + buffer.total_bytes
    return taken


def _device(computer: Computer) -> str:
    """What a person calls the device that computes."""
    return next(d.description for d in computer.devices if d.kind in ("gpu", "igpu"))


def _n_ubatch(shape: Shape, n_threads: int) -> int:
    """Return how many tokens to compute at once: 512, less where one matrix takes too long.

    A stop is heard between two operations of the graph, the longest of which multiplies a batch
    by a matrix of n_embd x n_ff. A core does some 50 GFLOP/s; 0.05 s of that are allowed.
    """
    flops_per_token = 2 * shape.n_embd * max(shape.n_ff, 1)
    n = int(n_threads * 50e9 * 0.05 / max(flops_per_token, 1))
    return next((u for u in (512, 256, 128, 64) if u <= n), 32)
