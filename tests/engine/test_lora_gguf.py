"""Adapters become the GGUF that llama.cpp's converter makes, and count as when they are merged."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from engine.addable import find_addable
from engine.convert.job import Convert
from engine.convert.lora.base import find_base
from engine.convert.lora.choice import Lora
from engine.convert.lora.job import ConvertAdapter
from engine.errors import EngineError, FormatError, NotFound, UnsupportedTensor
from engine.gguf import GgufFile
from engine.inspect import describe
from engine.jobs import finish
from engine.llama.model import load_model
from engine.other_apps import Place
from engine.source import open_source
from tests.helpers.adapters import (
    BASES,
    Case,
    adapter_tensors,
    even_numbers,
    load_cases,
    write_adapter,
    write_base,
    write_case,
)
from tests.helpers.checkpoints import vocabulary, write_json
from tests.helpers.llama_logits import exact_logits

CASES = load_cases()
ONLY_MERGED = {
    "all-biases": "is replaced as a whole",
    "own-biases": "is replaced as a whole",
    "modules": "is replaced as a whole",
    "dora": "is changed by DoRA",
    "dora-rslora": "is changed by DoRA",
    "tied-embedding": "token_embd.weight is the output too in this model",
    "tied-output": "token_embd.weight is the output too in this model",
    "tied-module": "is replaced as a whole",
}
# llama.cpp's converter writes these as if alpha / rank were the strength of every pair.
OTHER_STRENGTHS = ("rslora", "patterns", "rslora-patterns")
ADAPTERS = [name for name in CASES if name not in ONLY_MERGED]
PROMPT = [(37 * i) % len(vocabulary()[0]) for i in range(1, 17)]
PLAIN: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 3}


def converted(base: Path, adapter: Path, out: Path, float_type: str = "f32") -> GgufFile:
    finish(ConvertAdapter(str(adapter), str(base), str(out), float_type).run())
    return GgufFile.open(out)


def digests(file: GgufFile) -> dict[str, tuple[tuple[int, ...], str]]:
    found = {}
    for info in file.tensors:
        data = hashlib.sha256(file.raw(info, 0, info.n_rows)).hexdigest()[:16]
        found[info.name] = (info.shape, f"{info.type.name} {data}")
    return found


@pytest.mark.parametrize("name", [name for name in ADAPTERS if name not in OTHER_STRENGTHS])
def test_the_file_is_that_of_llama_cpps_converter(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    base, adapter = write_case(tmp_path, case)
    for i, float_type in enumerate(("f32", "f16")):
        file = converted(base, adapter, tmp_path / f"{float_type}.gguf", float_type)
        theirs = {name: (entry[0], entry[1 + i]) for name, entry in case.gguf.items()}
        assert digests(file) == theirs
        assert file.get("general.type") == "adapter"
        assert file.get("adapter.type") == "lora"
        assert file.get("adapter.lora.alpha") == case.alpha
        assert file.get("general.architecture") == case.base.split("-tied")[0].replace("-", "")


@pytest.mark.parametrize("name", OTHER_STRENGTHS)
def test_strengths_of_their_own_are_put_into_b(tmp_path: Path, name: str) -> None:
    """A is as llama.cpp's converter writes it, and so is the shape of B."""
    case = CASES[name]
    ours = digests(converted(*write_case(tmp_path, case), tmp_path / "a.gguf"))
    assert ours.keys() == case.gguf.keys()
    for tensor, (shape, exact, _) in case.gguf.items():
        assert ours[tensor][0] == shape
        if tensor.endswith("lora_a"):
            assert ours[tensor][1] == exact


def test_one_strength_for_all_is_put_into_alpha(tmp_path: Path) -> None:
    case = CASES["rslora"]
    file = converted(*write_case(tmp_path, case), tmp_path / "a.gguf")
    assert file.get("adapter.lora.alpha") == 12  # 4 * sqrt(9)
    assert digests(file) == {name: entry[:2] for name, entry in case.gguf.items()}


