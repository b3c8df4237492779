"""Checkpoints become GGUF: the same tensors as llama.cpp's converter makes, whole or not at all."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.convert.job import TYPES, Convert
from engine.convert.rope import llama3_factors
from engine.convert.rules import interleaved
from engine.convert.view import CheckpointView
from engine.errors import AlreadyExists, EngineError, UnsupportedArchitecture, UnsupportedTensor
from engine.floats import from_float32, to_float32
from engine.ggml_types import GgmlType
from engine.gguf import GgufFile
from engine.jobs import Progress, Step, finish
from engine.quantize.shrink import Shrink
from engine.source import open_source
from tests.helpers.checkpoints import (
    misalign,
    random_tensors,
    write_safetensors,
    write_tiny_checkpoint,
)

# Digests of the tensors that llama.cpp's converter (0c1e57098) makes of the shared models; its
# output.weight of TinyStories-656K is counted as the token_embd.weight that it should have been.
REFERENCE = {
    ("TinyStories-656K", "f32"): "98fef15cb56f2348",
    ("TinyStories-656K", "f16"): "a0ab34bdae682fc8",
    ("TinyStories-656K", "bf16"): "6a7e67b0aa503c85",
    ("stories260K-hf", "f32"): "5099cf88251ebd47",
    ("stories260K-hf", "f16"): "9068f850a38f771e",
    ("stories260K-hf", "bf16"): "d06d7130fc3d6820",
    ("measure-7m", "f32"): "3ee0932f855b7985",
    ("measure-7m", "f16"): "536adee57a8ffa0e",
    ("measure-7m", "bf16"): "d4dbf4a7d00c7c0e",
}


def convert(folder: Path, out: Path, float_type: str = "f16") -> GgufFile:
    finish(Convert(str(folder), str(out), float_type).run())
    return GgufFile.open(out)


def tensor(model: GgufFile | CheckpointView, name: str) -> NDArray[np.float32]:
    info = next(t for t in model.tensors if t.name == name)
    return model.rows(info, 0, info.n_rows)


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_data_may_begin_anywhere_in_the_file(tmp_path: Path, dtype: str) -> None:
    """Native code refuses numbers at odd addresses, which C++ leaves undefined."""
    folder = write_tiny_checkpoint(tmp_path / "a", dtype=dtype)

    def made() -> list[bytes]:
        out = tmp_path / "a.gguf"
        jobs = [Convert(str(folder), str(out), t, overwrite=True) for t in TYPES]
        more = [Shrink(str(folder), str(out), r, overwrite=True) for r in ("Q4_K_M", "Q8_0")]
        contents = []
        for job in (*jobs, *more):
            finish(job.run())
            contents.append(out.read_bytes())
        return contents

    aligned = made()
    for n_bytes in (1, 2):
        misalign(folder / "model.safetensors", n_bytes)
        assert made() == aligned


@pytest.mark.parametrize(("model", "float_type"), REFERENCE)
def test_tensors_are_those_of_llama_cpp(
    shared: Path, tmp_path: Path, model: str, float_type: str
) -> None:
    converted = convert(shared / "models" / model, tmp_path / "a.gguf", float_type)
    digest = hashlib.sha256()
    for info in sorted(converted.tensors, key=lambda t: t.name):
        digest.update(f"{info.name} {info.shape} {info.type.name}\n".encode())
        digest.update(converted.raw(info, 0, info.n_rows))
    assert digest.hexdigest()[:16] == REFERENCE[model, float_type]


def test_metadata_is_that_of_llama_cpp(tiny_gguf: Path) -> None:
    model = GgufFile.open(tiny_gguf)
    told = {key: v.value for key, v in model.metadata.items() if not hasattr(v.value, "payload")}
    template = told.pop("tokenizer.chat_template")
    assert "<|im_start|>" in template
    assert told == {
        "general.architecture": "llama",
        "general.type": "model",
        "general.name": "Tiny",
        "general.size_label": "1.3M",
        "llama.block_count": 2,
        "llama.context_length": 512,
        "llama.embedding_length": 256,
        "llama.feed_forward_length": 512,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.rope.freq_base": 10000.0,
        "llama.attention.layer_norm_rms_epsilon": pytest.approx(1e-5),
        "llama.attention.key_length": 64,
        "llama.attention.value_length": 64,
        "llama.vocab_size": 356,
        "llama.rope.dimension_count": 64,
        "general.file_type": 1,
        "general.quantization_version": 2,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "dbrx",
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
    }


def test_shards_give_the_same_file_byte_for_byte(tmp_path: Path) -> None:
    for sharded in (False, True):
        folder = write_tiny_checkpoint(tmp_path / str(sharded) / "Tiny", sharded=sharded)
        convert(folder, tmp_path / f"{sharded}.gguf")
    assert (tmp_path / "True.gguf").read_bytes() == (tmp_path / "False.gguf").read_bytes()


def test_a_checkpoint_is_a_source_in_its_own_type(tmp_path: Path) -> None:
    """What is read from the folder is what the written file holds, in pieces of any size."""
    folder = write_tiny_checkpoint(tmp_path / "a", hidden=64, ffn=96, bias=True, tied=False)
    written = convert(folder, tmp_path / "a.gguf", "bf16")
    source = open_source(folder)
    assert list(source.metadata) == list(written.metadata)
    for view, stored in zip(source.tensors, written.tensors, strict=True):
        assert (view.name, view.shape, view.type) == (stored.name, stored.shape, stored.type)
        assert source.raw(view, 0, view.n_rows) == written.raw(stored, 0, stored.n_rows)
        whole = source.rows(view, 0, view.n_rows)
        assert whole.shape == (view.n_rows, view.n_cols)
        pieces = [source.rows(view, i, min(i + 7, view.n_rows)) for i in range(0, view.n_rows, 7)]
        assert np.array_equal(np.concatenate(pieces), whole)
    source.close()


def test_query_and_key_rows_are_reordered_head_by_head(tmp_path: Path) -> None:
    """Against the definition in llama.cpp's converter, with fewer key heads and with biases."""
    folder = write_tiny_checkpoint(
        tmp_path / "a", hidden=64, ffn=64, n_layers=1, bias=True, dtype="F32"
    )
    view = CheckpointView.open(folder)
    theirs = random_tensors(0, 356, 64, 64, 1, 4, 2, tied=True, bias=True)

    def permuted(name: str, n_heads: int) -> NDArray[np.float32]:
        w = theirs[f"model.layers.0.self_attn.{name}"]
        shape = (n_heads, 2, w.shape[0] // n_heads // 2, *w.shape[1:])
        swapped: NDArray[np.float32] = w.reshape(shape).swapaxes(1, 2).reshape(w.shape)
        return swapped

    assert np.array_equal(tensor(view, "blk.0.attn_q.weight"), permuted("q_proj.weight", 4))
    assert np.array_equal(tensor(view, "blk.0.attn_k.weight"), permuted("k_proj.weight", 2))
    assert np.array_equal(tensor(view, "blk.0.attn_q.bias")[0], permuted("q_proj.bias", 4))
    assert np.array_equal(tensor(view, "blk.0.attn_k.bias")[0], permuted("k_proj.bias", 2))
    v = theirs["model.layers.0.self_attn.v_proj.bias"]
    assert np.array_equal(tensor(view, "blk.0.attn_v.bias")[0], v)


@given(n_heads=st.integers(1, 8), half=st.integers(1, 16))
def test_reordering_loses_no_row(n_heads: int, half: int) -> None:
    order = interleaved(n_heads * half * 2, n_heads).indices()
    assert sorted(order) == list(range(n_heads * half * 2))
    assert list(order[:2]) == [0, half]


def test_tied_embeddings_are_stored_once(tmp_path: Path) -> None:
    tensors = random_tensors(0, 356, 64, 64, 1, 4, 2, tied=True)
    embedding = tensors["model.embed_tokens.weight"]
    folder = write_tiny_checkpoint(tmp_path / "a", hidden=64, ffn=64, n_layers=1, dtype="F32")
    names: list[tuple[str, ...]] = [("model.embed_tokens.weight",), ("lm_head.weight",)]
    names.append(("model.embed_tokens.weight", "lm_head.weight"))
    for stored in names:
        others = {n: t for n, t in tensors.items() if n != "model.embed_tokens.weight"}
        write_safetensors(
            folder / "model.safetensors", {**dict.fromkeys(stored, embedding), **others}
        )
        view = CheckpointView.open(folder)
        assert "output.weight" not in [t.name for t in view.tensors]
        assert np.array_equal(tensor(view, "token_embd.weight"), embedding)


def test_untied_embeddings_stay_apart(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "a", hidden=64, ffn=64, n_layers=1, tied=False)
    view = CheckpointView.open(folder)
    assert not np.array_equal(tensor(view, "token_embd.weight"), tensor(view, "output.weight"))


def test_rows_of_the_embedding_without_a_token_are_named(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "a", hidden=64, ffn=64, n_layers=1, n_pad=3)
    model = convert(folder, tmp_path / "a.gguf")
    assert list(model.get("tokenizer.ggml.tokens"))[-3:] == ["[PAD356]", "[PAD357]", "[PAD358]"]
    assert list(model.get("tokenizer.ggml.token_type"))[-3:] == [5, 5, 5]
    assert model.get("llama.vocab_size") == 359


# Rotary scaling.


def test_llama3_scaling_becomes_a_tensor_of_factors(tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    for config in (
        {"rope_scaling": scaling, "rope_theta": 500000.0},
        {"rope_parameters": {**scaling, "rope_theta": 500000.0}},  # as transformers 5 writes it
    ):
        folder = write_tiny_checkpoint(tmp_path / "a", n_layers=1, **config)
        model = convert(folder, tmp_path / f"{len(config)}.gguf")
        # Of Llama 3.2 1B, as llama.cpp's converter computes them with torch.
        expected = [1.0] * 15 + [1.6513292789459229, 3.2922627925872803, 9.666730880737305]
        expected += [32.0] * 14
        assert tensor(model, "rope_freqs.weight")[0].tolist() == expected
        assert model.get("llama.rope.freq_base") == 500000.0


def test_llama3_factors_of_another_shape() -> None:
    factors = llama3_factors(128, 500000.0, 8.0, 1.0, 4.0, 8192)
    assert factors[28:36].tolist() == [
        1.0, 1.2074838876724243, 1.5534145832061768, 2.026313066482544, 2.6945300102233887,
        3.684253215789795, 5.257327079772949, 8.0,
    ]  # fmt: skip


def test_linear_scaling_becomes_keys(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(
        tmp_path / "a", hidden=64, ffn=64, rope_scaling={"type": "linear", "factor": 4.0}
    )
    model = convert(folder, tmp_path / "a.gguf")
    assert model.get("llama.rope.scaling.type") == "linear"
    assert model.get("llama.rope.scaling.factor") == 4.0


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"rope_scaling": {"type": "wobbly", "factor": 2.0}}, "rope scaling 'wobbly'"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        ({"partial_rotary_factor": 0.5}, "partly rotary"),
    ],
)
def test_what_llama_cpp_would_compute_wrongly_is_refused(
    tmp_path: Path, config: dict[str, Any], told: str
) -> None:
    folder = write_tiny_checkpoint(tmp_path / "a", hidden=64, ffn=64, n_layers=1, **config)
    with pytest.raises(UnsupportedArchitecture, match=told):
        CheckpointView.open(folder)


