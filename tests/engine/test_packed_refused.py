"""Packed checkpoints that are refused: by name, for what does not fit, for what was done to it."""

from __future__ import annotations

import json
import struct
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.checkpoint import Checkpoint
from engine.convert.packed import weights_of
from engine.errors import CorruptFile, EngineError, UnsupportedTensor
from engine.ggml_types import GgmlType
from tests.engine.test_packed import recorded_case, recorded_cases
from tests.helpers import packed
from tests.helpers.checkpoints import write_json
from tests.helpers.packed import Packed, Stored, stored, write_packed

BYTES = {
    "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F16": 2, "BF16": 2, "F32": 4, "I32": 4,
    "I64": 8,
}  # fmt: skip


def refused(folder: Path, error: type[EngineError], match: str) -> None:
    with pytest.raises(error, match=match) as caught:
        weights_of(Checkpoint.open(folder))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("quantization", "told"),
    [
        ({"quant_method": "exl2"}, r"already quantized \(EXL2\), which Snug cannot convert"),
        ({"quant_method": "EXL3"}, r"\(EXL3\)"),
        ({"quant_method": "aqlm"}, r"\(AQLM\)"),
        ({"quant_method": "torchao"}, r"\(torchao\)"),
        ({"quant_method": "vptq"}, r"\(VPTQ\)"),
        ({"quant_method": "brand new"}, r"\(brand new\)"),
        ({"bits": 4, "group_size": 64}, r"\(MLX\)"),
        ({"odd": 1}, r"\(an unnamed method\)"),
        ({"quant_method": "gptq", "checkpoint_format": "marlin"}, r"GPTQ in the format marlin"),
        ({"quant_method": "gptq", "checkpoint_format": "gptq_p"}, r"GPTQ in the format gptq_p"),
        ({"quant_method": "awq", "version": "gemv"}, r"AWQ for the kernel gemv"),
        ({"quant_method": "awq", "bits": 3}, r"AWQ with 3 bits"),
        ({"quant_method": "auto-round", "packing_format": "x"}, r"AutoRound x"),
        (
            {"quant_method": "compressed-tensors", "format": "marlin-24", "config_groups": {}},
            r"compressed-tensors marlin-24",
        ),
        (
            {
                "quant_method": "compressed-tensors",
                "sparsity_config": {"format": "sparse-24-bitmask"},
                "config_groups": {},
            },
            r"compressed-tensors sparse-24-bitmask",
        ),
        ({"quant_method": "bitnet", "quantization_mode": "online"}, r"BitNet, not rounded yet"),
    ],
)
def test_methods_are_refused_by_name(
    tmp_path: Path, quantization: dict[str, Any], told: str
) -> None:
    tensors = {"a.weight": stored(np.zeros((2, 2), "<f4"))}
    folder = write_packed(tmp_path, tensors, {"quantization_config": quantization})
    refused(folder, UnsupportedTensor, told)


@pytest.mark.parametrize("end", [".qweight", ".q_weight", ".trellis", ".W_q", ".SCB"])
def test_packed_tensors_that_no_file_speaks_of(tmp_path: Path, end: str) -> None:
    folder = write_packed(tmp_path, {f"a{end}": stored(np.zeros((2, 2), "<i4"))}, {})
    refused(folder, UnsupportedTensor, "no file of it says how they were packed")


def test_older_tools_wrote_files_of_their_own(tmp_path: Path) -> None:
    codes = np.zeros((32, 64), int)
    scales, zeros = np.ones((32, 1), "<f2"), np.full((32, 1), 8)
    for file_name, tensors, told in (
        ("quantize_config.json", packed.gptq(codes, scales, zeros, 4), {"bits": 4, "sym": True}),
        ("quant_config.json", packed.awq(codes, scales, zeros), {"w_bit": 4, "version": "GEMM"}),
    ):
        folder = write_packed(tmp_path / file_name, prefixed(tensors), {})
        write_json(folder / file_name, told)
        assert set(weights_of(Checkpoint.open(folder))) == {"a.weight"}


def prefixed(tensors: Packed) -> Packed:
    return {f"a.{end}": content for end, content in tensors.items()}


def gptq_folder(folder: Path, tensors: Packed, **told: Any) -> Path:
    quantization = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, **told}
    return write_packed(folder, prefixed(tensors), {"quantization_config": quantization})


