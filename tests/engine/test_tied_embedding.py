"""An embedding that is the output matrix too: rounded for both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engine.calibrate.job import Calibrate
from engine.calibrate.statistics import Statistics
from engine.convert.job import Convert
from engine.ggml_types import FileType, GgmlType
from engine.gguf import GgufFile
from engine.gguf_values import TensorInfo
from engine.jobs import finish
from engine.llama.ggml import dequantize_rows
from engine.model_writer import write_model
from engine.quantize.encode import Care, Encoder
from engine.quantize.plan import plan_types
from engine.quantize.reference import Reference
from tests.helpers.checkpoints import write_tiny_checkpoint
from tests.helpers.input_statistics import Inputs

EMBEDDING = TensorInfo("token_embd.weight", (96, 64), GgmlType.F32)
N_CTX = 64


class Tied(Inputs):
    def evenly(self, tensor: str) -> float:
        importance = self.importance(tensor)
        assert importance is not None
        return float(importance.mean())


def test_rows_that_are_looked_up_change_less() -> None:
    random = np.random.default_rng(5)
    x = (random.normal(size=(1, 900, 20)) @ random.normal(size=(1, 20, 96))).astype(np.float32)
    x += 0.3 * random.normal(size=x.shape).astype(np.float32)
    rows = random.normal(size=(64, 96)).astype(np.float32)
    evenly = Tied({EMBEDDING.name: x}).evenly(EMBEDDING.name)
    changes, losses = [], []
    for kind in (Inputs, Tied):
        encoder = Encoder(kind({EMBEDDING.name: x}), Care())
        stored = encoder.encode(EMBEDDING, GgmlType.Q4_0, rows, 0)
        change = rows - dequantize_rows(GgmlType.Q4_0, stored)
        changes.append(np.square(change).sum())
        losses.append(np.square(change @ x[0].T).sum() / x.shape[1] + evenly * changes[-1])
    assert changes[1] < 0.85 * changes[0]
    assert losses[1] < 0.95 * losses[0]


@pytest.fixture
def stories(shared: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    """TinyStories-656K, text to calibrate with, and other text."""
    model = tmp_path / "stories.gguf"
    finish(Convert(str(shared / "models" / "TinyStories-656K"), str(model), "f32").run())
    words = (shared / "text" / "tinystories_val.txt").read_text(encoding="utf-8")
    text, other = tmp_path / "text.txt", tmp_path / "other.txt"
    text.write_text(words[:120_000])
    other.write_text(words[200_000:240_000])
    return model, text, other


def test_a_real_one_is_better_than_ggmls(stories: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """All else being as it was. Rounded for the output alone it was worse by a quarter."""
    model, text, other = stories
    made = tmp_path / "statistics.gguf"
    finish(Calibrate(str(model), str(made), (str(text),), n_ctx=N_CTX, n_held_out=64).run())
    reference = finish(Reference.open(str(model), str(other), n_ctx=N_CTX, n_threads=1))
    kld = []
    with GgufFile.open(model) as source, Statistics.open(made) as statistics:
        types = {tensor.name: tensor.type for tensor in source.tensors}
        assert "output.weight" not in types
        plan = plan_types(source, types | {EMBEDDING.name: GgmlType.Q5_1}, FileType.Q5_1)
        for care in (Care(feedback=False), Care()):
            out = tmp_path / f"{care.feedback}.gguf"
            encode = Encoder(statistics, care).encode
            finish(write_model(source, plan, str(out), "Shrinking", 1, encode=encode))
            kld.append(finish(reference.compare(str(out))).kld_mean)
    reference.close()
    assert kld[1] < 0.95 * kld[0]


@pytest.mark.parametrize("is_tied", [True, False])
def test_only_an_embedding_that_is_the_output_is(is_tied: bool, tmp_path: Path) -> None:
    checkpoint, model = tmp_path / "checkpoint", tmp_path / "model.gguf"
    finish(Convert(str(write_tiny_checkpoint(checkpoint, tied=is_tied)), str(model), "f16").run())
    text, made = tmp_path / "text.txt", tmp_path / "statistics.gguf"
    text.write_text("Once upon a time there was a little boy who loved to play. " * 60)
    finish(Calibrate(str(model), str(made), (str(text),), n_ctx=N_CTX).run())
    with Statistics.open(made) as statistics:
        counted = [name for name in statistics.tensors if statistics.evenly(name)]
        assert counted == [EMBEDDING.name] * is_tied
        assert (statistics.evenly(EMBEDDING.name) > 0) == is_tied