@pytest.mark.parametrize("name", ADAPTERS)
def test_beside_its_model_it_counts_as_when_merged(tmp_path: Path, name: str) -> None:
    base, adapter = write_case(tmp_path, CASES[name])
    alone, merged, beside = (tmp_path / f"{kind}.gguf" for kind in ("alone", "merged", "beside"))
    finish(Convert(str(base), str(alone), "f32").run())
    finish(Convert(str(base), str(merged), "f32", loras=(Lora(str(adapter)),)).run())
    converted(base, adapter, beside)
    expected = exact_logits(merged, PROMPT)
    largest = np.abs(expected).max()
    assert np.abs(exact_logits(alone, PROMPT) - expected).max() > 0.1 * largest
    assert np.abs(exact_logits(alone, PROMPT, beside) - expected).max() < 1e-5 * largest


@pytest.mark.parametrize("name", ONLY_MERGED)
def test_what_llama_cpp_would_not_count_is_refused(tmp_path: Path, name: str) -> None:
    base, adapter = write_case(tmp_path, CASES[name])
    with pytest.raises(UnsupportedTensor, match=ONLY_MERGED[name]) as caught:
        converted(base, adapter, tmp_path / "a.gguf")
    assert "--lora" in caught.value.hint
    assert not list(tmp_path.glob("*.gguf*"))


def test_the_config_of_the_base_is_enough(tmp_path: Path) -> None:
    base, adapter = write_case(tmp_path, CASES["bf16"])
    whole = converted(base, adapter, tmp_path / "a.gguf")
    (base / "model.safetensors").unlink()
    assert digests(converted(base, adapter, tmp_path / "b.gguf")) == digests(whole)


def test_a_copy_of_the_embedding_has_to_be_compared(tmp_path: Path) -> None:
    base, adapter = write_case(tmp_path, CASES["embeddings"])
    (base / "model.safetensors").unlink()
    with pytest.raises(UnsupportedTensor, match="is replaced as a whole"):
        converted(base, adapter, tmp_path / "a.gguf")


@pytest.mark.parametrize(
    ("base", "changed", "why"),
    [
        ("qwen2-moe", "model.layers.0.mlp.experts.1.up_proj", "is changed in part only"),
        ("llama", "model.layers.7.self_attn.q_proj", "which the model does not have"),
        ("llama", "score", "which the model does not have"),
    ],
)
def test_what_has_no_place_is_named(tmp_path: Path, base: str, changed: str, why: str) -> None:
    shapes = {f"{changed}.lora_A.weight": (2, 32), f"{changed}.lora_B.weight": (16, 2)}
    adapter = write_adapter(tmp_path / "adapter", PLAIN, adapter_tensors(shapes, base))
    with pytest.raises(UnsupportedTensor, match=why):
        converted(write_base(tmp_path / "base", base), adapter, tmp_path / "a.gguf")


def test_experts_of_several_ranks_are_refused(tmp_path: Path) -> None:
    case = CASES["experts"]
    module = "base_model.model.model.layers.0.mlp.experts.2.up_proj"
    tensors = dict(case.tensors)
    tensors[f"{module}.lora_A.weight"], tensors[f"{module}.lora_B.weight"] = (5, 32), (16, 5)
    config = {**case.config, "rank_pattern": {"layers.0.mlp.experts.2.up_proj": 5}}
    changed: Case = msgspec.structs.replace(case, config=config, tensors=tensors)
    with pytest.raises(UnsupportedTensor, match="matrices of several ranks"):
        converted(*write_case(tmp_path, changed), tmp_path / "a.gguf")


def test_tensors_that_llama_cpp_never_adapts_are_refused(tmp_path: Path) -> None:
    """DeepSeek's attention multiplies with its matrices as they are."""
    config = {
        **BASES["llama"], "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2",
        "n_routed_experts": 4, "moe_intermediate_size": 16, "first_k_dense_replace": 1,
        "num_experts_per_tok": 2, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 4, "v_head_dim": 8, "n_shared_experts": 1,
    }  # fmt: skip
    write_json(tmp_path / "config.json", config)
    for name, n_out, n_in in (
        ("model.layers.0.self_attn.q_a_proj", 16, 32),
        ("model.layers.0.self_attn.kv_b_proj", 64, 16),
        ("lm_head", len(vocabulary()[0]), 32),
    ):
        pair = {
            f"{name}.lora_A.weight": even_numbers("a", (2, n_in), 0.3),
            f"{name}.lora_B.weight": even_numbers("b", (n_out, 2), 0.3),
        }
        adapter = write_adapter(tmp_path / name, PLAIN, pair)
        with pytest.raises(UnsupportedTensor, match=r"is computed without adapters in llama\.cpp"):
            converted(tmp_path, adapter, tmp_path / "a.gguf")


