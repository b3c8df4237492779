"""Whether a model runs here, where, and with which settings: in words, and the sums behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import msgspec

from engine.fit.estimate import Estimate
from engine.fit.memory import LONGEST_DEFAULT_N_CTX, SHORTEST_N_CTX, usable_bytes
from engine.fit.run import MAIN_MEMORY, KvType, Need, Run
from engine.fit.shape import CELLS
from engine.hardware import Computer, Device
from engine.words import format_bytes

Kind = Literal["gpu", "partly", "cpu", "not"]
USEFUL_N_CTX = 4096  # a long question and its answer
Needs = Callable[[Run], tuple[Need, ...]]


class Verdict(msgspec.Struct, frozen=True):
    """`run` are the settings that fit, or for "not" those that need least."""

    kind: Kind
    words: str
    run: Run
    needs: tuple[Need, ...]
    usable: dict[str, int]
    """What a model may take of each device's memory, in bytes."""

    @property
    def total_bytes(self) -> int:
        return sum(self.held_bytes(need.device) for need in self.needs)

    def held_bytes(self, device: str) -> int:
        """What `device` holds, with its runtime if it has a part in the model at all."""
        return sum(
            need.total_bytes
            for need in self.needs
            if need.device == device and (need.weights_bytes or device == MAIN_MEMORY)
        )


class Asked(msgspec.Struct, frozen=True):
    """What the user wants: 0 and None leave the choice to Snug.

    `is_capped`: no longer a context than the model was trained for.
    """

    n_ctx: int = 0
    kv_type: KvType | None = None
    n_gpu_layers: int = -1
    is_capped: bool = False

    def capped(self, n_ctx_train: int) -> Asked:
        """The same for a model that was trained for `n_ctx_train` tokens, 0 if it does not tell."""
        if not (self.is_capped and n_ctx_train):
            return self
        return msgspec.structs.replace(self, n_ctx=min(self.n_ctx, n_ctx_train))


def judge(
    needs: Needs,
    computer: Computer,
    *,
    n_layers: int,
    n_ctx_train: int = 0,
    has_experts: bool = False,
    asked: Asked = Asked(),  # noqa: B008 - frozen
    released: dict[str, int] | None = None,
) -> Verdict:
    """Find the best way to run a model: on the GPUs entirely, in part, on the processor, or not.

    `needs` tells what a way takes, `released` what would become free first (a loaded model).
    """
    asked = asked.capped(n_ctx_train)
    gpus = computer.gpus
    usable = usable_by_device(computer, released or {})
    longest = asked.n_ctx or min(LONGEST_DEFAULT_N_CTX, n_ctx_train or LONGEST_DEFAULT_N_CTX)

    shared = {MAIN_MEMORY, *(gpu.name for gpu in gpus if gpu.shares_main_memory)}

    def fits(run: Run, *, only_gpus: bool = False) -> bool:
        found = needs(run)
        in_main = sum(need.total_bytes for need in found if need.device in shared)
        return (only_gpus or in_main <= usable[MAIN_MEMORY]) and all(
            need.total_bytes <= usable[need.device] for need in found if need.device != MAIN_MEMORY
        )

    def verdict(kind: Kind, run: Run) -> Verdict:
        found = needs(run)
        words = _words(kind, run, found, usable, gpus, n_layers)
        if 0 < n_ctx_train < run.n_ctx:
            words += f" It was trained for {n_ctx_train:,}: beyond that its answers get worse."
        return Verdict(kind, words, run, found, usable)

    n_most = n_layers + 1 if asked.n_gpu_layers < 0 else min(asked.n_gpu_layers, n_layers + 1)
    contexts = _contexts(longest, asked)
    ways = [(n_ctx, kv) for kv in _kv_types(asked) for n_ctx in contexts if _useful(n_ctx, longest)]
    if gpus and n_most > 0:
        for n_ctx, kv in ways:
            run = Run(n_ctx, kv, n_most)
            if fits(run):
                return verdict("gpu" if n_most > n_layers else "partly", run)
        # What does not go in moves to main memory: experts first, which most tokens do not need.
        n_ctx, kv = ways[-1]
        parted = [Run(n_ctx, kv, n_most, n_cpu_experts=n + 1) for n in range(n_layers)]
        fewer = [Run(n_ctx, kv, n) for n in range(n_most - 1, 0, -1)]
        for runs in (parted, fewer) if has_experts else (fewer,):
            found = _first(runs, lambda run: fits(run, only_gpus=True))
            if found and fits(found):
                return verdict("partly", found)
    for kv in _kv_types(asked):
        for n_ctx in contexts:
            if fits(Run(n_ctx, kv)):
                return verdict("cpu", Run(n_ctx, kv))
    return verdict("not", Run(contexts[-1], _kv_types(asked)[0]))


