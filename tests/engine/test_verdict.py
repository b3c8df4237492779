"""Verdicts on computers that are imagined: what is promised fits, and is the best that does."""

from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest

from engine.fit.estimate import Estimate
from engine.fit.memory import usable_bytes
from engine.fit.rough import room_bytes
from engine.fit.run import Need, Run
from engine.fit.verdict import Asked, Verdict, judge
from engine.ggml_types import GgmlType
from engine.hardware import Computer, Cpu, Device
from tests.helpers.headers import Header, Sizes, header

GIB = 2**30
CPU = Cpu("Imagined", 8, 16, ("AVX2",))
LLAMA_8B = Sizes(32, 4096, 14336, 32, 8, 128, 128_256)
LLAMA_70B = Sizes(80, 8192, 28672, 64, 8, 128, 128_256)
MOE_30B = Sizes(48, 2048, 768, 32, 4, 128, 151_936, n_experts=128)


def computer(main_gib: float, *gpus_gib: float) -> Computer:
    gpus = tuple(
        Device(f"CUDA{i}", f"Card {i}", "gpu", int(size * GIB), int(size * GIB))
        for i, size in enumerate(gpus_gib)
    )
    return Computer(int(main_gib * GIB), int(main_gib * GIB), CPU, gpus)


def verdict_on(
    whole: Header,
    here: Computer,
    asked: Asked = Asked(),  # noqa: B008 - frozen
) -> Verdict:
    estimate = Estimate.of(whole.metadata, whole.tensors)

    def needs(run: Run) -> tuple[Need, ...]:
        return estimate.needs(run, here.gpus)

    return judge(
        needs,
        here,
        n_layers=estimate.n_layers,
        n_ctx_train=estimate.shape.n_ctx_train,
        has_experts=estimate.has_experts,
        asked=asked,
    )


EIGHT_B = header("llama", GgmlType.Q4_K, LLAMA_8B)
SEVENTY_B = header("llama", GgmlType.Q4_K, LLAMA_70B)
MOE = header("qwen3moe", GgmlType.Q4_K, MOE_30B)


@pytest.mark.parametrize(
    ("whole", "here", "kind", "words"),
    [
        (EIGHT_B, computer(64, 24), "gpu", "entirely on the Card 0"),
        (EIGHT_B, computer(64, 12), "gpu", "16,384 tokens"),
        (EIGHT_B, computer(64, 6.8), "gpu", "8,192 tokens"),
        (EIGHT_B, computer(64, 4), "partly", "of 32 layers"),
        (EIGHT_B, computer(64), "cpu", "on the processor"),
        (EIGHT_B, computer(7), "cpu", "on the processor"),
        (EIGHT_B, computer(4), "not", "Does not fit"),
        (SEVENTY_B, computer(64, 24), "partly", "of 80 layers"),
        (SEVENTY_B, computer(64, 24, 24), "gpu", "Card 0 and Card 1"),
        (SEVENTY_B, computer(32), "not", "Does not fit"),
        (MOE, computer(32, 8), "partly", "the experts of"),
        (MOE, computer(32, 24), "gpu", "entirely"),
    ],
)
def test_the_verdict_in_words(whole: Header, here: Computer, kind: str, words: str) -> None:
    found = verdict_on(whole, here)
    assert (found.kind, words in found.words) == (kind, True), found.words


@pytest.mark.parametrize("whole", [EIGHT_B, SEVENTY_B, MOE])
def test_what_is_promised_fits(whole: Header) -> None:
    for main in (4, 8, 16, 32, 64, 128):
        for gpus in ((), (4,), (8,), (12,), (24,), (24, 24), (8, 24)):
            found = verdict_on(whole, computer(main, *gpus))
            fits = all(need.total_bytes <= found.usable[need.device] for need in found.needs)
            assert fits == (found.kind != "not"), (main, gpus, found)


def test_more_memory_never_makes_it_worse() -> None:
    order = ["not", "cpu", "partly", "gpu"]
    kinds = [order.index(verdict_on(EIGHT_B, computer(64, gib)).kind) for gib in range(1, 24)]
    assert all(a <= b for a, b in pairwise(kinds))
    lengths = [verdict_on(EIGHT_B, computer(gib)).run.n_ctx for gib in range(6, 20)]
    assert all(a <= b for a, b in pairwise(lengths))


def test_what_is_asked_for_is_kept() -> None:
    found = verdict_on(EIGHT_B, computer(64, 12), Asked(n_ctx=32_768, kv_type="q8_0"))
    assert (found.run.n_ctx, found.run.kv_type) == (32_768, "q8_0")
    # The cache in eight bits before a shorter context than was asked for.
    found = verdict_on(EIGHT_B, computer(64, 8.5), Asked(n_ctx=32_768))
    assert (found.kind, found.run.n_ctx, found.run.kv_type) == ("gpu", 32_768, "q8_0")
    assert verdict_on(EIGHT_B, computer(64, 24), Asked(n_gpu_layers=0)).kind == "cpu"


def test_as_many_layers_as_fit_go_to_the_gpu() -> None:
    here = computer(64, 4)
    found = verdict_on(EIGHT_B, here)
    one_more = Run(found.run.n_ctx, found.run.kv_type, found.run.n_gpu_layers + 1)
    (_, gpu) = Estimate.of(EIGHT_B.metadata, EIGHT_B.tensors).needs(one_more, here.gpus)
    assert gpu.total_bytes > found.usable["CUDA0"]


def test_what_a_loaded_model_releases_counts() -> None:
    estimate = Estimate.of(EIGHT_B.metadata, EIGHT_B.tensors)
    here = computer(4)
    released = judge(estimate.needs, here, n_layers=32, released={"CPU": 12 * GIB})
    assert released.kind == "cpu"


def test_memory_that_is_shared_is_counted_once() -> None:
    """A Mac's graphics card may use 12 of the same 16 GB: a model of 9 GB and its cache, once."""
    free = 12 * GIB
    metal = Device("MTL0", "Apple M2", "gpu", 12 * GIB, 12 * GIB, shares_main_memory=True)
    mac = Computer(16 * GIB, free, CPU, (metal,))
    card = Computer(16 * GIB, free, CPU, (Device("CUDA0", "Card", "gpu", 12 * GIB, 12 * GIB),))
    big = header("llama", GgmlType.Q8_0, LLAMA_8B)
    assert verdict_on(big, card).kind == "gpu"
    on_mac = verdict_on(big, mac)
    held = sum(need.total_bytes for need in on_mac.needs)
    assert on_mac.kind == "gpu" and held <= on_mac.usable["CPU"]
    assert on_mac.run.n_ctx < verdict_on(big, card).run.n_ctx
    assert verdict_on(big, Computer(16 * GIB, 8 * GIB, CPU, (metal,))).kind == "not"


def test_a_context_beyond_training_is_said() -> None:
    here = computer(64)
    assert "trained for" not in verdict_on(EIGHT_B, here, Asked(131_072)).words
    assert "It was trained for 131,072" in verdict_on(EIGHT_B, here, Asked(200_000)).words


def test_the_room_for_a_model_is_that_of_all_memories_once() -> None:
    card = computer(16, 8).gpus[0]
    mac = msgspec.structs.replace(card, shares_main_memory=True)
    main = room_bytes(computer(16))
    assert main == usable_bytes(16 * GIB)
    assert room_bytes(computer(16, 8)) == main + 8 * GIB - 8 * GIB // 20
    assert room_bytes(msgspec.structs.replace(computer(16), devices=(mac,))) == main
    assert room_bytes(computer(16), {"CPU": GIB}) == usable_bytes(17 * GIB)