def test_an_alora_says_from_which_tokens_on_it_counts(tmp_path: Path) -> None:
    case = msgspec.structs.replace(
        CASES["bf16"], config={**CASES["bf16"].config, "alora_invocation_tokens": [7, 8, 9]}
    )
    base, adapter = write_case(tmp_path, case)
    file = converted(base, adapter, tmp_path / "a.gguf")
    assert list(file.get("adapter.alora.invocation_tokens")) == [7, 8, 9]
    with pytest.raises(UnsupportedTensor, match="counts from certain tokens on"):
        finish(Convert(str(base), str(tmp_path / "b.gguf"), loras=(Lora(str(adapter)),)).run())


def test_an_adapter_is_no_model(tmp_path: Path) -> None:
    base, adapter = write_case(tmp_path, CASES["bf16"])
    out = tmp_path / "a.gguf"
    converted(base, adapter, out)
    for look in (describe, open_source, lambda path: finish(load_model(path))):
        with pytest.raises(FormatError, match=r"a\.gguf is a LoRA adapter, not a whole model"):
            look(out)
    with pytest.raises(FormatError, match="adapter holds a LoRA adapter, not a whole model"):
        find_addable(adapter)


def test_the_result_does_not_replace_the_adapter(tmp_path: Path) -> None:
    base, adapter = write_case(tmp_path, CASES["bf16"])
    out = adapter / "adapter_model.safetensors"
    job = ConvertAdapter(str(adapter), str(base), str(out), overwrite=True)
    with pytest.raises(EngineError, match="cannot replace the model it is made from"):
        finish(job.run())


def test_jobs_survive_the_wire() -> None:
    jobs = (
        ConvertAdapter("/a", "/b", "/c.gguf", "f16", overwrite=True),
        Convert("/a", "/b.gguf", loras=(Lora("/c", 0.5), Lora("C:\\d"))),
    )
    for job in jobs:
        assert msgspec.json.decode(msgspec.json.encode(job), type=type(job)) == job


# Where the base model is.


def test_the_base_is_found_beside_the_adapter_or_among_models(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "here" / "adapter", PLAIN, {})
    models, cache = tmp_path / "models", tmp_path / "cache"
    places = [Place("LM Studio", str(tmp_path)), Place("Hugging Face", str(cache))]
    snapshot = cache / "models--some--base" / "snapshots" / "0123"
    write_json(adapter / "adapter_config.json", {**PLAIN, "base_model_name_or_path": "some/base"})
    with pytest.raises(NotFound, match="base model of adapter is not here: 'some/base'"):
        find_base(adapter, models, places)
    for folder in (snapshot, models / "some" / "base", tmp_path / "here" / "base"):
        write_base(folder, "llama")
        assert find_base(adapter, models, places) == folder


@pytest.mark.parametrize("named", ["/home/someone/base", "C:\\Users\\someone\\base\\", "base"])
def test_a_path_of_another_computer_is_a_name(tmp_path: Path, named: str) -> None:
    config = {**PLAIN, "base_model_name_or_path": named}
    adapter = write_adapter(tmp_path / "adapter", config, {})
    base = write_base(tmp_path / "base", "llama")
    assert find_base(adapter, tmp_path / "models", []) == base


@pytest.mark.parametrize("named", ["", "..", "/", "../..", "a/../b", "\\\\host\\share", "x" * 5000])
def test_other_names_lead_nowhere(tmp_path: Path, named: str) -> None:
    write_base(tmp_path, "llama")
    config = {**PLAIN, "base_model_name_or_path": named}
    adapter = write_adapter(tmp_path / "one" / "adapter", config, {})
    with pytest.raises(NotFound, match="is not here") as caught:
        find_base(adapter, tmp_path, [Place("Hugging Face", str(tmp_path))])
    assert len(str(caught.value)) < 300
