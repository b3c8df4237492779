"""Adapters are merged into a checkpoint as it is read; PEFT says what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.checkpoint import Checkpoint
from engine.convert.job import Convert
from engine.convert.lora.choice import Lora
from engine.convert.lora.merge import merge, open_adapters
from engine.convert.view import CheckpointView
from engine.convert.weights import StoredWeight, Weight
from engine.errors import CorruptFile, EngineError, UnsupportedArchitecture, UnsupportedTensor
from engine.gguf import GgufFile
from engine.jobs import finish
from engine.quantize.shrink import Shrink
from engine.source import open_source
from tests.engine.test_packed_models import CASES as PACKED
from tests.engine.test_packed_models import write_checkpoint as write_packed_checkpoint
from tests.helpers.adapters import (
    BASES,
    adapter_tensors,
    base_tensors,
    even_numbers,
    load_cases,
    measured,
    write_adapter,
    write_base,
    write_case,
)
from tests.helpers.checkpoints import Tensors, vocabulary, write_json, write_tokenizer

CASES = {name: case for name, case in load_cases().items() if case.merged}
Q_PROJ = "model.layers.0.self_attn.q_proj"
EMBEDDING, OUTPUT = "model.embed_tokens.weight", "lm_head.weight"
PLAIN: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 3}


def merged(
    base: Path, adapters: Sequence[Lora], architecture: str = "llama"
) -> Mapping[str, Weight]:
    checkpoint = Checkpoint.open(base)
    weights = {name: StoredWeight(checkpoint, t) for name, t in checkpoint.tensors.items()}
    return merge(checkpoint.config, weights, open_adapters(adapters), architecture)[1]


def whole(weight: Weight) -> NDArray[np.float32]:
    return weight.rows(0, weight.shape[0] if len(weight.shape) > 1 else 1)


def tensor(model: Any, name: str) -> NDArray[np.float32]:
    info = next(t for t in model.tensors if t.name == name)
    rows: NDArray[np.float32] = model.rows(info, 0, info.n_rows)
    return rows


def pair(module: str, n_out: int = 32, n_in: int = 32, r: int = 2) -> Tensors:
    """A and B of a linear layer."""
    shapes = {f"{module}.lora_A.weight": (r, n_in), f"{module}.lora_B.weight": (n_out, r)}
    return {name: even_numbers(name, shape, 0.3) for name, shape in shapes.items()}


def product(tensors: Tensors, module: str) -> NDArray[np.float32]:
    b, a = tensors[f"{module}.lora_B.weight"], tensors[f"{module}.lora_A.weight"]
    return np.asarray(b, np.float32) @ np.asarray(a, np.float32)


@pytest.mark.parametrize("name", CASES)
def test_merged_weights_are_those_of_peft(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    base, adapter = write_case(tmp_path, case)
    originals = base_tensors(BASES[case.base])
    n_compared = 0
    for tensor_name, weight in merged(base, [Lora(str(adapter))]).items():
        ours = whole(weight)
        if tensor_name in case.merged:
            theirs = case.merged[tensor_name]
            mine = measured(ours)
            largest = float(np.abs(ours).max())
            assert mine.total == pytest.approx(theirs.total, rel=1e-6)
            assert np.abs(np.subtract(mine.sample, theirs.sample)).max() < 4e-7 * largest
            n_compared += 1
        else:
            original = originals.get(tensor_name, originals[EMBEDDING])
            assert np.array_equal(ours.reshape(-1), original.reshape(-1))
    assert n_compared == len(case.merged)


def test_any_rows_are_those_of_the_whole(tmp_path: Path) -> None:
    for name in ("lora", "dora", "tied-embedding"):
        base, adapter = write_case(tmp_path / name, CASES[name])
        for weight in merged(base, [Lora(str(adapter))]).values():
            n_rows = weight.shape[0] if len(weight.shape) > 1 else 1
            pieces = [weight.rows(i, min(i + 7, n_rows)) for i in range(0, n_rows, 7)]
            assert np.allclose(np.concatenate(pieces), whole(weight), rtol=1e-6, atol=1e-7)
            raw = weight.raw(0, n_rows)
            assert raw.shape == (n_rows, weight.type.row_bytes(weight.shape[-1]))


def test_the_view_has_the_merged_rows_in_the_order_of_a_gguf(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "llama")
    tensors = pair(f"base_model.model.{Q_PROJ}")
    adapter = write_adapter(tmp_path / "adapter", PLAIN, tensors)
    model, plain = open_source(base, [Lora(str(adapter))]), open_source(base)
    delta = 1.5 * product(tensors, f"base_model.model.{Q_PROJ}")
    interleaved = delta.reshape(4, 2, 4, 32).swapaxes(1, 2).reshape(32, 32)
    name = "blk.0.attn_q.weight"
    assert np.allclose(tensor(model, name), tensor(plain, name) + interleaved, atol=1e-6)
    changed = [
        info.name for info in plain.tensors
        if not np.array_equal(tensor(model, info.name), tensor(plain, info.name))
    ]  # fmt: skip
    assert changed == [name]
    assert model.metadata["general.name"].value == "Base + adapter"


def test_adapters_add_up_by_their_strengths(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "llama")
    original = base_tensors(BASES["llama"])[f"{Q_PROJ}.weight"]
    first, second = pair(Q_PROJ), pair(Q_PROJ, r=5)
    adapters = [
        Lora(str(write_adapter(tmp_path / "1", PLAIN, first)), 0.5),
        Lora(str(write_adapter(tmp_path / "2", {**PLAIN, "r": 5}, second)), -2.0),
    ]
    expected = original + 0.75 * product(first, Q_PROJ) - 1.2 * product(second, Q_PROJ)
    assert np.allclose(whole(merged(base, adapters)[f"{Q_PROJ}.weight"]), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["modules", "dora"])
def test_what_replaces_counts_whole_and_alone(tmp_path: Path, name: str) -> None:
    base, adapter = write_case(tmp_path, CASES[name])
    with pytest.raises(UnsupportedTensor, match=r"counts as a whole, and not by 0\.5"):
        merged(base, [Lora(str(adapter), 0.5)])
    other = write_adapter(tmp_path / "other", PLAIN, pair("lm_head", n_out=len(vocabulary()[0])))
    for both in ([adapter, other], [other, adapter]):
        with pytest.raises(UnsupportedTensor, match="another adapter changes too"):
            merged(base, [Lora(str(folder)) for folder in both])


def test_an_untouched_copy_of_the_base_is_no_replacement(tmp_path: Path) -> None:
    """PEFT saves embeddings whole beside what it adds to them."""
    base, adapter = write_case(tmp_path, CASES["embeddings"])
    half = merged(base, [Lora(str(adapter), 0.5), Lora(str(adapter), 0.5)])
    full = merged(base, [Lora(str(adapter))])
    assert np.allclose(whole(half[EMBEDDING]), whole(full[EMBEDDING]), atol=1e-6)


def test_strengths_are_numbers(tmp_path: Path) -> None:
    base, adapter = write_case(tmp_path, CASES["lora"])
    with pytest.raises(EngineError, match="has to be a number"):
        open_source(base, [Lora(str(adapter), float("nan"))])


@pytest.mark.parametrize(
    "name",
    [
        f"base_model.model.{Q_PROJ}.{{}}.weight",
        f"base_model.model.{Q_PROJ}.{{}}.default.weight",
        f"base_model.model.{Q_PROJ}.{{}}.my-adapter.weight",
        f"base_model.model._orig_mod.{Q_PROJ}.{{}}.weight",
        f"{Q_PROJ}.{{}}.weight",
    ],
)
def test_names_of_other_versions_and_trainers(tmp_path: Path, name: str) -> None:
    base = write_base(tmp_path / "base", "llama")
    tensors = pair(Q_PROJ)
    a, b = tensors.values()
    renamed = {name.format("lora_A"): a, name.format("lora_B"): b}
    adapter = write_adapter(tmp_path / "adapter", PLAIN, renamed)
    original = base_tensors(BASES["llama"])[f"{Q_PROJ}.weight"]
    ours = whole(merged(base, [Lora(str(adapter))])[f"{Q_PROJ}.weight"])
    assert np.allclose(ours, original + 1.5 * product(tensors, Q_PROJ), atol=1e-6)


def test_names_in_a_model_that_can_also_see(tmp_path: Path) -> None:
    """Its language model has the names of one for text; what changes the tower is left out."""
    config = {"text_config": {}, **BASES["llama"]}
    base = write_base(tmp_path / "base", "llama", text_config={})
    stem = "base_model.model.model.language_model.layers.0.self_attn.q_proj"
    tower = "base_model.model.model.vision_tower.blocks.0.proj"
    adapter = write_adapter(tmp_path / "adapter", PLAIN, pair(stem) | pair(tower))
    changed = whole(merged(base, [Lora(str(adapter))])[f"{Q_PROJ}.weight"])
    assert not np.allclose(changed, base_tensors(config)[f"{Q_PROJ}.weight"])


def test_a_layer_that_is_stored_transposed(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "llama")
    name = "model.layers.0.mlp.up_proj"  # [48, 32]; of a Conv1D that is [in, out]
    tensors = pair(name, n_out=32, n_in=48)
    adapter = write_adapter(tmp_path / "adapter", {**PLAIN, "fan_in_fan_out": True}, tensors)
    original = base_tensors(BASES["llama"])[f"{name}.weight"]
    ours = whole(merged(base, [Lora(str(adapter))])[f"{name}.weight"])
    assert np.allclose(ours, original + 1.5 * product(tensors, name).T, atol=1e-6)


@pytest.mark.parametrize("case", PACKED)
def test_a_packed_base_is_decoded_only_where_it_is_changed(tmp_path: Path, case: str) -> None:
    base = write_packed_checkpoint(tmp_path / "base", case)
    name = "model.layers.0.mlp.up_proj"
    tensors = pair(name, n_out=512, n_in=256)
    adapter = write_adapter(tmp_path / "adapter", PLAIN, tensors)
    plain, model = open_source(base), open_source(base, [Lora(str(adapter))])
    types = {info.name: info.type.name for info in plain.tensors}
    changed = "blk.0.ffn_up.weight"
    delta = 1.5 * product(tensors, name)
    assert np.allclose(tensor(model, changed), tensor(plain, changed) + delta, atol=1e-6)
    expected = {key: "F32" if key == changed else kind for key, kind in types.items()}
    expected.pop("blk.0.ffn_up.scale", None)
    assert types[changed] != "F32"
    assert {info.name: info.type.name for info in model.tensors} == expected


# One matrix for both ends.


def test_an_adapter_of_one_end_makes_two_matrices(tmp_path: Path) -> None:
    for name, same, other in (
        ("tied-embedding", "output.weight", "token_embd.weight"),
        ("tied-output", "token_embd.weight", "output.weight"),
    ):
        base, adapter = write_case(tmp_path / name, CASES[name])
        finish(Convert(str(base), str(tmp_path / f"{name}.gguf"), "f32",
                       loras=(Lora(str(adapter)),)).run())  # fmt: skip
        model = GgufFile.open(tmp_path / f"{name}.gguf")
        original = base_tensors(BASES["llama-tied"])[EMBEDDING]
        assert np.array_equal(tensor(model, same), original)
        assert not np.allclose(tensor(model, other), original)


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
def test_both_ends_changed_alike_stay_one_matrix(tmp_path: Path, dtype: str) -> None:
    """As PEFT's ensure_weight_tying has it; also where the vocabulary was made larger."""
    base = write_base(tmp_path / "base", "llama-tied")
    n_vocab = len(vocabulary()[0])
    head = pair("lm_head", n_out=n_vocab)
    a, b = head["lm_head.lora_A.weight"], head["lm_head.lora_B.weight"]
    both = head | {
        "model.embed_tokens.lora_embedding_A": np.ascontiguousarray(b.T),
        "model.embed_tokens.lora_embedding_B": np.ascontiguousarray(a.T),
    }
    larger = even_numbers("larger", (n_vocab + 4, 32), 0.5)
    grown = {**pair(Q_PROJ), EMBEDDING: larger, OUTPUT: larger}
    for name, tensors, n_rows in (("both", both, n_vocab), ("grown", grown, n_vocab + 4)):
        adapter = write_adapter(tmp_path / name, PLAIN, tensors, dtype)
        model = open_source(base, [Lora(str(adapter))])
        assert "output.weight" not in [t.name for t in model.tensors]
        assert tensor(model, "token_embd.weight").shape == (n_rows, 32)


