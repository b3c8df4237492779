"""Damaged, hostile and merely other adapters: a sentence, no traceback, no file left."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.convert.job import Convert
from engine.convert.lora.choice import Lora
from engine.convert.lora.config import read_adapter_config
from engine.convert.lora.job import ConvertAdapter
from engine.errors import EngineError, UnsafeFile
from engine.jobs import finish
from engine.source import open_source
from tests.engine.test_malformed_checkpoints import damaged
from tests.helpers.adapters import even_numbers, load_cases, write_adapter, write_base, write_case
from tests.helpers.checkpoints import Tensors, write_json

CASES = load_cases()
Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj"
A, B = f"{Q_PROJ}.lora_A.weight", f"{Q_PROJ}.lora_B.weight"
PLAIN: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 3}


def numbers(*shape: int) -> Any:
    return even_numbers("x", shape, 0.3)


PAIR: Tensors = {A: numbers(2, 32), B: numbers(32, 2)}


def refusal(base: Path, adapter: Path) -> EngineError:
    """What both uses of `adapter` end in; fails the test if they do not, or leave a file."""
    out = base.parent / "out"
    out.mkdir(exist_ok=True)
    merge = Convert(str(base), str(out / "a.gguf"), loras=(Lora(str(adapter)),))
    for job in (ConvertAdapter(str(adapter), str(base), str(out / "b.gguf")), merge):
        with pytest.raises(EngineError) as caught:
            finish(job.run())
        assert not list(out.iterdir())
        assert str(caught.value).endswith(".")
        assert len(str(caught.value)) < 400
    return caught.value


def sentence(act: Callable[[], Any]) -> str | None:
    """What `act` is refused with, if it is; a sentence in any case."""
    try:
        act()
    except EngineError as error:
        told = str(error)
    else:
        return None
    assert told.endswith(".")
    assert len(told) < 400
    return told


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"peft_type": "LOHA"}, "an adapter of the kind 'LOHA'"),
        ({"peft_type": None}, "an adapter of the kind ''"),
        ({"peft_type": 3}, "peft_type is 3"),
        ({"r": 0}, "r is 0"),
        ({"r": None}, "r is missing"),
        ({"r": 3}, "and the rank is 3"),
        ({"r": 1 << 40}, "r is "),
        ({"lora_alpha": -1}, "lora_alpha is -1"),
        ({"lora_alpha": float("inf")}, "is damaged"),
        ({"use_rslora": "yes"}, "use_rslora is 'yes'"),
        ({"use_dora": True}, "lacks lora_magnitude_vector"),
        ({"rank_pattern": [1]}, "rank_pattern is no table"),
        ({"rank_pattern": {"q_proj": "2"}}, "rank_pattern of 'q_proj' is no number"),
        ({"rank_pattern": {"q_proj": 5}}, "and the rank is 5"),
        ({"rank_pattern": {"(a+)+$": 5}}, "which Snug cannot match"),
        ({"alpha_pattern": {"q_proj": 0}}, "out of range"),
        ({"alpha_pattern": {f"{i}.*": 1 for i in range(100)}}, "which Snug cannot match"),
        ({"base_model_name_or_path": []}, "base_model_name_or_path is"),
        ({"alora_invocation_tokens": ["a"]}, "alora_invocation_tokens is"),
        ({"init_lora_weights": "pissa_niter_4"}, "began as 'pissa_niter_4'"),
        ({"init_lora_weights": ["a"]}, "changes the base model too"),
        ({"use_qalora": True}, "a QALoRA adapter"),
        ({"kasa_config": {"beta": 1}}, "a KaSA adapter"),
        ({"layer_replication": [[0, 2]]}, "repeats layers"),
        ({"lora_bias": True}, "lora_bias"),
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "target_parameters"),
        ({"trainable_token_indices": [1]}, "trainable_token_indices"),
    ],
)
def test_configs(tmp_path: Path, config: dict[str, Any], told: str) -> None:
    adapter = write_adapter(tmp_path / "adapter", {**PLAIN, **config}, PAIR)
    assert told in str(refusal(write_base(tmp_path / "base", "llama"), adapter))


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({}, "it holds no LoRA"),
        ({A: numbers(2, 32)}, "lacks lora_B"),
        ({**PAIR, f"{Q_PROJ}.lora_magnitude_vector": numbers(32)}, "has lora_magnitude_vector"),
        ({A: numbers(2, 31), B: numbers(32, 2)}, "is for another model"),
        ({A: numbers(2, 32), B: numbers(33, 2)}, "is for another model"),
        ({A: numbers(3, 32), B: numbers(32, 2)}, "and the rank is 2"),
        ({A: numbers(2, 32, 1), B: numbers(32, 2)}, "and the rank is 2"),
        ({A: numbers(2), B: numbers(32, 2)}, "and the rank is 2"),
        ({A: numbers(), B: numbers()}, "and the rank is 2"),
        ({**PAIR, A.replace(".weight", ".default.weight"): numbers(2, 32)}, "is there twice"),
        ({**PAIR, "base_model.model.score.weight": numbers(2, 32)}, "changes score.weight"),
        ({**PAIR, f"{Q_PROJ}.lora_B.bias": numbers(32)}, "q_proj.lora_B.bias"),
        ({**PAIR, "x" * 301: numbers(1)}, "it has a tensor called"),
        ({**PAIR, f"{Q_PROJ}.lora_embedding_A": numbers(2, 32)}, "is damaged"),
    ],
)
def test_tensors(tmp_path: Path, tensors: Tensors, told: str) -> None:
    adapter = write_adapter(tmp_path / "adapter", PLAIN, tensors)
    assert told in str(refusal(write_base(tmp_path / "base", "llama"), adapter))


def test_dora_of_an_embedding_is_refused(tmp_path: Path) -> None:
    stem = "base_model.model.model.embed_tokens"
    tensors = {
        f"{stem}.lora_embedding_A": numbers(2, 356),
        f"{stem}.lora_embedding_B": numbers(32, 2),
        f"{stem}.lora_magnitude_vector": numbers(32),
    }
    adapter = write_adapter(tmp_path / "adapter", {**PLAIN, "use_dora": True}, tensors)
    assert "no linear layer" in str(refusal(write_base(tmp_path / "base", "llama"), adapter))


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "llama")
    adapter = write_adapter(tmp_path / "adapter", PLAIN, PAIR)
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    assert isinstance(refusal(base, adapter), UnsafeFile)
    (adapter / "adapter_model.bin").unlink()
    assert "but no adapter_model.safetensors" in str(refusal(base, adapter))


def test_an_adapter_of_mlx_is_named(tmp_path: Path) -> None:
    config = {"fine_tune_type": "lora", "lora_parameters": {"rank": 8, "scale": 20.0}}
    adapter = write_adapter(tmp_path / "adapter", config, {})
    assert "mlx-lm" in str(refusal(write_base(tmp_path / "base", "llama"), adapter))


@pytest.mark.parametrize("config", ["[]", "{", '"LORA"', "", "[" * 100_000])
def test_a_config_that_is_none(tmp_path: Path, config: str) -> None:
    adapter = write_adapter(tmp_path / "adapter", PLAIN, PAIR)
    (adapter / "adapter_config.json").write_text(config)
    assert "adapter_config.json" in str(refusal(write_base(tmp_path / "base", "llama"), adapter))


UNNAMED = ("peft_type", "init_lora_weights", "use_qalora", "kasa_config", "arrow_config",
           "use_bdlora", "monteclora_config", "layer_replication")  # fmt: skip
WRONG: tuple[Any, ...] = (
    "8", -1, 0, 1e39, float("nan"), True, [], {}, 1 << 40, [1] * 9, {"a": {}}, "x" * 100_000,
)  # fmt: skip


def test_every_field_with_every_wrong_value(tmp_path: Path) -> None:
    config = CASES["rslora-patterns"].config
    for field in config:
        for value in WRONG:
            write_json(tmp_path / "adapter_config.json", {**config, field: value})
            told = sentence(lambda: read_adapter_config(tmp_path))
            is_named = told is None or field in told or field in UNNAMED
            assert is_named or "not valid JSON" in str(told)


def test_a_thousand_damaged_headers(tmp_path: Path) -> None:
    base, adapter = write_case(tmp_path, CASES["shared-expert"])
    file = adapter / "adapter_model.safetensors"
    whole = file.read_bytes()
    n_header = struct.unpack_from("<Q", whole)[0]
    header = json.loads(whole[8 : 8 + n_header])
    dice = random.Random(7)
    n_refused = 0
    for _ in range(1000):
        file.write_bytes(damaged(whole, header, n_header, dice))
        n_refused += sentence(lambda: open_source(base, [Lora(str(adapter))]).close()) is not None
    assert n_refused > 900


def test_many_patterns_take_no_time(tmp_path: Path) -> None:
    """Tables of a model with many experts name every one of them; globs are few."""
    names = [f"model.layers.{i}.mlp.experts.{j}.up_proj" for i in range(48) for j in range(128)]
    table = {name: 1 + i for i, name in enumerate(names)} | {
        "*.*" * 60 + str(i): 1 for i in range(64)
    }
    write_json(tmp_path / "adapter_config.json", {**PLAIN, "rank_pattern": table})
    config = read_adapter_config(tmp_path)
    assert [config.rank_of(name) for name in names] == list(range(1, len(names) + 1))
