"""Packed weights: decoded bit for bit as their authors do, moved into blocks that hold the same."""

from __future__ import annotations

import hashlib
import json
import struct
import tempfile
import zipfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.checkpoint import Checkpoint
from engine.convert.packed import weights_of
from engine.convert.weights import Weight
from engine.errors import CorruptFile
from engine.ggml_types import GgmlType
from engine.llama.ggml import dequantize_rows, is_valid
from tests.helpers import packed
from tests.helpers.checkpoints import misalign, write_json
from tests.helpers.packed import Packed, affine, bf16, stored, write_packed

RECORDED = Path(__file__).parent / "data" / "packed.zip"
NAME = "model.layers.0.mlp.up_proj.weight"

# Case -> the type that holds it, and how far a moved weight may be off, in parts of the largest one
# of the tensor; a half has 11 bits. Others are decoded, to F32.
HALF = 2.0**-11
MOVED = {
    "awq": (GgmlType.Q4_1, 2 * HALF),
    "bitnet_autobitlinear": (GgmlType.TQ2_0, 0.0),
    "bitnet_bitlinear": (GgmlType.TQ2_0, HALF),
    "ct_int_8": (GgmlType.Q8_0, 0.0),
    "ct_mxfp4": (GgmlType.MXFP4, 0.0),
    "ct_nvfp4": (GgmlType.NVFP4, 2.0**-23),
    "ct_pack_3": (GgmlType.Q4_0, 0.0),
    "ct_pack_4": (GgmlType.Q4_0, 0.0),
    "ct_pack_4_asymmetric": (GgmlType.Q4_1, 2 * HALF),
    "ct_pack_8": (GgmlType.Q8_0, 0.0),
    "gptq_2": (GgmlType.Q4_0, 0.0),
    "gptq_3": (GgmlType.Q4_0, 0.0),
    "gptq_4": (GgmlType.Q4_0, 0.0),
    "gptq_4_asymmetric": (GgmlType.Q4_1, 2 * HALF),
    "gptq_8": (GgmlType.Q8_0, 0.0),
    "hqq_2_axis1": (GgmlType.Q4_1, 2 * HALF),
    "hqq_4_axis1": (GgmlType.Q4_1, 2 * HALF),
    "int8": (GgmlType.Q8_0, HALF),
    "modelopt_nvfp4": (GgmlType.NVFP4, 2.0**-23),
}


def open_weight(folder: Path, name: str = NAME) -> Weight:
    return weights_of(Checkpoint.open(folder))[name]


def moved(weight: Weight) -> NDArray[np.float32]:
    """What ggml makes of the raw rows."""
    raw = weight.raw(0, prod(weight.shape[:-1]))
    if weight.type is GgmlType.BF16:
        return (raw.view("<u2").astype("<u4") << 16).view("<f4")
    assert is_valid(weight.type, raw) or weight.type is GgmlType.F32
    values = dequantize_rows(weight.type, raw)
    return values * np.float32(weight.factors[0]) if weight.factors else values


def recorded_cases() -> list[str]:
    with zipfile.ZipFile(RECORDED) as cases:
        return sorted(name.removesuffix(".safetensors") for name in cases.namelist())


def recorded_case(case: str) -> tuple[bytes, dict[str, Any]]:
    """A safetensors file with its metadata, and the config that belongs to it."""
    with zipfile.ZipFile(RECORDED) as cases:
        content = cases.read(f"{case}.safetensors")
    return content, {"quantization_config": json.loads(metadata(content)["quantization_config"])}


def metadata(content: bytes) -> dict[str, str]:
    (n_bytes,) = struct.unpack("<Q", content[:8])
    told: dict[str, str] = json.loads(content[8 : 8 + n_bytes])["__metadata__"]
    return told


