"""Whole packed checkpoints become GGUFs that llama.cpp computes the same with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.checkpoint import Checkpoint, read_safetensors_header
from engine.convert.job import Convert
from engine.convert.packed import weights_of
from engine.convert.view import CheckpointView, read_layout
from engine.floats import from_float32, to_float32
from engine.ggml_types import FileType, GgmlType
from engine.gguf import GgufFile
from engine.gguf_values import TensorInfo
from engine.inspect import describe
from engine.jobs import finish
from engine.llama.evaluate import Evaluator
from engine.llama.ggml import dequantize_rows
from engine.model_writer import Plan, write_model
from engine.quantize.recommend import Recommend
from engine.quantize.shrink import Shrink
from tests.helpers import packed
from tests.helpers.checkpoints import (
    random_tensors,
    vocabulary,
    write_safetensors,
    write_tiny_checkpoint,
)
from tests.helpers.packed import Floats, Packed, affine, stored, write_packed

SIZES = (256, 512, 2, 4, 2)  # of random_tensors; write_tiny_checkpoint has the same
GROUP = 64


def gptq(w: Floats) -> Packed:
    scales, zeros, codes = symmetric(w, 4)
    return packed.gptq(codes, scales, zeros, 4)


def gptq_8(w: Floats) -> Packed:
    scales, zeros, codes = symmetric(w, 8)
    return packed.gptq(codes, scales, zeros, 8)


def awq(w: Floats) -> Packed:
    groups = w.reshape(len(w), -1, GROUP)
    low, high = groups.min(-1), groups.max(-1)
    scales = ((high - low) / 15).astype("<f2")
    zeros = np.clip(np.round(-low / scales), 0, 15).astype(int)
    codes = np.clip(np.round(groups / scales[..., None]) + zeros[..., None], 0, 15)
    return packed.awq(codes.astype(int).reshape(w.shape), scales, zeros)


def nvfp4(w: Floats) -> Packed:
    factor = np.float32(np.abs(w).max() / (6 * 448))
    scales = np.full((len(w), w.shape[1] // 16), 0x7E, np.uint8)  # 448, the largest one
    magnitudes = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    steps = w / (factor * 448)
    codes = np.abs(np.abs(steps)[..., None] - magnitudes).argmin(-1) + 8 * (steps < 0)
    return {
        "weight": stored(packed.nibbles(codes)),
        "weight_scale": stored(scales, "F8_E4M3"),
        "weight_scale_2": stored(np.array(factor, "<f4")),
    }


def symmetric(w: Floats, n_bits: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    middle = 1 << (n_bits - 1)
    groups = w.reshape(len(w), -1, GROUP)
    scales = (np.abs(groups).max(-1) / (middle - 1)).astype("<f2")
    codes = np.clip(np.round(groups / scales[..., None]) + middle, 0, 2 * middle - 1)
    return scales, np.full(scales.shape, middle), codes.astype(int).reshape(w.shape)


Pack = Callable[[Floats], Packed]
CASES: dict[str, tuple[Pack, dict[str, Any], GgmlType]] = {
    "gptq": (gptq, {"bits": 4, "group_size": GROUP, "sym": True}, GgmlType.Q4_0),
    "gptq_8": (gptq_8, {"bits": 8, "group_size": GROUP, "sym": True}, GgmlType.Q8_0),
    "awq": (awq, {"bits": 4, "group_size": GROUP, "version": "gemm"}, GgmlType.Q4_1),
    "modelopt": (nvfp4, {"quant_algo": "NVFP4"}, GgmlType.NVFP4),
}


def write_checkpoint(folder: Path, case: str, **config: Any) -> Path:
    """A tiny Llama whose linear layers are packed; the rest is F16."""
    pack, told, _ = CASES[case]
    write_tiny_checkpoint(folder, **config)
    theirs = random_tensors(0, len(vocabulary()[0]), *SIZES, tied=True)
    tensors: Packed = {}
    for name, values in theirs.items():
        module = name.removesuffix(".weight")
        if name.endswith("_proj.weight"):
            tensors |= {f"{module}.{end}": content for end, content in pack(values).items()}
        else:
            tensors[name] = stored(values.astype("<f2"))
    settings = json.loads((folder / "config.json").read_text())
    settings["quantization_config"] = {"quant_method": case.removesuffix("_8"), **told}
    return write_packed(folder, tensors, settings)


def logits(path: Path) -> Floats:
    evaluator = finish(Evaluator.load(path, 32, n_threads=1))
    try:
        found = evaluator.logits(list(range(100, 132)))
        assert found is not None
        return found.copy()
    finally:
        evaluator.close()


@pytest.mark.parametrize("case", CASES)
def test_a_packed_model_computes_what_it_did(tmp_path: Path, case: str) -> None:
    folder = write_checkpoint(tmp_path / case, case)
    finish(Convert(str(folder), str(tmp_path / "packed.gguf")).run())
    converted = GgufFile.open(tmp_path / "packed.gguf")
    types = {tensor.name: tensor.type for tensor in converted.tensors}
    wanted = CASES[case][2]
    assert types["blk.0.attn_q.weight"] is types["blk.1.ffn_down.weight"] is wanted
    assert types["token_embd.weight"] is GgmlType.F16
    assert converted.metadata["general.file_type"].value == FileType[wanted.name]
    # The reference: the same weights, decoded to F32 and written as a plain checkpoint's.
    reference = write_decoded(folder, tmp_path / "decoded.gguf")
    theirs, ours = logits(reference), logits(tmp_path / "packed.gguf")
    # llama.cpp rounds what it multiplies with packed weights to 8 bits.
    assert np.std(ours - theirs) < 0.05 * np.std(theirs)
    assert describe(folder).quantized


def write_decoded(folder: Path, out: Path) -> Path:
    source = CheckpointView.open(folder)
    kept = tuple(t for t in source.tensors if not t.name.endswith(".scale"))
    tensors = tuple(TensorInfo(t.name, t.shape, GgmlType.F32) for t in kept)
    plan = Plan(dict(source.metadata), tensors, kept, only_finite=True)
    finish(write_model(source, plan, str(out), "Decoding"))
    source.close()
    return out


def test_the_factor_of_nvfp4_lies_beside_the_tensor(tmp_path: Path) -> None:
    view = CheckpointView.open(write_checkpoint(tmp_path / "a", "modelopt"))
    names = [tensor.name for tensor in view.tensors]
    assert names.index("blk.0.attn_q.scale") == names.index("blk.0.attn_q.weight") + 1
    scale = next(t for t in view.tensors if t.name == "blk.0.ffn_up.scale")
    weights = random_tensors(0, len(vocabulary()[0]), *SIZES, tied=True)
    largest = np.abs(weights["model.layers.0.mlp.up_proj.weight"]).max()
    assert view.rows(scale, 0, 1) == pytest.approx(largest / (6 * 448), rel=1e-6)
    assert scale.type is GgmlType.F32


def test_where_llama_cpp_would_ignore_the_factor_values_are_decoded(tmp_path: Path) -> None:
    folder = write_checkpoint(
        tmp_path / "a", "modelopt", architectures=["Qwen2ForCausalLM"], model_type="qwen2"
    )
    view = CheckpointView.open(folder)
    assert not [t.name for t in view.tensors if t.name.endswith(".scale")]
    assert not [t.name for t in view.tensors if t.type is GgmlType.NVFP4]


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
def test_what_was_unpacked_since_is_packed_again(tmp_path: Path, dtype: str) -> None:
    """A checkpoint of 16 bits whose linear layers came from GPTQ."""
    folder = write_tiny_checkpoint(tmp_path / "a", dtype=dtype)
    theirs = random_tensors(0, len(vocabulary()[0]), *SIZES, tied=True)
    for name, values in theirs.items():
        if name.endswith("_proj.weight"):
            scales, zeros, codes = symmetric(values, 4)
            theirs[name] = affine(codes, scales, zeros, np.arange(values.shape[1]) // GROUP)
    write_safetensors(folder / "model.safetensors", theirs, dtype)
    finish(Convert(str(folder), str(tmp_path / "a.gguf")).run())
    converted = GgufFile.open(tmp_path / "a.gguf")
    assert converted.metadata["general.file_type"].value == FileType.Q4_0
    view = CheckpointView.open(folder)
    n_moved = 0
    for tensor, plain in zip(converted.tensors, view.tensors, strict=True):
        if tensor.type is GgmlType.Q4_0:
            n_moved += 1
            raw = np.frombuffer(converted.raw(tensor, 0, tensor.n_rows), np.uint8)
            moved = dequantize_rows(tensor.type, raw.reshape(tensor.n_rows, -1))
            stored_type = GgmlType[dtype]
            again = from_float32(moved.reshape(-1), stored_type).tobytes()
            rows = view.rows(plain, 0, plain.n_rows)
            assert np.array_equal(to_float32(again, stored_type), rows.reshape(-1))
    assert n_moved == 2 * 7
    finish(Convert(str(folder), str(tmp_path / "b.gguf"), "f16").run())
    assert not any(t.type.is_quantized for t in GgufFile.open(tmp_path / "b.gguf").tensors)
    finish(Shrink(str(folder), str(tmp_path / "c.gguf"), "Q8_0").run())
    shrunk = [tensor.type for tensor in GgufFile.open(tmp_path / "c.gguf").tensors]
    assert shrunk.count(GgmlType.Q4_0) == 2 * 7
    advice = finish(Recommend(str(folder)).run())
    told = next(choice.size_bytes for choice in advice.choices if choice.recipe == "Q8_0")
    assert told == (tmp_path / "c.gguf").stat().st_size


def test_the_experts_of_gpt_oss_are_moved(shared: Path, tmp_path: Path) -> None:
    source = shared / "fixtures" / "architectures" / "tiny_gpt_oss"
    config = json.loads(source.with_name("tiny_gpt_oss_config.json").read_text())
    rng = np.random.default_rng(0)
    tensors: Packed = {}
    for stored_tensor in read_safetensors_header(source.with_suffix(".safetensors")):
        name, shape = stored_tensor.name, stored_tensor.shape
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            # A plain one is stored with columns first.
            n_experts, n_cols, n_rows = shape
            blocks = rng.integers(0, 256, (n_experts, n_rows, n_cols // 32, 16), dtype=np.uint8)
            tensors[f"{name}_blocks"] = stored(blocks)
            scales = rng.integers(120, 126, blocks.shape[:3], dtype=np.uint8)
            tensors[f"{name}_scales"] = stored(scales)
        else:
            tensors[name] = stored(np.zeros(shape, "<f4"))
    config["quantization_config"] = {"quant_method": "mxfp4"}
    folder = write_packed(tmp_path, tensors, config)
    checkpoint = Checkpoint.open(folder)
    layout = {tensor.name: tensor for tensor in read_layout(checkpoint).tensors}
    packed_experts = weights_of(checkpoint)["model.layers.1.mlp.experts.gate_up_proj"]
    n_experts, n_rows, n_cols = packed_experts.shape
    decoded = packed_experts.rows(0, n_experts * n_rows).reshape(packed_experts.shape)
    for first, ours in enumerate(("ffn_gate_exps", "ffn_up_exps")):
        moved = layout[f"blk.1.{ours}.weight"]
        assert moved.type is GgmlType.MXFP4
        assert moved.shape == (n_experts, n_rows // 2, n_cols)
        values = dequantize_rows(GgmlType.MXFP4, moved.raw(0, n_experts * n_rows // 2))
        assert np.array_equal(values.reshape(moved.shape), decoded[:, first::2])
    assert layout["blk.0.ffn_down_exps.weight"].type is GgmlType.MXFP4


@pytest.mark.parametrize(("recipe", "expected"), [("Q8_0", "Q4_0"), ("Q3_K_M", "Q3_K")])
def test_shrinking_keeps_packed_bits_unless_it_makes_them_fewer(
    tmp_path: Path, recipe: str, expected: str
) -> None:
    folder = write_checkpoint(tmp_path / "Tiny", "gptq")
    view = CheckpointView.open(folder)
    finish(Shrink(str(folder), str(tmp_path / "a.gguf"), recipe).run())
    shrunk = GgufFile.open(tmp_path / "a.gguf")
    after = {tensor.name: tensor for tensor in shrunk.tensors}
    gate = "blk.0.ffn_gate.weight"
    before = next(tensor for tensor in view.tensors if tensor.name == gate)
    assert after[gate].type.name == expected
    if expected == "Q4_0":
        kept = shrunk.raw(after[gate], 0, before.n_rows)
        assert kept == view.raw(before, 0, before.n_rows)


def test_shrinking_nvfp4_takes_its_factors_into_the_numbers(tmp_path: Path) -> None:
    """As if it had been plain; where the bits are kept, so are the factors."""
    folder = write_checkpoint(tmp_path / "Tiny", "modelopt")
    decoded = write_decoded(folder, tmp_path / "decoded.gguf")
    for name, source in (("ours", folder), ("expected", decoded)):
        finish(Shrink(str(source), str(tmp_path / f"{name}.gguf"), "Q3_K_M").run())
    ours = GgufFile.open(tmp_path / "ours.gguf")
    expected = GgufFile.open(tmp_path / "expected.gguf")
    theirs = {tensor.name: tensor for tensor in expected.tensors}
    types = {tensor.name: tensor.type for tensor in ours.tensors}
    assert {GgmlType.Q3_K, GgmlType.NVFP4} <= set(types.values())
    for tensor in ours.tensors:
        weight = tensor.name.replace(".scale", ".weight")
        if types[weight] is GgmlType.NVFP4:
            assert weight.replace(".weight", ".scale") in types
            continue
        assert weight == tensor.name
        assert tensor.type is theirs[weight].type
        same = expected.raw(theirs[weight], 0, tensor.n_rows)
        assert ours.raw(tensor, 0, tensor.n_rows) == same
