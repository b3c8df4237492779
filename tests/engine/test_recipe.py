"""The rules of the recipes against what llama-quantize answered (see recipe_cases.py)."""

from __future__ import annotations

import msgspec
import pytest

from engine.errors import UnsupportedTensor
from engine.ggml_types import GgmlType
from engine.gguf import TensorInfo, Value
from engine.quantize.recipe import RECIPES, find_recipe, in_file_order, tensor_types
from tests.engine.recipe_cases import RECORDED, Case, all_cases, in_words

ANSWERS = msgspec.json.decode(RECORDED.read_bytes(), type=dict[str, dict[str, str]])


@pytest.mark.parametrize("case", all_cases(), ids=lambda case: case.name)
@pytest.mark.parametrize("name", RECIPES)
def test_types_are_those_of_llama_quantize(case: Case, name: str) -> None:
    types = tensor_types(RECIPES[name], case.tensors, case.typed_metadata)
    assert in_words([t.name for t in types.values()]) == ANSWERS[case.name][name]


def test_file_order_is_by_layer_number_not_by_text() -> None:
    names = ["output.weight", "blk.10.a.weight", "blk.2.b.weight", "blk.2.a.weight", "a.weight"]
    tensors = [TensorInfo(name, (32, 32), GgmlType.F16) for name in names]
    assert [t.name for t in in_file_order(tensors)] == [
        "a.weight",
        "output.weight",
        "blk.2.a.weight",
        "blk.2.b.weight",
        "blk.10.a.weight",
    ]


def test_recipe_names_in_any_case() -> None:
    assert find_recipe("q4_k_m") is RECIPES["Q4_K_M"]
    with pytest.raises(UnsupportedTensor, match="no recipe named Q9") as caught:
        find_recipe("Q9")
    assert "Q4_K_M" in caught.value.hint


def test_an_expert_of_no_layer_is_refused() -> None:
    metadata = {
        "general.architecture": Value.string("llama"),
        "llama.block_count": Value.u32(2),
        "llama.expert_count": Value.u32(4),
    }
    tensors = [TensorInfo("blk.7.ffn_down_exps.weight", (256, 256, 4), GgmlType.F16)]
    with pytest.raises(UnsupportedTensor, match=r"blk\.7\.ffn_down_exps"):
        tensor_types(RECIPES["Q4_K_M"], tensors, metadata)