def test_a_config_that_does_not_fit_the_tensors(tmp_path: Path) -> None:
    good = packed.gptq(np.zeros((32, 64), int), np.ones((32, 2), "<f2"), np.full((32, 2), 8), 4)
    weights_of(Checkpoint.open(gptq_folder(tmp_path / "good", good)))
    told: list[tuple[dict[str, Any], str]] = [
        ({"bits": 8}, "packed with gptq, but its tensors have 4 bits"),
        ({"bits": "4"}, "its \"bits\" is '4'"),
        ({"group_size": 128}, "a has 2 groups in 64 columns"),
        ({"sym": "yes"}, "its \"sym\" is 'yes'"),
        ({"checkpoint_format": 2}, "its \"checkpoint_format\" is '2'"),
    ]
    for i, (settings, match) in enumerate(told):
        refused(gptq_folder(tmp_path / str(i), good, **settings), CorruptFile, match)
    plain = {
        "model.norm.weight": stored(np.zeros(4, "<f4")),
        "odd": stored(np.zeros(4, "<i4")),  # all of it floats is a model that was unpacked
    }
    config: dict[str, Any] = {"quantization_config": {"quant_method": "awq"}}
    folder = write_packed(tmp_path / "plain", plain, config)
    refused(folder, CorruptFile, "packed with awq, but none of its tensors is")
    both = {**prefixed(good), "a.weight": stored(np.zeros((32, 64), "<f4"))}
    config = {"quantization_config": {"quant_method": "gptq", "group_size": 32}}
    refused(write_packed(tmp_path / "both", both, config), CorruptFile, "there twice")
    config = {"quantization_config": "odd"}
    refused(write_packed(tmp_path / "odd", plain, config), CorruptFile, "cannot be read")


def test_tensors_that_do_not_fit_each_other(tmp_path: Path) -> None:
    good = packed.gptq(np.zeros((32, 64), int), np.ones((32, 2), "<f2"), np.full((32, 2), 8), 4)
    groups = np.repeat([0, 1], 32).astype("<i4")
    cases: list[tuple[str, Stored | None, str]] = [
        ("scales", None, r"it has no a\.scales"),
        ("qzeros", None, r"it has no a\.qzeros"),
        ("scales", stored(np.ones((2, 0), "<f2")), "a.scales is empty"),
        ("scales", stored(np.ones((2, 31), "<f2")), r"has the shape \[8, 32\], not \[any, 31\]"),
        ("scales", stored(np.ones((2, 32), "<i4")), "is stored as I32, not as F16 or BF16 or F32"),
        ("qzeros", stored(np.zeros((2, 3), "<i4")), "does not fit the 32 columns"),
        ("g_idx", stored(groups[:-1]), r"has the shape \[63\], not \[64\]"),
        ("g_idx", stored(groups + 1), "names groups that are not there"),
        ("g_idx", stored(groups - 1), "names groups that are not there"),
    ]
    for i, (end, content, match) in enumerate(cases):
        changed = {k: v for k, v in {**good, end: content}.items() if v}
        refused(gptq_folder(tmp_path / str(i), changed), CorruptFile, match)


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"{",
        b"[" * 60_000,
        b" " * 70_000,
        b'{"blocksize": 64}',
        b'{"blocksize": 64, "shape": [2, -2]}',
        b'{"blocksize": 63, "shape": [2, 64]}',
        b'{"blocksize": 0, "shape": [2, 64]}',
        b'{"blocksize": 64, "shape": [128]}',
        b'{"blocksize": 64, "shape": [4611686018427387904, 4]}',
        b'{"blocksize": 64, "shape": [2, 63]}',
        b'{"blocksize": 64, "shape": [2, 64], "nested_offset": 1e999}',
        b'{"blocksize": 64, "shape": [2, 64], "nested_offset": "x"}',
    ],
)
def test_the_state_of_bitsandbytes_is_read_with_care(tmp_path: Path, state: bytes) -> None:
    tensors = packed.four_bit(
        np.zeros(128, np.uint8), np.zeros(16, "<f4"), np.ones(2, "<f4"), (2, 64)
    )
    tensors["weight.quant_state.bitsandbytes__nf4"] = stored(np.frombuffer(state, np.uint8))
    config = {"quantization_config": {"quant_method": "bitsandbytes"}}
    refused(write_packed(tmp_path, prefixed(tensors), config), CorruptFile, r"The tensor a\.weight")


def test_fp8_needs_scales_of_the_kind_that_is_told(tmp_path: Path) -> None:
    codes = stored(np.zeros((2, 32), np.uint8), "F8_E4M3")
    config = {"quantization_config": {"quant_method": "fp8", "scale_fmt": "ue8m0"}}
    folder = write_packed(tmp_path / "a", {"a.weight": codes}, config)
    refused(folder, CorruptFile, "is packed, but has no scale")
    tensors = {"a.weight": codes, "a.weight_scale_inv": stored(np.array(0.3, "<f4"))}
    folder = write_packed(tmp_path / "b", tensors, config)  # no power of two, as it says
    assert weights_of(Checkpoint.open(folder))["a.weight"].type is GgmlType.F32
    tensors["a.weight_scale_inv"] = stored(np.ones((2, 3), "<f4"))
    folder = write_packed(tmp_path / "c", tensors, config)
    refused(folder, CorruptFile, r"the shape \[2, 3\], which fits no tiles of \[2, 32\]")


