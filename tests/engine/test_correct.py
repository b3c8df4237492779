"""The second round: matrices that make up for what was lost before them."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.calibrate.job import Calibrate
from engine.calibrate.statistics import Statistics
from engine.ggml_types import FileType, GgmlType
from engine.gguf import GgufFile
from engine.jobs import Progress, Step, finish
from engine.llama.model import Model
from engine.model_writer import write_model
from engine.quantize.budget import choosable
from engine.quantize.choice import Chosen
from engine.quantize.correct import correct
from engine.quantize.corrected import Moments
from engine.quantize.encode import Care, Encoder
from engine.quantize.plan import plan_types
from engine.quantize.reference import Reference
from engine.quantize.rounding import DAMPING, Curvature
from engine.quantize.workbench import Workbench

N_CTX = 64
CARE = Care(sweeps=1, refits=0)


def inputs(n_tokens: int, n_cols: int, seed: int = 0) -> NDArray[np.float32]:
    """Columns that go together, of unlike size."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(n_tokens, n_cols)) @ np.random.default_rng(1).normal(
        size=(n_cols, n_cols)
    )
    found: NDArray[np.float32] = mixed * np.linspace(0.1, 1, n_cols) / np.sqrt(n_cols)
    return found.astype(np.float32)


@pytest.mark.parametrize("n_cols", [1, 63, 64, 65, 200])
def test_solving_is_a_product_with_the_inverse(n_cols: int) -> None:
    rows = inputs(4000, n_cols)
    moment = rows.T @ rows / np.float32(len(rows))
    right = inputs(40, n_cols, seed=2)
    curvature = Curvature.of(moment, len(rows))
    damped = moment / np.diagonal(moment).mean() + DAMPING * np.eye(n_cols)
    expected = np.linalg.solve(damped.astype(np.float64), right.T.astype(np.float64)).T
    solved = curvature.solve(right)
    np.testing.assert_allclose(solved, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert (curvature.solve(right, n_threads=3) == solved).all()


def test_what_is_lost_in_the_same_way_everywhere_is_made_up_for() -> None:
    n_cols = 96
    rng = np.random.default_rng(3)
    loss = (0.02 * rng.normal(size=(n_cols, n_cols))).astype(np.float32)
    moments = Moments(n_cols, 1)
    for seed in range(40):
        rounded = inputs(512, n_cols, seed)
        moments.add(rounded + rounded @ loss, rounded)
    weights = rng.normal(size=(32, n_cols)).astype(np.float32)
    corrected = weights + weights @ moments.correction()
    rounded = inputs(512, n_cols, 99)
    wanted = (rounded + rounded @ loss) @ weights.T
    before = np.square(rounded @ weights.T - wanted).mean()
    after = np.square(rounded @ corrected.T - wanted).mean()
    assert after < 0.2 * before


def test_noise_is_left_alone() -> None:
    """What has nothing to do with the input cannot be made up for."""
    n_cols = 96
    rng = np.random.default_rng(4)
    moments = Moments(n_cols, 1)
    for seed in range(4):
        rounded = inputs(512, n_cols, seed)
        noise = 0.1 * rng.normal(size=rounded.shape).astype(np.float32)
        moments.add(rounded + noise, rounded)
    other = inputs(512, n_cols, 98)
    changed = np.square(other @ moments.correction().T).mean()
    assert changed < 0.015 * np.square(noise).mean()  # 0.026 if damped as for the rounding


class Case:
    """The model rounded to Q4_0, calibrated and corrected with some of its text."""

    def __init__(self, model: Path, text: Path, folder: Path) -> None:
        self.model, self._folder = model, folder
        folder.mkdir(exist_ok=True)
        statistics = folder / "statistics.gguf"
        calibrate = Calibrate(
            str(model), str(statistics), (str(text),), n_ctx=N_CTX, n_threads=1, n_held_out=64
        )
        finish(calibrate.run())
        self.source = GgufFile.open(model)
        types = {tensor.name: tensor.type for tensor in self.source.tensors}
        types |= {tensor.name: GgmlType.Q4_0 for tensor in choosable(self.source)}
        plan = plan_types(self.source, types, FileType.Q4_0)
        self.chosen = Chosen(self.source, Statistics.open(statistics), plan)
        self._text = text

    def correct(self, n_chunks: int, n_threads: int = 1) -> Chosen:
        def texts(model: Model) -> Generator[Step, None, list[list[int]]]:
            yield Progress("Reading the texts", 0, None, "tokens")
            tokens = model.vocabulary.tokenize(self._text.read_text(encoding="utf-8"))
            return [tokens[i * N_CTX : (i + 1) * N_CTX] for i in range(n_chunks)]

        bench = Workbench(self._folder, None)
        return finish(correct(self.chosen, CARE, texts, bench, n_threads))

    def write(self, chosen: Chosen, name: str) -> Path:
        out = self._folder / name
        encode = Encoder(chosen.statistics, CARE).encode
        steps = write_model(chosen.source, chosen.plan, str(out), "Shrinking", 1, encode=encode)
        finish(steps)
        return out


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("Once upon a time there was a little boy who loved to play. " * 60)
    return path


def test_threads_and_a_break_change_no_byte(tiny_gguf: Path, text: Path, tmp_path: Path) -> None:
    one, two = (Case(tiny_gguf, text, tmp_path / name) for name in "ab")
    files = [case.write(case.correct(3, i + 1), "out.gguf") for i, case in enumerate((one, two))]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].read_bytes() != one.write(one.chosen, "plain.gguf").read_bytes()
    # As if it had been killed after some inputs: the note at the end and later ones are missing.
    kept = sorted((tmp_path / "b").glob("correction-*.npy"), key=lambda file: file.stat().st_mtime)
    assert len(kept) > 2
    for file in (*kept[2:], *(tmp_path / "b").glob("correction-*.json")):
        file.unlink()
    assert two.write(two.correct(3), "again.gguf").read_bytes() == files[0].read_bytes()
    assert not list(tmp_path.glob("?/correction-*.gguf"))  # of no use any more


def test_a_real_model_comes_closer_to_the_original(
    stories: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """TinyStories-656K in Q4_0, on text that was not calibrated with."""
    model, text, other = stories
    case = Case(model, text, tmp_path / "bench")
    plain = case.write(case.chosen, "plain.gguf")
    corrected = case.write(case.correct(100), "corrected.gguf")
    reference = finish(Reference.open(str(model), str(other), n_ctx=N_CTX, n_threads=1))
    before, after = (finish(reference.compare(str(out))) for out in (plain, corrected))
    reference.close()
    assert after.kld_mean < 0.9 * before.kld_mean
    assert after.perplexity < before.perplexity