def test_a_sliding_window_bounds_the_context(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(
        tmp_path / "a",
        hidden=64,
        ffn=64,
        architectures=["MistralForCausalLM"],
        sliding_window=128,
    )
    assert CheckpointView.open(folder).metadata["llama.context_length"].value == 128


# The job.


def test_progress_rises_to_the_total(tiny_checkpoint: Path, tmp_path: Path) -> None:
    steps: list[Step] = []
    job = Convert(str(tiny_checkpoint), str(tmp_path / "a.gguf"), "f32")
    done = finish(job.run(), steps.append)
    told = [s for s in steps if isinstance(s, Progress) and s.stage == "Converting"]
    assert [s.done for s in told] == sorted(s.done for s in told)
    source_bytes = sum(tensor.n_bytes for tensor in open_source(tiny_checkpoint).tensors)
    assert told[-1].done == told[-1].total == source_bytes
    assert done.size_bytes == Path(done.path).stat().st_size
    assert (done.type, done.n_tensors) == ("F32", 20)


def test_cancel_leaves_nothing(tiny_checkpoint: Path, tmp_path: Path) -> None:
    steps = Convert(str(tiny_checkpoint), str(tmp_path / "a.gguf")).run()
    while not list(tmp_path.iterdir()):
        next(steps)
    steps.close()
    assert not list(tmp_path.iterdir())


def test_a_damaged_generation_config_is_left_out(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "Tiny", n_layers=1)
    (folder / "generation_config.json").write_text('{"temperature": 0.6, "eos_tok')
    assert convert(folder, tmp_path / "a.gguf").tensors


def test_an_existing_output_is_kept(tiny_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"mine")
    with pytest.raises(AlreadyExists):
        convert(tiny_checkpoint, tmp_path / "a.gguf")
    assert (tmp_path / "a.gguf").read_bytes() == b"mine"
    finish(Convert(str(tiny_checkpoint), str(tmp_path / "a.gguf"), overwrite=True).run())
    assert GgufFile.open(tmp_path / "a.gguf").tensors


def test_numbers_too_large_for_f16_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "a", hidden=64, ffn=64, n_layers=1)
    tensors = random_tensors(0, 356, 64, 64, 1, 4, 2, tied=True)
    tensors["model.layers.0.mlp.up_proj.weight"][3, 5] = 1e6
    write_safetensors(folder / "model.safetensors", tensors, "BF16")
    (tmp_path / "out").mkdir()
    with pytest.raises(UnsupportedTensor, match=r"blk\.0\.ffn_up\.weight holds numbers") as caught:
        convert(folder, tmp_path / "out" / "a.gguf", "f16")
    assert "BF16" in caught.value.hint
    assert not list((tmp_path / "out").iterdir())
    assert convert(folder, tmp_path / "out" / "a.gguf", "bf16").tensors