def test_an_order_that_the_config_denies_is_kept(tmp_path: Path) -> None:
    scales = np.tile([1, 2], (32, 1)).astype("<f2")
    tensors = packed.gptq(np.ones((32, 64), int), scales, np.full((32, 2), 8), 4)
    tensors["g_idx"] = stored(np.tile([0, 1], 32).astype("<i4"))
    weight = weights_of(Checkpoint.open(gptq_folder(tmp_path, tensors, desc_act=False)))["a.weight"]
    assert weight.type is GgmlType.F32
    assert weight.rows(0, 1).tolist() == [[-7, -14] * 32]


def test_a_factor_of_zero_is_refused(tmp_path: Path) -> None:
    tensors = {
        "a.weight_packed": stored(np.zeros((2, 32), np.uint8)),
        "a.weight_scale": stored(np.zeros((2, 4), np.uint8), "F8_E4M3"),
        "a.weight_global_scale": stored(np.zeros(1, "<f4")),
    }
    told = {"quant_method": "compressed-tensors", "config_groups": {}}
    config = {"quantization_config": {**told, "format": "nvfp4-pack-quantized"}}
    refused(write_packed(tmp_path, tensors, config), CorruptFile, "zero and what is divided by")


def test_scales_that_no_half_can_hold_are_refused(tmp_path: Path) -> None:
    for i, scale in enumerate((1e6, np.inf, np.nan)):
        scales = np.full((32, 1), scale, "<f4")
        tensors = packed.gptq(np.zeros((32, 32), int), scales, np.full((32, 1), 8), 4)
        weight = weights_of(Checkpoint.open(gptq_folder(tmp_path / str(i), tensors)))["a.weight"]
        with pytest.raises(CorruptFile, match="scale that is no number, or far too large"):
            weight.raw(0, 32)


def mutated(rng: np.random.Generator, tensors: dict[str, Any], content: bytes) -> tuple[Any, bytes]:
    """One tensor lost, renamed, reshaped, retyped, or filled with noise."""
    name = str(rng.choice(list(tensors)))
    entry = dict(tensors[name])
    begin, end = entry["data_offsets"]
    kind = rng.integers(5)
    if kind == 0:
        return {k: v for k, v in tensors.items() if k != name}, content
    if kind == 1:
        return {(k + "x" if k == name else k): v for k, v in tensors.items()}, content
    if kind == 2 and entry["shape"]:  # another shape, with as many bytes as it needs
        shape = list(entry["shape"])
        shape[rng.integers(len(shape))] = int(rng.integers(0, 200))
        if rng.integers(4) == 0:
            shape = [*shape[::-1], 1]
        n_bytes = prod(shape) * BYTES[entry["dtype"]]
        entry |= {"shape": shape, "data_offsets": [len(content), len(content) + n_bytes]}
        content += rng.bytes(n_bytes)
    elif kind == 3:
        same = [d for d, n in BYTES.items() if n == BYTES[entry["dtype"]]]
        entry["dtype"] = str(rng.choice(same))
    else:
        content = content[:begin] + rng.bytes(end - begin) + content[end:]
    return {**tensors, name: entry}, content


@pytest.mark.parametrize("case", recorded_cases())
def test_whatever_is_done_to_a_file_it_is_read_or_refused(tmp_path: Path, case: str) -> None:
    whole, config = recorded_case(case)
    (n_bytes,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + n_bytes])
    del header["__metadata__"]
    rng = np.random.default_rng(len(whole))
    hints = []
    for _ in range(60):
        tensors, content = mutated(rng, header, whole[8 + n_bytes :])
        if rng.integers(3) == 0:
            tensors, content = mutated(rng, tensors, content)
        encoded = json.dumps(tensors).encode()
        path = tmp_path / "model.safetensors"
        path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + content)
        write_json(tmp_path / "config.json", config)
        try:
            for weight in weights_of(Checkpoint.open(tmp_path)).values():
                read_whole(weight)
        except EngineError as error:
            hints.append(error.hint)
    assert hints
    assert all(hints)


def read_whole(weight: Any) -> NDArray[Any]:
    n_rows = prod(weight.shape[:-1])
    rows: NDArray[Any] = weight.rows(0, n_rows)
    assert rows.size == prod(weight.shape)
    weight.raw(0, n_rows)
    return rows