def test_two_matrices_are_refused_where_llama_cpp_has_one(tmp_path: Path) -> None:
    config = {
        **BASES["llama-tied"], "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2",
        "head_dim": 8, "query_pre_attn_scalar": 8, "hidden_act": "gelu_pytorch_tanh",
    }  # fmt: skip
    base = write_base(tmp_path / "base", "llama-tied", **config)
    adapter = write_adapter(
        tmp_path / "adapter", PLAIN, pair("lm_head", n_out=len(vocabulary()[0]))
    )
    with pytest.raises(UnsupportedArchitecture, match=r"llama\.cpp runs gemma2 with one only"):
        open_source(base, [Lora(str(adapter))])


# What else an adapter brings.


def test_new_tokens_come_with_the_adapter(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "llama")
    tokens, merges = vocabulary()
    n_vocab = len(tokens) + 2
    grown = {
        name: even_numbers(name, (n_vocab, 32), 0.5) for name in (EMBEDDING, OUTPUT)
    } | pair(Q_PROJ)  # fmt: skip
    adapter = write_adapter(tmp_path / "adapter", PLAIN, grown)
    write_tokenizer(adapter, [*tokens, "<|new|>", "<|newer|>"], merges, "{{ 'its own' }}")
    model = open_source(base, [Lora(str(adapter))])
    assert list(model.metadata["tokenizer.ggml.tokens"].value)[-2:] == ["<|new|>", "<|newer|>"]
    assert model.metadata["tokenizer.chat_template"].value == "{{ 'its own' }}"


