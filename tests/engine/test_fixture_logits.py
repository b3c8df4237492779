"""llama.cpp computes from our GGUF what transformers computed: the tiny checkpoints beside us.

They have no tokenizers; a few letters stand in for them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.convert.job import Convert
from engine.errors import UnsupportedArchitecture
from engine.jobs import finish
from tests.helpers.checkpoints import write_json
from tests.helpers.llama_logits import exact_logits

TOLERANCE = 1e-4
"""Of the logits, relative to the largest."""

CASES = (
    "tiny_gemma", "tiny_gemma2", "tiny_gpt_oss", "tiny_granite", "tiny_llama", "tiny_mistral",
    "tiny_mixtral", "tiny_phi3", "tiny_phi3_longrope", "tiny_qwen2", "tiny_qwen3", "tiny_smollm2",
)  # fmt: skip
# llama.cpp runs these without their sliding window: the same as far as one window reaches.
WINDOWS = {"tiny_mistral": 4, "tiny_phi3": 4}
FAR = {
    # ggml looks GELU up in a table of 16-bit numbers, and the logits of this one are tiny.
    "tiny_gemma2": 3e-4,
}
# llama.cpp rounds the bounds of YaRN, this one does not (truncate false), and its heads have five
# frequencies: only the first token, which is not rotated, can be the same. The cases of
# test_upstream.py have bounds that are rounded.
ONLY_FIRST = ("tiny_gpt_oss",)


@pytest.mark.parametrize("name", CASES)
def test_logits_are_those_of_transformers(shared: Path, tmp_path: Path, name: str) -> None:
    folder = checkpoint(shared, tmp_path, name)
    finish(Convert(str(folder), str(tmp_path / "a.gguf"), "f32").run())
    source = shared / "fixtures" / "architectures" / f"{name}_logits.json"
    reference = json.loads(source.read_text())
    n = 1 if name in ONLY_FIRST else WINDOWS.get(name)
    for tokens, expected in zip(reference["sequences"], reference["logits"], strict=True):
        theirs = np.array(expected)
        ours = exact_logits(tmp_path / "a.gguf", tokens)
        difference = np.abs(ours - theirs)[:n].max()
        assert difference <= FAR.get(name, TOLERANCE) * np.abs(theirs).max()


def test_weights_of_experts_that_llama_cpp_would_not_normalize(
    shared: Path, tmp_path: Path
) -> None:
    folder = checkpoint(shared, tmp_path, "tiny_olmoe")
    with pytest.raises(UnsupportedArchitecture, match="normalized weights of its experts"):
        finish(Convert(str(folder), str(tmp_path / "a.gguf"), "f32").run())


def test_shards_are_one_checkpoint(shared: Path, tmp_path: Path) -> None:
    source = shared / "fixtures" / "architectures"
    whole = checkpoint(shared, tmp_path, "tiny_llama")
    finish(Convert(str(whole), str(tmp_path / "whole.gguf"), "f32").run())
    (whole / "model.safetensors").unlink()
    for file in source.glob("tiny_llama-0000*"):
        shutil.copy(file, whole)
    shutil.copy(
        source / "tiny_llama.safetensors.index.json", whole / "model.safetensors.index.json"
    )
    finish(Convert(str(whole), str(tmp_path / "shards.gguf"), "f32").run())
    assert (tmp_path / "shards.gguf").read_bytes() == (tmp_path / "whole.gguf").read_bytes()


def checkpoint(shared: Path, tmp_path: Path, name: str) -> Path:
    """A folder with the checkpoint `name` and a tokenizer of letters."""
    source, folder = shared / "fixtures" / "architectures", tmp_path / "Tiny"
    folder.mkdir()
    shutil.copy(source / f"{name}_config.json", folder / "config.json")
    shutil.copy(source / f"{name}.safetensors", folder / "model.safetensors")
    n_vocab = json.loads((folder / "config.json").read_text())["vocab_size"]
    texts = ["Ċ", "a", "b", "ab", *"cdefghijklmno"][:n_vocab]
    model = {"type": "BPE", "vocab": {text: i for i, text in enumerate(texts)}, "merges": ["a b"]}
    splits = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    write_json(folder / "tokenizer.json", {"model": model, "pre_tokenizer": splits})
    return folder