@pytest.mark.parametrize("case", recorded_cases())
def test_what_the_real_libraries_packed(tmp_path: Path, case: str) -> None:
    """Recorded by packed_cases.py."""
    content, config = recorded_case(case)
    told = metadata(content)
    (tmp_path / "model.safetensors").write_bytes(content)
    write_json(tmp_path / "config.json", config)
    (weight,) = weights_of(Checkpoint.open(tmp_path)).values()
    assert weight.name == NAME
    assert list(weight.shape) == json.loads(told["shape"])
    n_rows = weight.shape[0]
    values = weight.rows(0, n_rows)
    assert hashlib.sha256((values + 0.0).tobytes()).hexdigest() == told["sha256"]
    halves = [weight.rows(0, 7), weight.rows(7, n_rows)]
    assert np.array_equal(np.concatenate(halves), values)
    wanted, bound = MOVED.get(case, (GgmlType.F32, 0.0))
    assert weight.type is wanted
    assert np.abs(moved(weight) - values).max() <= bound * np.abs(values).max()
    raw = weight.raw(0, n_rows)
    pieces = [weight.raw(0, 5), weight.raw(5, 6), weight.raw(6, n_rows)]
    assert np.array_equal(np.concatenate(pieces), raw)
    for n_bytes in (1, 2):  # the data may begin anywhere
        misalign(tmp_path / "model.safetensors", n_bytes)
        (weight,) = weights_of(Checkpoint.open(tmp_path)).values()
        assert np.array_equal(weight.rows(0, n_rows), values)
        assert np.array_equal(weight.raw(0, n_rows), raw)


def packed_weight(tensors: Packed, quantization: dict[str, Any], name: str = NAME) -> Weight:
    """The weight of a checkpoint that holds nothing else."""
    module = name.removesuffix(".weight")
    named = {f"{module}.{end}": content for end, content in tensors.items()}
    with tempfile.TemporaryDirectory() as folder:
        write_packed(Path(folder), named, {"quantization_config": quantization})
        weight = weights_of(Checkpoint.open(folder))[name]
        weight.rows(0, 1)  # the file is mapped now, and may go
        return weight


def all_rows(weight: Weight) -> NDArray[np.float32]:
    return weight.rows(0, prod(weight.shape[:-1]))


def assert_same(weight: Weight, values: NDArray[np.float32], bound: float = 0.0) -> None:
    """Decoded bit for bit, moved within `bound` of the largest weight."""
    decoded = all_rows(weight)
    assert np.array_equal(decoded, values)
    assert np.abs(moved(weight) - values).max() <= bound * np.abs(values).max()


sizes = st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))