@pytest.mark.parametrize("float_type", ["f32", "f16", "bf16"])
def test_what_is_no_number_is_passed_on(tmp_path: Path, float_type: str) -> None:
    folder = write_tiny_checkpoint(tmp_path / "a", hidden=64, ffn=64, n_layers=1)
    tensors = random_tensors(0, 356, 64, 64, 1, 4, 2, tied=True)
    odd = [np.nan, np.inf, -np.inf]
    tensors["model.layers.0.mlp.up_proj.weight"][3, :3] = odd
    write_safetensors(folder / "model.safetensors", tensors, "BF16")
    rows = tensor(convert(folder, tmp_path / "a.gguf", float_type), "blk.0.ffn_up.weight")
    assert np.array_equal(rows[3, :3], np.array(odd, np.float32), equal_nan=True)
    assert np.isfinite(rows[3, 3:]).all()


def test_an_unknown_type_is_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot be converted to q4"):
        convert(tiny_checkpoint, tmp_path / "a.gguf", "q4")


def test_the_job_survives_the_wire() -> None:
    import msgspec

    job = Convert("/a", "/b.gguf", "bf16", overwrite=True)
    assert msgspec.json.decode(msgspec.json.encode(job), type=Convert) == job
    assert json.loads(msgspec.json.encode(job))["type"] == "Convert"


