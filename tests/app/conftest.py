"""Models made for the tests of the window."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.convert.job import Convert
from engine.jobs import finish
from tests.helpers.checkpoints import (
    SPECIAL,
    random_tensors,
    vocabulary,
    write_safetensors,
    write_tiny_checkpoint,
)


@pytest.fixture(scope="session")
def endless_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that never ends an answer by itself, so that a test has all the time to stop it.

    The embeddings of its special tokens are zero: with tied weights so are their logits, which
    are then never among the forty largest that are sampled from.
    """
    folder = tmp_path_factory.mktemp("endless") / "Endless"
    write_tiny_checkpoint(folder, n_ctx=8192)
    tensors = random_tensors(0, len(vocabulary()[0]), 256, 512, 2, 4, 2, tied=True)
    tensors["model.embed_tokens.weight"][: len(SPECIAL)] = 0
    write_safetensors(folder / "model.safetensors", tensors, "BF16")
    out = folder.parent / "Endless-F16.gguf"
    finish(Convert(str(folder), str(out), "f16").run())
    return out
