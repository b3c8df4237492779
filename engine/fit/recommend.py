"""The recipe to take for a model on this computer, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from engine.fit.estimate import GPU_RUNTIME_BYTES, Estimate
from engine.fit.memory import CPU_RUNTIME_BYTES, Memory, predict
from engine.fit.run import MAIN_MEMORY
from engine.fit.verdict import USEFUL_N_CTX, Asked, Kind, Verdict, judge_estimate
from engine.hardware import Computer
from engine.model_writer import Plan
from engine.quantize.plan import plan
from engine.quantize.recipe import RECIPES
from engine.words import format_bytes

if TYPE_CHECKING:
    from engine.source import ModelSource

_NARROWEST_FOR_GPU = "Q4_K_M"  # below this, quality is worth more than the GPU's speed


class Choice(msgspec.Struct, frozen=True):
    """One recipe for one model here: `size_bytes` is the exact size of the file it gives."""

    recipe: str
    size_bytes: int
    bits_per_weight: float
    memory: Memory
    where: Kind

    @property
    def fits(self) -> bool:
        return self.where != "not"


class Recommendation(msgspec.Struct, frozen=True):
    """The recipe to take (None: nothing fits), why, all recipes from the widest, the context.

    `neighbours` says what the next wider and the next narrower one would mean.
    """

    recipe: str | None
    reason: str
    choices: tuple[Choice, ...]
    n_ctx: int
    neighbours: str = ""


def recommend(source: ModelSource, computer: Computer, n_ctx: int = 0) -> Recommendation:
    """Choose the widest recipe that runs entirely on the GPU, else the widest that fits at all.

    `n_ctx` is the context to have room for; 0 takes a useful one. Raises UnsupportedTensor when
    `source` is quantized already.
    """
    plans = {name: plan(source, recipe) for name, recipe in RECIPES.items()}
    estimates = {name: Estimate.of(p.metadata, p.tensors) for name, p in plans.items()}
    n_ctx_train = next(iter(estimates.values())).shape.n_ctx_train
    n_ctx = n_ctx or min(USEFUL_N_CTX, n_ctx_train or USEFUL_N_CTX)
    asked = Asked(n_ctx, "f16")
    verdicts = {name: judge_estimate(estimates[name], computer, asked) for name in plans}
    choices = tuple(
        Choice(
            recipe=name,
            size_bytes=p.size_bytes,
            bits_per_weight=p.bits_per_weight,
            memory=_memory(p, estimates[name], verdicts[name], n_ctx),
            where=verdicts[name].kind,
        )
        for name, p in plans.items()
    )
    chosen = _choose(choices)
    if chosen is None:
        reason = _reason_against(choices[-1], verdicts[choices[-1].recipe], n_ctx)
        return Recommendation(None, reason, choices, n_ctx)
    reason = _reason_for(choices[chosen], verdicts[choices[chosen].recipe], computer, n_ctx)
    neighbours = _neighbours(choices, chosen)
    return Recommendation(choices[chosen].recipe, reason, choices, n_ctx, neighbours)


def _memory(to_make: Plan, estimate: Estimate, verdict: Verdict, n_ctx: int) -> Memory:
    """What the model takes where most of it would live."""
    on_gpu = verdict.kind == "gpu"
    return predict(
        estimate.shape,
        sum(tensor.n_bytes for tensor in to_make.tensors),
        n_ctx,
        runtime_bytes=GPU_RUNTIME_BYTES if on_gpu else CPU_RUNTIME_BYTES,
    )


def _choose(choices: tuple[Choice, ...]) -> int | None:
    """The place of the recipe to take in `choices`, which go from the widest on."""
    narrowest = list(RECIPES).index(_NARROWEST_FOR_GPU)
    on_gpu = [i for i, choice in enumerate(choices) if choice.where == "gpu" and i <= narrowest]
    fitting = [i for i, choice in enumerate(choices) if choice.fits]
    # A GPU that only holds a narrow recipe gives way to main memory.
    return next(iter(on_gpu or fitting), None)


def _reason_for(choice: Choice, verdict: Verdict, computer: Computer, n_ctx: int) -> str:
    device = MAIN_MEMORY
    if verdict.kind == "gpu":
        held = [gpu for gpu in computer.gpus if verdict.held_bytes(gpu.name)]
        device = held[0].name
        names = " and ".join(gpu.description or gpu.name for gpu in held)
        where = f"runs entirely on the {names}"
        need = sum(verdict.held_bytes(gpu.name) for gpu in held)
        usable = sum(verdict.usable[gpu.name] for gpu in held)
    elif verdict.kind == "partly":
        where = "fits, partly on the GPU and partly in main memory"
        need = sum(need.total_bytes for need in verdict.needs)
        usable = sum(verdict.usable.values())
    else:
        where = "fits in this computer's memory"
        need, usable = verdict.held_bytes(device), verdict.usable[device]
    return (
        f"{choice.recipe} is the widest that {where}: with {n_ctx:,} tokens of context it "
        f"needs {format_bytes(need)} of the {format_bytes(usable)} it may use."
    )


def _reason_against(narrowest: Choice, verdict: Verdict, n_ctx: int) -> str:
    return (
        f"Nothing fits: even {narrowest.recipe} needs"
        f" {format_bytes(verdict.held_bytes(MAIN_MEMORY))} with {n_ctx:,} tokens of context,"
        f" and {format_bytes(verdict.usable[MAIN_MEMORY])} may be used here."
    )


def _neighbours(choices: tuple[Choice, ...], chosen: int) -> str:
    said = []
    this = choices[chosen]
    if chosen:
        wider = choices[chosen - 1]
        what = {
            "not": "would not fit",
            "cpu": "would run on the processor, slower",
            "partly": "would run only partly on the GPU, slower",
            "gpu": "would fit too",
        }[wider.where]
        more = format_bytes(wider.size_bytes - this.size_bytes)
        said.append(f"{wider.recipe} is {more} larger and {what}.")
    narrower = next((c for c in choices[chosen + 1 :] if c.size_bytes < this.size_bytes), None)
    if narrower:
        less = format_bytes(this.size_bytes - narrower.size_bytes)
        bits = f"{this.bits_per_weight - narrower.bits_per_weight:.1f} bits per weight"
        said.append(f"{narrower.recipe} would save {less} and cost {bits}.")
    return " ".join(said)