@settings(deadline=None)
@given(
    sizes,
    st.sampled_from([2, 3, 4, 8]),
    st.sampled_from([8, 32, 64]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_gptq(
    size: tuple[int, int, int],
    n_bits: int,
    group_size: int,
    v1: bool,
    is_symmetric: bool,
    act_order: bool,
) -> None:
    n_out, n_groups, seed = size[0] * 32, size[1] * 4, size[2]
    n_in = n_groups * group_size
    rng = np.random.default_rng(seed)
    middle = 1 << (n_bits - 1)
    codes = rng.integers(0, 2 * middle, (n_out, n_in))
    scales = rng.uniform(0.001, 0.1, (n_out, n_groups)).astype("<f2")
    zeros = np.full((n_out, n_groups), middle)
    if not is_symmetric:
        zeros = rng.integers(0, 2 * middle, (n_out, n_groups))
    groups = np.arange(n_in) // group_size
    tensors = packed.gptq(codes, scales, zeros, n_bits, v1=v1)
    if act_order:
        groups = rng.permutation(groups)
    tensors["g_idx"] = stored(groups.astype("<i4"))
    quantization = {
        "quant_method": "gptq",
        "bits": n_bits,
        "group_size": group_size,
        "desc_act": act_order,
        "sym": is_symmetric,
        "checkpoint_format": "gptq" if v1 else "gptq_v2",
    }
    weight = packed_weight(tensors, quantization)
    values = affine(codes, scales, zeros, groups)
    is_blocks = all(len(set(block)) == 1 for block in groups.reshape(-1, 32))
    if not is_blocks or (n_bits == 8 and not is_symmetric):
        assert weight.type is GgmlType.F32
        assert_same(weight, values)
    elif is_symmetric:
        assert weight.type is (GgmlType.Q8_0 if n_bits == 8 else GgmlType.Q4_0)
        assert_same(weight, values)
    else:
        assert weight.type is GgmlType.Q4_1
        # m = -scale * zero is rounded to a half: by 2^-11 of it at most.
        assert np.array_equal(all_rows(weight), values)
        off = np.abs(moved(weight) - values)
        bound = (scales.astype(np.float32) * zeros * HALF)[:, groups]
        assert (off <= bound * 1.001).all()


@pytest.mark.parametrize("told", [{}, {"sym": True}, {"sym": False}, {"zero_point": False}])
@pytest.mark.parametrize("method", ["gptq", "gptq_v2", "awq"])
def test_zero_points_and_not_the_config_say_whether_a_weight_is_symmetric(
    method: str, told: dict[str, bool]
) -> None:
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 16, (32, 64))
    scales = rng.uniform(0.001, 0.1, (32, 2)).astype("<f2")
    quantization = {"quant_method": method[:4].rstrip("_"), "bits": 4, "group_size": 32, **told}
    quantization["checkpoint_format"] = "gemm" if method == "awq" else method
    for odd, wanted in ((8, GgmlType.Q4_0), (7, GgmlType.Q4_1)):
        zeros = np.full((32, 2), 8)
        zeros[31, 1] = odd  # one is enough
        if method == "awq":
            tensors = packed.awq(codes, scales, zeros)
        else:
            tensors = packed.gptq(codes, scales, zeros, 4, v1=method == "gptq")
        weight = packed_weight(tensors, quantization)
        assert weight.type is wanted
        values = affine(codes, scales, zeros, np.arange(64) // 32)
        assert np.array_equal(all_rows(weight), values)
        bound = (scales.astype(np.float32) * zeros * HALF).repeat(32, 1) * (odd != 8)
        assert (np.abs(moved(weight) - values) <= bound * 1.001).all()


@pytest.mark.parametrize("n_bits", [2, 3, 4, 8])
@pytest.mark.parametrize("v1", [True, False])
def test_one_other_zero_point_is_seen_at_any_width(n_bits: int, v1: bool) -> None:
    middle = 1 << (n_bits - 1)
    quantization = {"quant_method": "gptq", "bits": n_bits, "group_size": -1, "sym": True}
    quantization["checkpoint_format"] = "gptq" if v1 else "gptq_v2"
    for place in (0, 17, 63):
        zeros = np.full((64, 1), middle)
        zeros[place] += 1
        tensors = packed.gptq(
            np.zeros((64, 32), int), np.ones((64, 1), "<f2"), zeros, n_bits, v1=v1
        )
        wanted = GgmlType.F32 if n_bits == 8 else GgmlType.Q4_1
        assert packed_weight(tensors, quantization).type is wanted


def test_to_describe_a_model_its_config_is_enough(tmp_path: Path) -> None:
    """Tens of thousands of experts have as many small tensors."""
    zeros = np.full((32, 1), 7)
    tensors = packed.gptq(np.zeros((32, 64), int), np.ones((32, 1), "<f2"), zeros, 4)
    tensors["g_idx"] = stored(np.full(64, 9, "<i4"))
    told = {"quant_method": "gptq", "bits": 4, "group_size": -1, "sym": True, "desc_act": False}
    named = {f"a.{end}": content for end, content in tensors.items()}
    checkpoint = Checkpoint.open(write_packed(tmp_path, named, {"quantization_config": told}))
    (weight,) = weights_of(checkpoint, believes_config=True).values()
    assert weight.type is GgmlType.Q4_0
    with pytest.raises(CorruptFile, match="names groups that are not there"):
        weights_of(checkpoint)


@pytest.mark.parametrize("is_said", [True, False])
def test_int8_with_zero_points(is_said: bool) -> None:
    codes = np.random.default_rng(4).integers(-128, 128, (4, 32), dtype=np.int8)
    scheme = {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": is_said}
    quantization = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "config_groups": {"group_0": {"weights": scheme}},
    }
    for odd, wanted in ((0, GgmlType.Q8_0), (5, GgmlType.F32)):
        zeros = np.zeros((4, 1), np.int8)
        zeros[2] = odd
        tensors = {"weight": stored(codes), "weight_scale": stored(np.ones((4, 1), "<f2"))}
        weight = packed_weight({**tensors, "weight_zero_point": stored(zeros)}, quantization)
        assert weight.type is wanted
        assert_same(weight, codes.astype(np.float32) - zeros.astype(np.float32))


@settings(deadline=None)
@given(sizes, st.sampled_from([16, 32, 128]))
def test_awq(size: tuple[int, int, int], group_size: int) -> None:
    n_out, n_groups, seed = size[0] * 8, size[1], size[2]
    n_in = n_groups * group_size
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 16, (n_out, n_in))
    scales = rng.uniform(0.001, 0.1, (n_out, n_groups)).astype("<f2")
    zeros = rng.integers(0, 16, (n_out, n_groups))
    quantization = {"quant_method": "awq", "bits": 4, "group_size": group_size, "version": "GEMM"}
    weight = packed_weight(packed.awq(codes, scales, zeros), quantization)
    groups = np.arange(n_in) // group_size
    values = affine(codes, scales, zeros, groups)
    assert np.array_equal(all_rows(weight), values)
    assert np.array_equal(weight.rows(3, n_out - 2), values[3 : n_out - 2])
    assert weight.type is (GgmlType.Q4_1 if group_size % 32 == 0 else GgmlType.F32)
    bound = (scales.astype(np.float32) * zeros * HALF)[:, groups]
    assert (np.abs(moved(weight) - values) <= bound * 1.001).all()


@settings(deadline=None)
@given(
    st.integers(1, 8),
    st.integers(1, 40),
    st.integers(11, 300),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_pack_quantized(
    n_bits: int, n_out: int, n_in: int, splits: bool, asymmetric: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    middle = 1 << (n_bits - 1)
    codes = rng.integers(0, 2 * middle, (n_out, n_in))
    scales = bf16(2.0 ** rng.integers(-9, -3, (n_out, 1)).astype(np.float32))
    zeros = rng.integers(0, 2 * middle, (n_out, 1)) if asymmetric else None
    tensors = packed.pack_quantized(codes, scales, zeros, n_bits, splits_codes=splits)
    scheme = {"num_bits": n_bits, "strategy": "channel", "symmetric": not asymmetric}
    quantization = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": scheme}},
    }
    if 32 % n_bits and -(-n_in * n_bits // 32) == -(-n_in // (32 // n_bits)):
        with pytest.raises(CorruptFile, match="in two ways"):
            packed_weight(tensors, quantization)
        return
    weight = packed_weight(tensors, quantization)
    factors = (scales[1].astype("<u4") << 16).view("<f4")
    values = affine(
        codes,
        factors,
        np.full((n_out, 1), middle) if zeros is None else zeros,
        np.zeros(n_in, int),
    )
    assert np.array_equal(all_rows(weight), values)
    if n_in % 32 == 0 and not asymmetric:
        assert weight.type is (GgmlType.Q4_0 if n_bits <= 4 else GgmlType.Q8_0)
        assert_same(weight, values)


@settings(deadline=None)
@given(sizes, st.sampled_from([1, 2, 4, 8]), st.sampled_from([8, 32, 64]), st.sampled_from([0, 1]))
def test_hqq(size: tuple[int, int, int], n_bits: int, group_size: int, axis: int) -> None:
    n_out, n_in, seed = size[0] * 64, size[1] * 32, size[2]
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 2**n_bits, (n_out, n_in))
    n_groups = n_out * n_in // group_size
    scales = rng.uniform(0.001, 0.1, n_groups).astype("<f2")
    zeros = rng.uniform(0, 2**n_bits - 1, n_groups).astype("<f2")
    tensors = packed.hqq(codes, scales, zeros, n_bits, group_size, axis)
    weight = packed_weight(tensors, {"quant_method": "hqq"})
    grouped = codes.reshape((-1, group_size) if axis == 1 else (group_size, -1))
    per_group = (-1, 1) if axis == 1 else (1, -1)
    steps = grouped.astype(np.float32) - zeros.astype(np.float32).reshape(per_group)
    values = (steps * scales.astype(np.float32).reshape(per_group)).reshape(codes.shape)
    assert np.array_equal(all_rows(weight), values)
    assert np.array_equal(weight.rows(1, n_out - 1), values[1:-1])
    is_moved = axis == 1 and n_bits <= 4 and group_size % 32 == 0 and n_in % group_size == 0
    assert weight.type is (GgmlType.Q4_1 if is_moved else GgmlType.F32)
    # m is off by 2^-11 of scale * zero.
    bound = 2**n_bits * 0.1 * HALF if is_moved else 0.0
    assert np.abs(moved(weight) - values).max() <= bound


@settings(deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_mxfp4_experts(n_expert: int, n_rows: int, n_blocks: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (n_expert, n_rows, n_blocks, 16), dtype=np.uint8)
    scales = rng.integers(0, 253, (n_expert, n_rows, n_blocks), dtype=np.uint8)
    module = "model.layers.0.mlp.experts.gate_up_proj"
    with tempfile.TemporaryDirectory() as folder:
        tensors = {f"{module}_blocks": stored(blocks), f"{module}_scales": stored(scales)}
        config = {"quantization_config": {"quant_method": "mxfp4"}}
        weight = open_weight(write_packed(Path(folder), tensors, config), module)
        assert weight.shape == (n_expert, n_rows, n_blocks * 32)
        assert weight.type is GgmlType.MXFP4
        e2m1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
        table = np.concatenate([e2m1, -e2m1])
        codes = np.stack([blocks & 15, blocks >> 4], axis=-1)
        factors = np.ldexp(np.float32(1), scales.astype(int) - 127)[..., None]
        values = (table[codes].reshape(*scales.shape, 32) * factors).reshape(-1, n_blocks * 32)
        assert np.array_equal(all_rows(weight), values)
        assert np.array_equal(moved(weight), values)


def test_nvfp4_has_a_factor_for_the_whole_tensor() -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "weight": stored(rng.integers(0, 256, (4, 32), dtype=np.uint8)),
        "weight_scale": stored(rng.integers(0, 127, (4, 4), dtype=np.uint8), "F8_E4M3"),
        "weight_scale_2": stored(np.array(0.37, "<f4")),
    }
    quantization = {"quant_method": "modelopt", "quant_algo": "NVFP4"}
    weight = packed_weight(tensors, quantization)
    assert weight.type is GgmlType.NVFP4
    assert weight.factors == (float(np.float32(0.37)),)
    assert np.allclose(moved(weight), all_rows(weight), rtol=2.0**-23, atol=0)
    tensors["weight_scale"][1][2, 1] = 0x85
    with pytest.raises(CorruptFile, match="negative"):
        packed_weight(tensors, quantization).raw(0, 4)


FP8_VALUES = {
    "F8_E4M3": {0x00: 0.0, 0x01: 2.0**-9, 0x08: 2.0**-6, 0x38: 1.0, 0x7E: 448.0, 0xB9: -1.125},
    "F8_E5M2": {0x00: 0.0, 0x01: 2.0**-16, 0x04: 2.0**-14, 0x3C: 1.0, 0x7B: 57344.0, 0xBD: -1.25},
}


@pytest.mark.parametrize("dtype", FP8_VALUES)
def test_fp8_codes(dtype: str) -> None:
    codes = np.array([list(FP8_VALUES[dtype])], np.uint8)
    one = stored(np.array(1.0, "<f4"))
    tensors = {"weight": stored(codes, dtype), "weight_scale": one}
    weight = packed_weight(tensors, {"quant_method": "fp8", "scale_fmt": "ue8m0"})
    assert all_rows(weight).tolist() == [list(FP8_VALUES[dtype].values())]
    assert weight.type is GgmlType.BF16  # nothing is lost with powers of two
    assert np.array_equal(moved(weight), all_rows(weight))


@pytest.mark.parametrize("scales_are_powers", [False, True])
def test_fp8_experts_in_tiles(scales_are_powers: bool) -> None:
    """Three experts of 5 x 40, in tiles of 2 x 16 of which the last ones are cut."""
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 0x7F, (3, 5, 40), dtype=np.uint8)
    scales = rng.uniform(0.01, 0.1, (3, 3, 3)).astype("<f4")
    if scales_are_powers:
        scales = 2.0 ** np.round(np.log2(scales))
    tensors = {"weight": stored(codes, "F8_E4M3"), "weight_scale_inv": stored(scales)}
    told = {"quant_method": "fp8", "weight_block_size": [2, 16]}
    if scales_are_powers:
        told["scale_fmt"] = "ue8m0"
    weight = packed_weight(tensors, told)
    assert weight.type is (GgmlType.BF16 if scales_are_powers else GgmlType.F32)
    tensors = {"weight": stored(codes, "F8_E4M3"), "weight_scale": stored(np.array(1.0, "<f4"))}
    plain = packed_weight(tensors, {"quant_method": "fp8"})
    spread = scales.repeat(2, 1)[:, :5].repeat(16, 2)[:, :, :40].reshape(15, 40)
    assert_same(weight, all_rows(plain) * spread)
    assert np.array_equal(weight.rows(4, 11), all_rows(weight)[4:11])


@pytest.mark.parametrize("shape", [(), (1,), (1, 1), (6,), (6, 1)])
def test_scales_of_a_tensor_and_of_rows(shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    codes = rng.integers(-127, 128, (6, 32), dtype=np.int8)
    scales = rng.uniform(0.01, 0.1, shape).astype("<f2")
    scheme = {"num_bits": 8, "type": "int", "strategy": "channel"}
    quantization = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "config_groups": {"group_0": {"weights": scheme}},
    }
    tensors = {"weight": stored(codes), "weight_scale": stored(scales)}
    weight = packed_weight(tensors, quantization)
    assert weight.type is GgmlType.Q8_0
    assert_same(weight, codes.astype(np.float32) * scales.astype(np.float32).reshape(-1, 1))


def test_nf4_of_another_project(shared: Path, tmp_path: Path) -> None:
    """Values that were reconstructed without bitsandbytes; its state is added here."""
    folder = shared / "fixtures" / "packed"
    content = (folder / "pico_nf4_linear.safetensors").read_bytes()
    told = json.loads((folder / "pico_nf4_linear.json").read_text())
    codebook = json.loads((folder / "pico_nf4.json").read_text())["codebook"]
    (n_bytes,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + n_bytes])
    name = told["weight_name"]

    def array(end: str, kind: str) -> NDArray[Any]:
        begin, stop = (8 + n_bytes + n for n in header[name + end]["data_offsets"])
        return np.frombuffer(content[begin:stop], kind)

    state = {"blocksize": told["blocksize"], "shape": [told["out_dim"], told["in_dim"]]}
    tensors = {
        name: stored(array("", "u1")),
        f"{name}.absmax": stored(array(".absmax", "<f4")),
        f"{name}.quant_map": stored(np.array(codebook, "<f4")),
        f"{name}.quant_state.bitsandbytes__nf4": packed.json_bytes(state),
    }
    config = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    weight = open_weight(write_packed(tmp_path, tensors, config), name)
    assert np.allclose(all_rows(weight), told["dequant"], rtol=1e-6, atol=0)