def test_a_chat_template_comes_with_the_adapter(tmp_path: Path) -> None:
    base, adapter = write_case(tmp_path, CASES["bf16"])
    write_json(adapter / "tokenizer_config.json", {"chat_template": "{{ 'trained with' }}"})
    model = open_source(base, [Lora(str(adapter))])
    assert model.metadata["tokenizer.chat_template"].value == "{{ 'trained with' }}"
    assert len(model.metadata["tokenizer.ggml.tokens"].value) == len(vocabulary()[0])


# Jobs.


def test_a_merged_model_is_shrunk_without_a_file_between(tmp_path: Path) -> None:
    base, adapter = write_case(tmp_path, CASES["lora"])
    loras = (Lora(str(adapter)),)
    finish(Shrink(str(base), str(tmp_path / "small.gguf"), "Q8_0", loras=loras).run())
    finish(Convert(str(base), str(tmp_path / "large.gguf"), "f32", loras=loras).run())
    small, large = (GgufFile.open(tmp_path / f"{name}.gguf") for name in ("small", "large"))
    assert small.get("general.name") == "Base + adapter"
    from engine.llama.ggml import dequantize_rows

    info = next(t for t in small.tensors if t.name == "blk.0.attn_q.weight")
    assert info.type.name == "Q8_0"
    quantized = np.frombuffer(small.raw(info, 0, info.n_rows), np.uint8)
    rows = dequantize_rows(info.type, quantized.reshape(info.n_rows, -1))
    assert np.abs(rows - tensor(large, info.name)).max() < 0.01


