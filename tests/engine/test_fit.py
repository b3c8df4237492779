"""Predictions of memory, the context that fits, and the recipe to take."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from engine.errors import CorruptFile
from engine.fit import memory as fit
from engine.fit.memory import choose_n_ctx, predict, usable_bytes
from engine.fit.recommend import recommend
from engine.fit.shape import Shape
from engine.ggml_types import GgmlType
from engine.gguf import GgufFile, TensorInfo, Value, ValueType
from engine.hardware import Computer, Cpu, Device
from engine.jobs import finish
from engine.llama.model import all_or_none
from engine.quantize.plan import plan
from engine.quantize.recipe import RECIPES
from engine.quantize.recommend import Recommend
from tests.engine.quantized_cases import write_source

MIB, GIB = 2**20, 2**30
LLAMA_3_8B = Shape(32, 4096, 14336, 32, 8, 128, 128, 128_256, 8192)
CPU = Cpu("EPYC", 8, 16, ("AVX", "AVX2"))


class Header(msgspec.Struct):
    """A model of which only the header exists."""

    metadata: dict[str, Value]
    tensors: list[TensorInfo]


@pytest.fixture
def llama_3_8b() -> Header:
    """The header of an 8B model in BF16, its vocabulary left out."""
    numbers = {
        "block_count": 32,
        "embedding_length": 4096,
        "feed_forward_length": 14336,
        "attention.head_count": 32,
        "attention.head_count_kv": 8,
        "context_length": 8192,
        "vocab_size": 128_256,
    }
    metadata = {f"llama.{key}": Value.u32(number) for key, number in numbers.items()}
    metadata["general.architecture"] = Value.string("llama")
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (4096, 128_256),
        "output.weight": (4096, 128_256),
        "output_norm.weight": (4096,),
    }
    for i in range(32):
        shapes |= {
            f"blk.{i}.attn_q.weight": (4096, 4096),
            f"blk.{i}.attn_k.weight": (4096, 1024),
            f"blk.{i}.attn_v.weight": (4096, 1024),
            f"blk.{i}.attn_output.weight": (4096, 4096),
            f"blk.{i}.ffn_gate.weight": (4096, 14336),
            f"blk.{i}.ffn_up.weight": (4096, 14336),
            f"blk.{i}.ffn_down.weight": (14336, 4096),
            f"blk.{i}.attn_norm.weight": (4096,),
            f"blk.{i}.ffn_norm.weight": (4096,),
        }
    tensors = [
        TensorInfo(name, shape, GgmlType.F32 if len(shape) == 1 else GgmlType.BF16)
        for name, shape in shapes.items()
    ]
    return Header(metadata, tensors)


def computer(available_gib: float, *devices: Device) -> Computer:
    return Computer(64 * GIB, int(available_gib * GIB), CPU, devices)


def gpu(free_gib: float) -> Device:
    return Device("CUDA0", "RTX 3060", "gpu", 12 * GIB, int(free_gib * GIB))


def test_figures_that_llama_cpp_reported() -> None:
    """A KV cache of 1024 MiB and a compute buffer of 124 MiB for an 8B model at 8k."""
    memory = predict(LLAMA_3_8B, 5 * GIB, 8192)
    assert memory.kv_cache_bytes == 1024 * MIB
    logits_bytes = 4 * LLAMA_3_8B.n_vocab
    assert memory.compute_bytes - logits_bytes == pytest.approx(124 * MIB, abs=0.6 * MIB)
    assert memory.total_bytes > 5 * GIB + 1148 * MIB


def test_shape_from_metadata(llama_3_8b: Header) -> None:
    assert Shape.from_metadata(llama_3_8b.metadata) == LLAMA_3_8B


def test_shape_of_a_model_with_sizes_by_layer(llama_3_8b: Header) -> None:
    by_layer = Value.array(ValueType.UINT32, [8, 4, 1])
    llama_3_8b.metadata["llama.attention.head_count_kv"] = by_layer
    llama_3_8b.metadata["llama.attention.key_length"] = Value.u32(64)
    shape = Shape.from_metadata(llama_3_8b.metadata)
    assert (shape.n_kv_heads, shape.head_dim_k, shape.head_dim_v) == (8, 64, 128)


def test_shape_of_a_header_that_says_nothing() -> None:
    shape = Shape.from_metadata({})
    assert predict(shape, 100, 512).total_bytes > 100


def test_the_context_grows_with_the_memory() -> None:
    lengths = [choose_n_ctx(LLAMA_3_8B, 5 * GIB, available * GIB) for available in range(4, 12)]
    assert lengths == sorted(lengths)
    assert lengths[0] == fit.SHORTEST_N_CTX
    assert lengths[-1] == LLAMA_3_8B.n_ctx_train
    assert all(n_ctx % 256 == 0 for n_ctx in lengths)


def test_the_chosen_context_fits_and_the_next_does_not() -> None:
    available = int(6.9 * GIB)
    n_ctx = choose_n_ctx(LLAMA_3_8B, 5 * GIB, available)
    assert fit.SHORTEST_N_CTX < n_ctx < LLAMA_3_8B.n_ctx_train
    assert predict(LLAMA_3_8B, 5 * GIB, n_ctx).total_bytes <= usable_bytes(available)
    assert predict(LLAMA_3_8B, 5 * GIB, n_ctx + 256).total_bytes > usable_bytes(available)


def test_a_short_trained_context_is_kept() -> None:
    short = msgspec.structs.replace(LLAMA_3_8B, n_ctx_train=256)
    assert choose_n_ctx(short, 5 * GIB, 64 * GIB) == 256


def test_the_widest_that_fits_is_recommended(llama_3_8b: Header) -> None:
    names = []
    for available in (64, 8.5, 7.5, 6.6, 5.8, 5):
        found = recommend(llama_3_8b, computer(available))  # type: ignore[arg-type]
        fitting = [choice.recipe for choice in found.choices if choice.fits]
        assert found.recipe == fitting[0]
        assert found.recipe in found.reason
        assert found.reason.endswith(".")
        names.append(found.recipe)
    assert names == list(RECIPES)


def test_choices_have_the_exact_sizes(llama_3_8b: Header) -> None:
    found = recommend(llama_3_8b, computer(64))  # type: ignore[arg-type]
    assert [choice.recipe for choice in found.choices] == list(RECIPES)
    by_name = {choice.recipe: choice for choice in found.choices}
    # Meta-Llama-3-8B-Q4_K_M.gguf as published holds 4.58 GiB, with its vocabulary.
    assert by_name["Q4_K_M"].size_bytes / GIB == pytest.approx(4.58, abs=0.01)
    assert by_name["Q4_K_M"].bits_per_weight == pytest.approx(4.89, abs=0.01)
    assert by_name["Q8_0"].bits_per_weight == pytest.approx(8.5, abs=0.01)


def test_when_nothing_fits_it_says_what_the_smallest_needs(llama_3_8b: Header) -> None:
    found = recommend(llama_3_8b, computer(3))  # type: ignore[arg-type]
    assert found.recipe is None
    assert not any(choice.fits for choice in found.choices)
    assert found.reason == (
        "Nothing fits: even Q2_K needs 4 GB with 4,096 tokens of context, "
        "and 2.4 GB may be used here."
    )


def test_a_gpu_that_holds_a_good_recipe_comes_first(llama_3_8b: Header) -> None:
    found = recommend(llama_3_8b, computer(64, gpu(7.2)))  # type: ignore[arg-type]
    assert found.recipe == "Q5_K_M"
    assert "on the RTX 3060" in found.reason
    assert all(choice.fits for choice in found.choices)  # the wider ones in main memory


def test_a_gpu_that_holds_only_a_narrow_recipe_gives_way(llama_3_8b: Header) -> None:
    found = recommend(llama_3_8b, computer(64, gpu(5.2)))  # type: ignore[arg-type]
    assert found.recipe == "Q8_0"
    assert "partly on the GPU" in found.reason


def test_the_job_looks_at_this_computer(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source.gguf", GgmlType.F16)
    found = finish(Recommend(str(source)).run())
    assert found.recipe == "Q8_0"
    known = plan(GgufFile.open(source), RECIPES["Q8_0"]).size_bytes
    assert found.choices[0].size_bytes == known


@pytest.mark.parametrize("size", [Value(ValueType.FLOAT32, float("inf")), Value.string("many")])
def test_an_impossible_size_is_refused(size: Value) -> None:
    metadata = {"general.architecture": Value.string("llama"), "llama.block_count": size}
    with pytest.raises(CorruptFile, match="block count"):
        Shape.from_metadata(metadata)


def test_more_layers_than_any_model_has_are_refused() -> None:
    count = Value.u32(2**31 - 1)
    metadata = {"general.architecture": Value.string("llama"), "llama.block_count": count}
    with pytest.raises(CorruptFile, match="layers"):
        Shape.from_metadata(metadata)


def test_the_largest_model_for_the_memory_that_is_free() -> None:
    assert fit.largest_n_params(GIB) == 0
    assert 8e9 < fit.largest_n_params(8 * GIB) < 11e9
    assert 20e9 < fit.largest_n_params(16 * GIB) < 25e9


def test_a_job_that_only_reads_takes_a_gpu_if_it_has_room_for_everything() -> None:
    processor = Device("CPU", "EPYC", "cpu", 16 * GIB, 16 * GIB)
    inside = Device("Vulkan0", "Iris", "igpu", 8 * GIB, 8 * GIB)
    assert all_or_none(15 * GIB, [processor]) == all_or_none(15 * GIB, [processor, inside]) == -1
    assert all_or_none(9 * GIB, [processor, gpu(12)]) == -1
    assert all_or_none(9 * GIB, [gpu(10)]) == all_or_none(9 * GIB, [gpu(10), gpu(1)]) == 0
    assert all_or_none(15 * GIB, [gpu(12), gpu(10)]) == -1