# Floats.

SPECIAL_FLOATS = [0.0, -0.0, float("inf"), float("-inf"), float("nan"), 1e-40, 3.4e38, 65504, 65520]


@settings(max_examples=50)
@given(st.lists(st.floats(width=32) | st.sampled_from(SPECIAL_FLOATS), min_size=1, max_size=50))
def test_bf16_rounds_to_nearest_even(numbers: list[float]) -> None:
    values = np.array(numbers, np.float32)
    stored = from_float32(values, GgmlType.BF16)
    back = to_float32(stored.tobytes(), GgmlType.BF16)
    assert np.array_equal(np.isnan(back), np.isnan(values))
    for value, near in zip(values.tolist(), back.tolist(), strict=True):
        if not np.isfinite(value):
            continue
        bits = int(np.float32(value).view(np.uint32))
        low, high = bits & 0xFFFF0000, (bits & 0xFFFF0000) + 0x10000
        distance = (bits - low, high - bits)
        even = low if (low >> 16) % 2 == 0 else high
        nearest = even if distance[0] == distance[1] else (low, high)[distance[0] > distance[1]]
        assert int(np.float32(near).view(np.uint32)) == nearest


def test_every_bf16_and_f16_comes_back() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    for stored in (GgmlType.BF16, GgmlType.F16):
        values = to_float32(bits.tobytes(), stored)
        again = from_float32(values, stored).view(np.uint16)
        same = again == bits
        assert same[~np.isnan(values)].all()
        assert np.isnan(to_float32(again.tobytes(), stored)[np.isnan(values)]).all()