def test_numbers_beyond_all_bounds_are_told(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", "llama")
    huge = {name: values * np.float32(1e30) for name, values in pair(Q_PROJ).items()}
    adapter = write_adapter(tmp_path / "adapter", PLAIN, huge)
    job = Shrink(str(base), str(tmp_path / "a.gguf"), "Q8_0", loras=(Lora(str(adapter)),))
    with pytest.raises(CorruptFile, match=r"attn_q\.weight holds numbers that are infinite"):
        finish(job.run())


def test_an_adapter_is_no_place_for_the_result(tmp_path: Path) -> None:
    base, adapter = write_case(tmp_path, CASES["lora"])
    loras = (Lora(str(adapter)),)
    out = adapter / "adapter_model.safetensors"
    before = out.read_bytes()
    for job in (
        Convert(str(base), str(out), overwrite=True, loras=loras),
        Shrink(str(base), str(out), "Q8_0", overwrite=True, loras=loras),
    ):
        with pytest.raises(EngineError, match="cannot replace the model it is made from"):
            finish(job.run())
    assert out.read_bytes() == before


def test_nothing_is_merged_into_a_gguf(tmp_path: Path, tiny_gguf: Path) -> None:
    with pytest.raises(EngineError, match="into a checkpoint only"):
        open_source(tiny_gguf, [Lora(str(tmp_path))])


def test_an_adapter_alone_is_told_from_a_model(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", PLAIN, pair(Q_PROJ))
    with pytest.raises(EngineError, match="holds a LoRA adapter") as caught:
        CheckpointView.open(adapter)
    assert "--lora" in caught.value.hint
    with pytest.raises(EngineError, match="is no LoRA adapter"):
        open_source(write_base(tmp_path / "base", "llama"), [Lora(str(tmp_path))])
    assert adapter_tensors({}, "llama") == {}
