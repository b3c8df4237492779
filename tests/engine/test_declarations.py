"""What the declarations make of configs that are not as transformers writes them today."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.convert.architecture import Declared
from engine.convert.architectures import find_architecture
from engine.convert.config import Config
from engine.convert.multimodal import text_weights
from engine.convert.view import CheckpointView
from engine.errors import CorruptFile, FormatError, UnsupportedArchitecture
from tests.helpers.checkpoints import random_tensors, write_safetensors, write_tiny_checkpoint
from tests.helpers.upstream import load_case


def declared(case: str, **changes: Any) -> Declared:
    """What is declared of a recorded case; fields that become ... are left out."""
    config = {**load_case(case).config, **changes}
    config = {key: value for key, value in config.items() if value is not ...}
    return find_architecture(config).declare(Config(config), {})


def keys(case: str, **changes: Any) -> dict[str, Any]:
    return {key: value.value for key, value in declared(case, **changes).keys.items()}


@pytest.mark.parametrize("case", ["stablelm", "gemma", "gemma2", "phi2"])
def test_an_unusual_rotation_is_always_told(case: str) -> None:
    assert "rope.freq_base" not in keys(case)
    assert keys(case, rope_theta=1e6)["rope.freq_base"] == 1e6
    linear = keys(case, rope_scaling={"rope_type": "linear", "factor": 4.0})
    assert linear["rope.scaling.factor"] == 4.0


@pytest.mark.parametrize(
    ("case", "theta"),
    [
        ("llama-2", 1e4),
        ("mixtral", 1e6),
        ("smollm3", 2e6),
        ("gpt-oss-bf16", 150_000.0),
        ("cohere", 500_000.0),
        ("gemma3", 1e6),
        ("olmo3", 500_000.0),
    ],
)
def test_a_base_that_is_not_told_is_that_of_transformers(case: str, theta: float) -> None:
    rope = dict(load_case(case).config.get("rope_scaling") or {})
    rope.pop("rope_theta", None)
    found = keys(case, rope_theta=..., rope_scaling=rope or None, rope_parameters=...)
    assert found["rope.freq_base"] == theta


def test_yarn_sharpens_attention_as_the_config_asks() -> None:
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    usual = 0.1 * np.log(4.0) + 1
    assert "rope.scaling.attn_factor" not in keys("qwen3", rope_scaling=yarn)
    flat = keys("qwen3", rope_scaling={**yarn, "attention_factor": 1.0})
    assert flat["rope.scaling.attn_factor"] == pytest.approx(1 / usual)
    even = keys("qwen3", rope_scaling={**yarn, "mscale": 0.7, "mscale_all_dim": 0.7})
    assert even["rope.scaling.attn_factor"] == pytest.approx(1 / usual)
    del yarn["original_max_position_embeddings"]
    told = keys("qwen3", rope_scaling=yarn, max_position_embeddings=64)
    assert told["rope.scaling.original_context_length"] == 64


@pytest.mark.parametrize(
    ("case", "changes", "told"),
    [
        ("phi3", {"rope_scaling": {"type": "yarn", "factor": 4.0}}, "rope scaling 'yarn'"),
        ("gemma2", {"attn_logit_softcapping": None}, "no attn_logit_softcapping"),
        ("gemma2", {"sliding_window": None}, "no sliding_window"),
        ("smollm3", {"no_rope_layers": ..., "no_rope_layer_interval": 2}, "rotation in other"),
        ("cohere2", {"sliding_window_pattern": 3, "layer_types": ...}, "in other layers"),
        ("deepseek3", {"rope_scaling": {"type": "yarn", "factor": 4.0, "mscale": 1.0,
          "mscale_all_dim": 0.5, "original_max_position_embeddings": 64}}, "mscale"),
        ("olmo3", {"rope_scaling": ..., "rope_parameters": {
            "full_attention": {"rope_type": "default", "rope_theta": 5e5},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}}, "in its sliding"),
    ],
)  # fmt: skip
def test_what_llama_cpp_cannot_do_is_refused(case: str, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UnsupportedArchitecture, match=told):
        declared(case, **changes)


@pytest.mark.parametrize(
    ("case", "changes", "told"),
    [
        ("llama-2", {"rms_norm_eps": ...}, "rms_norm_eps or layer_norm_eps is missing"),
        ("qwen3-moe", {"num_experts_per_tok": ...}, "num_experts_per_tok is missing"),
        ("smollm3", {"num_hidden_layers": 2_000_000_000}, "num_hidden_layers is 2000000000"),
        ("glm4", {"partial_rotary_factor": 1e30}, "cannot be rotated"),
        ("phi2", {"partial_rotary_factor": 1e-5}, "cannot be rotated"),
        ("stablelm", {"partial_rotary_factor": 2.0}, "cannot be rotated"),
        ("phi3", {"original_max_position_embeddings": 1}, "original_max_position_embeddings is 1"),
        ("phi3", {"rope_scaling": {"type": "longrope"}}, "long_factor is missing"),
        ("llama-2", {"head_dim": 2**31 - 2}, "head_dim is 2147483646"),
        ("deepseek3", {"topk_group": 9}, "do not fit together"),
        ("olmo2", {"sliding_window": 8, "layer_types": ["odd", "odd"]}, "layer_types"),
    ],
)
def test_what_is_damaged_is_named(case: str, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(CorruptFile, match=told):
        declared(case, **changes)


def test_more_of_what_configs_say() -> None:
    assert keys("olmo2", sliding_window=8, layer_types=...)["attention.sliding_window_pattern"]
    assert "rope.freq_base_swa" not in keys("olmo2")
    assert keys("llama-2", sliding_window=16)["context_length"] > 16  # a Llama has none
    assert keys("mistral", sliding_window=16)["context_length"] == 16
    assert keys("mistral", sliding_window=16, use_sliding_window=False)["context_length"] > 16
    assert keys("llama-2", max_position_embeddings=4096.0)["context_length"] == 4096
    assert keys("olmoe", rms_norm_eps=1e-6)["attention.layer_norm_rms_epsilon"] == 1e-6
    n_groups = load_case("deepseek3").config["n_group"]
    assert "expert_group_count" in keys("deepseek3")
    assert "expert_group_count" not in keys("deepseek3", topk_group=n_groups)


def test_a_number_that_no_key_can_hold_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(
        tmp_path / "a",
        architectures=["MiniCPMForCausalLM"],
        scale_emb=1,
        scale_depth=1,
        dim_model_base=1e-38,
    )
    with pytest.raises(CorruptFile, match=r"minicpm\.logit_scale would be"):
        CheckpointView.open(folder)


def test_names_without_a_prefix_get_one(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "a", hidden=64, ffn=64, n_layers=1)
    expected = CheckpointView.open(folder)
    tensors = random_tensors(0, 356, 64, 64, 1, 4, 2, tied=True)
    plain = {name.removeprefix("model."): values for name, values in tensors.items()}
    other = write_tiny_checkpoint(tmp_path / "b", hidden=64, ffn=64, n_layers=1)
    write_safetensors(other / "model.safetensors", plain, "BF16")
    view = CheckpointView.open(other)
    for ours, theirs in zip(view.tensors, expected.tensors, strict=True):
        assert view.raw(ours, 0, ours.n_rows) == expected.raw(theirs, 0, theirs.n_rows)


def test_two_tensors_of_one_name_are_refused() -> None:
    weights = {"language_model.model.norm.weight": 1, "model.norm.weight": 2}
    with pytest.raises(FormatError, match="is there twice"):
        text_weights({"text_config": {}}, weights)


def test_the_only_safetensors_may_have_any_name(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "a", hidden=64, ffn=64, n_layers=1)
    (folder / "model.safetensors").rename(folder / "gptq_model-4bit-128g.safetensors")
    assert CheckpointView.open(folder).tensors


def test_a_quantization_that_is_no_more_is_overlooked(tmp_path: Path) -> None:
    left = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    folder = write_tiny_checkpoint(tmp_path / "a", quantization_config=left)
    assert not any(tensor.type.is_quantized for tensor in CheckpointView.open(folder).tensors)
