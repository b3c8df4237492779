"""Opening checkpoints: whole ones, cut ones, unsafe ones, and folders that are none."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.checkpoint import Checkpoint, read_safetensors_header
from engine.convert.view import CheckpointView
from engine.errors import (
    CorruptFile,
    EngineError,
    FormatError,
    NotFound,
    UnsafeFile,
    UnsupportedArchitecture,
    UnsupportedTensor,
)
from engine.source import open_source
from tests.helpers.checkpoints import write_json, write_safetensors, write_tiny_checkpoint


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny_checkpoint(tmp_path / "Tiny", hidden=64, ffn=64, n_layers=1)


def refused(folder: Path, error: type[EngineError], match: str) -> EngineError:
    with pytest.raises(error, match=match) as caught:
        CheckpointView.open(folder)
    assert caught.value.hint
    return caught.value


def test_tensors_are_read_without_a_copy(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "a", hidden=64, ffn=64, n_layers=1, dtype="F32")
    checkpoint = Checkpoint.open(folder)
    tensor = checkpoint.tensors["model.norm.weight"]
    assert (tensor.dtype, tensor.shape) == ("F32", (64,))
    values = np.frombuffer(checkpoint.data(tensor), "<f4")
    assert abs(values.mean() - 1) < 0.1
    checkpoint.close()


def test_shards_hold_the_same_tensors_as_one_file(tmp_path: Path) -> None:
    one = Checkpoint.open(write_tiny_checkpoint(tmp_path / "one", hidden=64, ffn=64))
    many = Checkpoint.open(
        write_tiny_checkpoint(tmp_path / "many", hidden=64, ffn=64, sharded=True)
    )
    assert set(one.tensors) == set(many.tensors)
    assert len({t.file for t in many.tensors.values()}) == 2
    for name, tensor in one.tensors.items():
        assert one.data(tensor) == many.data(many.tensors[name])


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "a", hidden=64, ffn=64, sharded=True)
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused(folder, CorruptFile, r"model-00002-of-00002\.safetensors is missing")
    (folder / "model.safetensors.index.json").unlink()
    refused(folder, CorruptFile, r"model-00002-of-00002\.safetensors is missing")


def test_shards_without_an_index_are_found(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "a", hidden=64, ffn=64, sharded=True)
    (folder / "model.safetensors.index.json").unlink()
    assert CheckpointView.open(folder).tensors


def test_an_index_that_promises_more_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "a", hidden=64, ffn=64, sharded=True)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    index["weight_map"]["model.layers.9.x"] = "model-00001-of-00002.safetensors"
    write_json(folder / "model.safetensors.index.json", index)
    refused(folder, CorruptFile, "does not hold the tensor 'model.layers.9.x'")


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "a/b.safetensors", 7])
def test_an_index_may_not_name_files_elsewhere(tiny: Path, name: Any) -> None:
    write_json(tiny / "model.safetensors.index.json", {"weight_map": {"model.norm.weight": name}})
    refused(tiny, CorruptFile, "is no safetensors file of this folder")


def test_folders_that_are_no_checkpoint_say_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", FormatError, r"empty has no config\.json")
    (tmp_path / "empty" / "adapter_config.json").write_text("{}")
    refused(tmp_path / "empty", FormatError, "LoRA adapter")
    refused(tmp_path / "none", NotFound, "does not exist")
    (tmp_path / "gguf").mkdir()
    (tmp_path / "gguf" / "a.gguf").write_bytes(b"GGUF")
    assert "the .gguf file" in refused(tmp_path / "gguf", FormatError, "no config").hint
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text("{}")
    refused(tmp_path / "bare", FormatError, r"no model\.safetensors")


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt"])
def test_pickle_is_refused_and_says_why(tiny: Path, suffix: str) -> None:
    (tiny / "model.safetensors").rename(tiny / f"pytorch_model{suffix}")
    error = refused(tiny, UnsafeFile, "can run code when they are opened")
    assert "safetensors" in error.hint


def test_real_pickles_are_refused(shared: Path, tiny: Path) -> None:
    refused(shared / "fixtures" / "pickle", UnsafeFile, "can run code")
    for path in shared.glob("fixtures/pickle/*.bin"):
        with pytest.raises(UnsafeFile, match="can run code"):
            open_source(path)
        # The same content behind an innocent name.
        shutil.copyfile(path, tiny / "model.safetensors")
        refused(tiny, UnsafeFile, "can run code")


def test_a_part_of_a_checkpoint_is_not_the_checkpoint(tiny: Path) -> None:
    with pytest.raises(FormatError, match="is a part of a checkpoint") as caught:
        open_source(tiny / "model.safetensors")
    assert "folder" in caught.value.hint


def test_truncated_safetensors_say_that_they_are_incomplete(tiny: Path) -> None:
    path = tiny / "model.safetensors"
    size_bytes = path.stat().st_size
    for n_bytes in (size_bytes - 1, size_bytes // 2, 1000, 12):
        os.truncate(path, n_bytes)
        refused(tiny, CorruptFile, r"model\.safetensors is incomplete")
    os.truncate(path, 3)
    refused(tiny, CorruptFile, "is not a safetensors file")


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


BAD_HEADERS: dict[str, Any] = {
    "no object": [1, 2],
    "no JSON": b"{]",
    "no entry": {"a": 7},
    "no shape": {"a": {"dtype": "F32", "data_offsets": [0, 8]}},
    "negative": {"a": entry(shape=[-2])},
    "float": {"a": entry(shape=[2.0])},
    "true": {"a": entry(shape=[True, 2])},
    "three offsets": {"a": entry(offsets=[0, 4, 8])},
    "backwards": {"a": entry(offsets=[8, 0])},
    "wrong size": {"a": entry(shape=[3])},
    "overflow": {"a": entry(shape=[2**61, 2**61])},
    "many dimensions": {"a": entry(shape=[1] * 9 + [2])},
    "overlap": {"a": entry(), "b": entry(offsets=[4, 12])},
    "beyond": {"a": entry(offsets=[2**40, 2**40 + 8])},
    "no dtype": {"a": entry(dtype="F12")},
    "odd dtype": {"a": entry(dtype=["F32"])},
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_hostile_header_is_refused(tmp_path: Path, name: str) -> None:
    header = BAD_HEADERS[name]
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + bytes(16))
    with pytest.raises((CorruptFile, UnsupportedTensor)) as caught:
        read_safetensors_header(path)
    assert caught.value.hint


@pytest.mark.parametrize("n_bytes", [2**63, 2**32, 101_000_000])
def test_a_huge_header_is_not_read(tmp_path: Path, n_bytes: int) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", n_bytes) + bytes(16))
    with pytest.raises(CorruptFile):
        read_safetensors_header(path)


def test_a_dtype_we_cannot_convert_is_named(tiny: Path) -> None:
    path = tiny / "model.safetensors"
    content = path.read_bytes().replace(b'"BF16"', b'"I16" ')
    path.write_bytes(content)
    refused(tiny, UnsupportedTensor, r"model\.embed_tokens\.weight is stored as I16")


@pytest.mark.parametrize(
    ("config", "method"),
    [
        ({"quantization_config": {"quant_method": "exl2", "bits": 4}}, "EXL2"),
        ({"quantization_config": {"quant_method": "new"}}, "new"),
        ({"quantization": {"group_size": 64, "bits": 4}}, "MLX"),
    ],
)
def test_quantized_checkpoints_are_refused_by_name(
    tmp_path: Path, config: dict[str, Any], method: str
) -> None:
    folder = write_tiny_checkpoint(tmp_path / "a", hidden=64, ffn=64, n_layers=1, **config)
    refused(folder, UnsupportedTensor, rf"already quantized \({method}\)")


def test_an_unknown_architecture_is_named(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(
        tmp_path / "a", hidden=64, ffn=64, n_layers=1, architectures=["WarpForCausalLM"]
    )
    refused(folder, UnsupportedArchitecture, "architecture WarpForCausalLM yet")
    write_json(folder / "config.json", {"model_type": "warp_text"})
    refused(folder, UnsupportedArchitecture, "architecture warp_text yet")


def test_missing_foreign_and_misshapen_tensors_are_named(tiny: Path) -> None:
    ones = np.ones((64,), np.float32)
    write_safetensors(tiny / "model.safetensors", {"model.norm.weight": ones})
    refused(tiny, CorruptFile, r"it has no model\.embed_tokens\.weight")
    write_tiny_checkpoint(tiny, hidden=64, ffn=64, n_layers=2)
    config = json.loads((tiny / "config.json").read_text())
    write_json(tiny / "config.json", {**config, "num_hidden_layers": 1})
    refused(
        tiny, UnsupportedTensor, r"model\.layers\.1\.\S+ has no place in the architecture llama"
    )
    write_json(tiny / "config.json", {**config, "intermediate_size": 65})
    refused(tiny, CorruptFile, r"gate_proj\.weight has the shape \[64, 64\]")


def test_packed_checkpoints_of_mlx_are_refused_by_name(shared: Path) -> None:
    packed = [*shared.glob("fixtures/mlx/*_tied"), *shared.glob("fixtures/mlx/*_sharded")]
    assert packed
    for folder in packed:
        refused(folder, UnsupportedTensor, r"already quantized \(MLX\)")
