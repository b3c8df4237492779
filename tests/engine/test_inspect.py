"""Summaries of models, from headers alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import CorruptFile, EngineError, UnsafeFile
from engine.ggml_types import FileType, GgmlType
from engine.gguf import TensorInfo, Value, write_gguf
from engine.inspect import describe
from tests.helpers.checkpoints import write_tiny_checkpoint


def test_a_checkpoint_and_its_gguf_are_the_same_model(
    tiny_checkpoint: Path, tiny_gguf: Path
) -> None:
    checkpoint, gguf = describe(tiny_checkpoint), describe(tiny_gguf)
    assert (checkpoint.kind, gguf.kind) == ("checkpoint", "gguf")
    assert (checkpoint.type, gguf.type) == ("BF16", "F16")
    for summary in (checkpoint, gguf):
        assert summary.name == "Tiny"
        assert summary.architecture == "llama"
        assert summary.n_layers == 2
        assert summary.n_ctx_train == 512
        assert summary.has_chat_template
        assert not summary.quantized
        assert 16 <= summary.bits_per_weight < 16.1
    assert checkpoint.n_params == gguf.n_params
    assert checkpoint.n_vocab == gguf.n_vocab == 356
    assert gguf.size_bytes == tiny_gguf.stat().st_size
    assert checkpoint.size_bytes == (tiny_checkpoint / "model.safetensors").stat().st_size


def test_the_licence_is_that_of_the_model_card(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "a", hidden=64, ffn=64, n_layers=1)
    assert describe(folder).license == ""
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n")
    assert describe(folder).license == "apache-2.0"


def test_the_name_in_a_download_cache_is_that_of_the_repository(tmp_path: Path) -> None:
    folder = tmp_path / "models--someone--Fine-1B" / "snapshots" / "0123abcd"
    write_tiny_checkpoint(folder, hidden=64, ffn=64, n_layers=1)
    assert describe(folder).name == "Fine-1B"


@pytest.mark.parametrize("file_type", [FileType.Q4_K_M, None, 999, "Q4"])
def test_the_type_is_what_the_file_says_or_what_it_is(
    tmp_path: Path, file_type: FileType | int | str | None
) -> None:
    metadata = {}
    if isinstance(file_type, int):
        metadata["general.file_type"] = Value.u32(file_type)
    elif file_type:
        metadata["general.file_type"] = Value.string(file_type)
    tensors = [
        TensorInfo("a.weight", (256, 4), GgmlType.Q6_K),
        TensorInfo("b.weight", (256,), GgmlType.F32),
    ]
    with write_gguf(tmp_path / "model.gguf", metadata, tensors) as writer:
        for tensor in tensors:
            writer.write(bytes(tensor.n_bytes))
    summary = describe(tmp_path / "model.gguf")
    assert summary.type == ("Q4_K_M" if file_type is FileType.Q4_K_M else "Q6_K")
    assert summary.quantized
    assert summary.name == "model"
    assert summary.n_params == 256 * 5


def test_texts_that_are_no_unicode_can_be_shown(tmp_path: Path) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    with write_gguf(tmp_path / "a.gguf", {"general.name": Value.string(name)}, []):
        pass
    assert describe(tmp_path / "a.gguf").name == "caf?"


def test_what_is_no_model_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello there")
    with pytest.raises(CorruptFile, match="is not a GGUF"):
        describe(tmp_path / "notes.txt")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(UnsafeFile):
        describe(tmp_path / "pytorch_model.bin")


def test_real_models_are_described(shared: Path) -> None:
    for path in [*shared.glob("models/*"), *shared.glob("vocab/*.gguf")]:
        assert describe(path).architecture
    described = 0
    for path in shared.glob("fixtures/mlx/*"):
        try:
            described += describe(path).n_params > 0
        except EngineError as error:
            described += bool(error.hint)
    assert described == len(list(shared.glob("fixtures/mlx/*")))