def judge_estimate(
    estimate: Estimate,
    computer: Computer,
    asked: Asked = Asked(),  # noqa: B008 - frozen
    released: dict[str, int] | None = None,
    needs: Needs | None = None,
) -> Verdict:
    """The same for a model that is known by its `estimate`.

    Without `needs`, which asks llama.cpp, by our own sums: in a tenth of a millisecond.
    """
    return judge(
        needs or (lambda run: estimate.needs(run, computer.gpus)),
        computer,
        n_layers=estimate.n_layers,
        n_ctx_train=estimate.shape.n_ctx_train,
        has_experts=estimate.has_experts,
        asked=asked,
        released=released,
    )


def usable_by_device(computer: Computer, released: dict[str, int]) -> dict[str, int]:
    """What a model may take of the free memory of each device."""
    main = computer.memory_available_bytes + released.get(MAIN_MEMORY, 0)
    usable = {MAIN_MEMORY: usable_bytes(main)}
    for gpu in computer.gpus:
        free = gpu.memory_free_bytes + released.get(gpu.name, 0)
        usable[gpu.name] = free - free // 20  # the desktop draws with the same memory
    return usable


def _kv_types(asked: Asked) -> tuple[KvType, ...]:
    """The widest first. Four bits cost quality that nobody asked to pay."""
    return (asked.kv_type,) if asked.kv_type else ("f16", "q8_0")


def _contexts(longest: int, asked: Asked) -> tuple[int, ...]:
    """Lengths to try, the longest first, each half of the one before."""
    if asked.n_ctx:
        return (asked.n_ctx,)
    lengths = [longest]
    while lengths[-1] > SHORTEST_N_CTX:
        lengths.append(max(SHORTEST_N_CTX, lengths[-1] // 2 // CELLS * CELLS))
    return tuple(lengths)


def _useful(n_ctx: int, longest: int) -> bool:
    return n_ctx >= min(USEFUL_N_CTX, longest)


def _first(runs: Sequence[Run], is_enough: Callable[[Run], bool]) -> Run | None:
    """The first of `runs`, each less than the one before, that is little enough: by halving."""
    if not runs or not is_enough(runs[-1]):
        return None
    low, high = 0, len(runs) - 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(runs[middle]) else (middle + 1, high)
    return runs[low]


def _words(
    kind: Kind,
    run: Run,
    needs: Iterable[Need],
    usable: dict[str, int],
    gpus: Sequence[Device],
    n_layers: int,
) -> str:
    names = {gpu.name: gpu.description or gpu.name for gpu in gpus}
    held = {need.device: need for need in needs}
    at = f"{run.n_ctx:,} tokens of context"
    if kind == "gpu":
        where = " and ".join(names[d] for d in names if held[d].weights_bytes)
        total = sum(held[d].total_bytes for d in names)
        return f"Runs entirely on the {where}: {format_bytes(total)} with {at}."
    if kind == "partly":
        total = sum(held[d].total_bytes for d in names)
        rest = format_bytes(held[MAIN_MEMORY].total_bytes)
        what = f"{min(run.n_gpu_layers, n_layers)} of {n_layers} layers"
        if run.n_cpu_experts:
            what += f", the experts of {run.n_cpu_experts} in main memory"
        return f"Runs partly on the GPU ({what}): {format_bytes(total)} there, {rest} here."
    need, limit = held[MAIN_MEMORY].total_bytes, usable[MAIN_MEMORY]
    if kind == "cpu":
        return f"Runs on the processor: {format_bytes(need)} with {at}."
    return (
        f"Does not fit: it needs {format_bytes(need)} with {at},"
        f" and {format_bytes(limit)} may be used."
    )
