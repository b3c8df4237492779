"""The likeness of two models: against numpy, and against llama-perplexity's recorded answers."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.convert.job import Convert
from engine.errors import FormatError, InferenceError, NotFound
from engine.fit.run import KvType
from engine.ggml_types import GgmlType
from engine.gguf import GgufFile, write_gguf
from engine.jobs import Progress, finish
from engine.llama.evaluate import Evaluator
from engine.llama.ggml import dequantize_rows
from engine.quantize.figures import QualityReport, verdict
from engine.quantize.kept_logits import KeptLogits
from engine.quantize.quality import Quality
from engine.quantize.reference import Reference
from engine.quantize.shrink import Shrink
from tests.helpers.checkpoints import write_tiny_checkpoint
from tests.helpers.llama_perplexity import rounded_base_figures

WORDS = "Once upon a time there was a little boy who loved to play with his friend in the day. "
N_CTX = 64


@pytest.fixture(scope="module")
def pair(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model of random weights in BF16 and its Q2_K."""
    folder = tmp_path_factory.mktemp("pair")
    reference, model = folder / "reference.gguf", folder / "model.gguf"
    finish(Convert(str(tiny_checkpoint), str(reference), "bf16").run())
    finish(Shrink(str(tiny_checkpoint), str(model), "Q2_K").run())
    return reference, model


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(WORDS * 20, encoding="utf-8")
    return path


def compare(model: Path, reference: Path, text: Path, chunks: int = 0) -> QualityReport:
    return finish(Quality(str(model), str(reference), str(text), chunks, N_CTX).run())


def test_a_model_is_identical_to_itself(pair: tuple[Path, Path], text: Path) -> None:
    report = compare(pair[0], pair[0], text, chunks=2)
    assert abs(report.kld_max) < 1e-9
    assert report.same_top_fraction == 1
    assert report.perplexity == report.perplexity_reference > 1
    assert report.n_tokens == 2 * (N_CTX // 2 - 1)
    assert report.verdict == "practically identical"


def test_figures_are_those_of_numpy(pair: tuple[Path, Path], text: Path) -> None:
    report = compare(pair[1], pair[0], text, chunks=3)
    reference = finish(Evaluator.load(pair[0], N_CTX))
    model = finish(Evaluator.load(pair[1], N_CTX))
    tokens = reference.tokenize(text.read_text(encoding="utf-8"))
    kld, same, nll, nll_reference = [], [], [], []
    for start in range(0, 3 * N_CTX, N_CTX):
        chunk = tokens[start : start + N_CTX]
        p, q = (_log_softmax(e.logits(chunk)) for e in (reference, model))
        targets = list(reference.targets(chunk))
        kld.append((np.exp(p) * (p - q)).sum(axis=1))
        same.append(p.argmax(axis=1) == q.argmax(axis=1))
        nll.append(-q[np.arange(len(targets)), targets])
        nll_reference.append(-p[np.arange(len(targets)), targets])
    reference.close()
    model.close()
    divergences = np.concatenate(kld)
    assert report.n_tokens == len(divergences)
    assert report.kld_mean == pytest.approx(divergences.mean(), rel=1e-5)
    assert report.kld_median == pytest.approx(np.median(divergences), rel=1e-5)
    assert report.kld_p99 == pytest.approx(np.quantile(divergences, 0.99), rel=1e-5)
    assert report.kld_p999 == pytest.approx(np.quantile(divergences, 0.999), rel=1e-5)
    assert report.kld_max == pytest.approx(divergences.max(), rel=1e-5)
    assert report.kld_mean_error == pytest.approx(standard_error(divergences), rel=1e-5)
    tops = np.concatenate(same)
    assert report.same_top_fraction == tops.mean()
    assert report.same_top_error == pytest.approx(standard_error(tops))
    assert report.perplexity == pytest.approx(np.exp(np.concatenate(nll).mean()), rel=1e-5)
    assert report.perplexity_reference == pytest.approx(
        np.exp(np.concatenate(nll_reference).mean()), rel=1e-5
    )
    differences = np.concatenate(nll) - np.concatenate(nll_reference)
    assert report.perplexity_ratio == pytest.approx(np.exp(differences.mean()), rel=1e-5)
    for value, error, values in (
        (report.perplexity, report.perplexity_error, nll),
        (report.perplexity_reference, report.perplexity_reference_error, nll_reference),
        (report.perplexity_ratio, report.perplexity_ratio_error, [differences]),
    ):
        assert error == pytest.approx(value * standard_error(np.concatenate(values)), rel=1e-4)


def standard_error(values: NDArray[Any]) -> float:
    """Of the mean: the sample's deviation by the root of its size."""
    return float(values.astype(np.float64).std(ddof=1) / np.sqrt(len(values)))


def _log_softmax(logits: object) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    x = np.array(logits, dtype=np.float64)
    x -= x.max(axis=1, keepdims=True)
    result: np.ndarray[tuple[int, int], np.dtype[np.float64]]
    result = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    return result


# What `llama-perplexity --kl-divergence --chunks 4` of llama.cpp 0c1e57098 says of measure-7m on
# text/wiki.valid.raw. The models are the quantized ones in F32: with quantized weights each kind of
# processor rounds activations in its own way, and the largest divergence differs by some percent.
ANSWERS = {
    "Q4_K_M": {
        "kld_mean": 0.012783,
        "kld_mean_error": 0.000645,
        "kld_median": 0.008225,
        "kld_p99": 0.065093,
        "kld_p999": 0.172155,
        "kld_max": 0.475839,
        "same_top_fraction": 0.89706,
        "same_top_error": 0.00952,
        "perplexity": 79.648733,
        "perplexity_error": 7.142926,
        "perplexity_reference": 78.870331,
        "perplexity_reference_error": 7.093102,
    },
    "Q2_K": {
        "kld_mean": 0.205967,
        "kld_mean_error": 0.007011,
        "kld_median": 0.133830,
        "kld_p99": 1.247035,
        "kld_p999": 1.679102,
        "kld_max": 2.028731,
        "same_top_fraction": 0.65784,
        "same_top_error": 0.01486,
        "perplexity": 88.814267,
        "perplexity_error": 7.955492,
        "perplexity_reference": 78.870331,
        "perplexity_reference_error": 7.093102,
    },
}
# The same of the F32 model itself, with its KV cache in other types (-ctk, -ctv).
# The perplexity with four bits is the tool's on a processor with AVX-512, and on one with AVX2.
KV_ANSWERS: dict[KvType, tuple[float, float, float, tuple[float, ...]]] = {
    "q8_0": (0.000087, 0.004449, 0.98725, (78.977571,)),
    "q4_0": (0.014291, 0.510915, 0.91667, (78.958979, 78.926082)),
}


@pytest.mark.parametrize("recipe", ANSWERS)
def test_figures_are_those_of_llama_perplexity(shared: Path, tmp_path: Path, recipe: str) -> None:
    checkpoint = str(shared / "models" / "measure-7m")
    reference, model = tmp_path / "reference.gguf", tmp_path / "model.gguf"
    finish(Convert(checkpoint, str(reference), "f32").run())
    finish(Shrink(checkpoint, str(tmp_path / "small.gguf"), recipe).run())
    write_in_f32(tmp_path / "small.gguf", model)
    text = shared / "text" / "wiki.valid.raw"
    report = finish(Quality(str(model), str(reference), str(text), chunks=4).run())
    assert report.n_tokens == 4 * 255
    ours = msgspec.structs.asdict(report)
    rounded = rounded_base_figures(reference, model, text.read_text(encoding="utf-8"), 4)
    for name, answer in ANSWERS[recipe].items():
        one_token = 1.5 / report.n_tokens if name == "same_top_fraction" else 1e-6
        # With the reference rounded to 16 bits as the tool does, the figures are the tool's.
        assert rounded[name] == pytest.approx(answer, rel=1e-3, abs=one_token), name
        assert ours[name] == pytest.approx(answer, rel=4e-3, abs=one_token), name


@pytest.mark.parametrize("kv_type", KV_ANSWERS)
def test_the_cost_of_a_kv_cache_is_that_of_llama_perplexity(
    shared: Path, tmp_path: Path, kv_type: KvType
) -> None:
    reference = str(tmp_path / "reference.gguf")
    finish(Convert(str(shared / "models" / "measure-7m"), reference, "f32").run())
    text = str(shared / "text" / "wiki.valid.raw")
    report = finish(Quality(reference, reference, text, chunks=4, kv_type=kv_type).run())
    mean, p999, same_top, perplexities = KV_ANSWERS[kv_type]
    assert report.kv_type == kv_type
    assert report.kld_mean == pytest.approx(mean, rel=2e-2, abs=1e-6)
    assert report.kld_p999 == pytest.approx(p999, rel=2e-2)
    assert report.same_top_fraction == pytest.approx(same_top, abs=3e-3)
    assert any(report.perplexity == pytest.approx(one, rel=1e-4) for one in perplexities)


def write_in_f32(source: Path, out: Path) -> None:
    """The same model, its quantized numbers written out."""
    model = GgufFile.open(source)
    tensors = [msgspec.structs.replace(tensor, type=GgmlType.F32) for tensor in model.tensors]
    with write_gguf(out, model.metadata, tensors) as writer:
        for tensor in model.tensors:
            stored = np.frombuffer(model.raw(tensor, 0, tensor.n_rows), np.uint8)
            writer.write(dequantize_rows(tensor.type, stored.reshape(tensor.n_rows, -1)).tobytes())


@pytest.mark.parametrize("n_kept", [0, 1, 3])
def test_a_reference_reads_the_text_once_for_many_models(
    pair: tuple[Path, Path], text: Path, tmp_path: Path, n_kept: int
) -> None:
    n_vocab = len(GgufFile.open(pair[0]).get("tokenizer.ggml.tokens"))
    chunk_bytes = (N_CTX // 2 - 1) * n_vocab * 4
    reference = finish(
        Reference.open(
            str(pair[0]),
            str(text),
            3,
            N_CTX,
            most_kept_bytes=n_kept * chunk_bytes + chunk_bytes // 2,
            folder=tmp_path,
        )
    )
    try:
        first = finish(reference.compare(str(pair[1])))
        assert finish(reference.compare(str(pair[1]))) == first
        assert finish(reference.compare(str(pair[0]))).kld_max < 1e-9
        assert (
            finish(reference.compare(str(pair[1]))) == first == compare(pair[1], pair[0], text, 3)
        )
    finally:
        reference.close()
    assert set(tmp_path.iterdir()) == {text}  # nothing is left


def test_a_reference_without_a_disk_computes_again(
    pair: tuple[Path, Path], text: Path, tmp_path: Path
) -> None:
    opening = Reference.open(str(pair[0]), str(text), 2, N_CTX, folder=tmp_path / "none")
    reference = finish(opening)
    try:
        first = finish(reference.compare(str(pair[1])))
        assert finish(reference.compare(str(pair[1]))) == first
    finally:
        reference.close()


def test_a_comparison_that_was_stopped_can_be_made_again(
    pair: tuple[Path, Path], text: Path
) -> None:
    reference = finish(Reference.open(str(pair[0]), str(text), 4, N_CTX))
    try:
        for stage, n_done in (
            ("Reading the text", N_CTX),
            *(("Comparing", n * N_CTX) for n in range(3)),
        ):
            steps = reference.compare(str(pair[1]))
            step = next(steps)
            while not (isinstance(step, Progress) and step.stage == stage and step.done >= n_done):
                step = next(steps)
            steps.close()
        assert finish(reference.compare(str(pair[1]))) == compare(pair[1], pair[0], text, 4)
    finally:
        reference.close()


def test_a_full_disk_keeps_what_it_had_room_for(tmp_path: Path) -> None:
    chunks = [np.full((3, 5), i, np.float32) for i in range(3)]
    kept = KeptLogits(3, 5, 2 * chunks[0].nbytes, tmp_path)
    for chunk in chunks:
        kept.append(chunk)
    assert kept.n == 2
    for i in range(2):
        np.testing.assert_array_equal(kept.read(i), chunks[i])
    assert kept.read(2) is None
    kept.close()
    assert kept.read(0) is None


def test_a_narrower_kv_cache_costs_more(pair: tuple[Path, Path], text: Path) -> None:
    reference = finish(Reference.open(str(pair[0]), str(text), 2, N_CTX))
    try:
        kinds: tuple[KvType, ...] = ("f16", "q8_0", "q4_0")
        reports = [finish(reference.compare(str(pair[0]), kind)) for kind in kinds]
    finally:
        reference.close()
    assert [report.kv_type for report in reports] == list(kinds)
    full, half, quarter = (report.kld_mean for report in reports)
    assert full < 1e-9 < half < quarter / 3


def test_a_short_text_is_refused(pair: tuple[Path, Path], tmp_path: Path) -> None:
    text = tmp_path / "short.txt"
    text.write_text("Once upon a time.", encoding="utf-8")
    with pytest.raises(InferenceError, match="too short"):
        compare(pair[1], pair[0], text)


def test_a_missing_text_is_named(pair: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.txt"):
        compare(pair[1], pair[0], tmp_path / "none.txt")


def test_a_checkpoint_is_to_be_converted_first(
    pair: tuple[Path, Path], text: Path, tiny_checkpoint: Path
) -> None:
    with pytest.raises(FormatError, match="checkpoint folder") as caught:
        compare(pair[1], tiny_checkpoint, text)
    assert "Convert it" in caught.value.hint


def test_other_vocabularies_cannot_be_compared(
    pair: tuple[Path, Path], text: Path, tmp_path: Path
) -> None:
    padded = write_tiny_checkpoint(tmp_path / "padded", n_pad=5)
    other = tmp_path / "other.gguf"
    finish(Convert(str(padded), str(other), "f16").run())
    assert len(GgufFile.open(other).get("tokenizer.ggml.tokens")) > 5
    with pytest.raises(FormatError, match="different vocabularies"):
        compare(other, pair[0], text)


def test_progress_is_in_tokens_and_a_cancel_is_quick(pair: tuple[Path, Path], text: Path) -> None:
    steps = Quality(str(pair[1]), str(pair[0]), str(text), n_ctx=N_CTX).run()
    step = next(steps)
    while not (isinstance(step, Progress) and step.stage == "Comparing" and step.done):
        step = next(steps)
    assert step.unit == "tokens"
    assert step.total is not None
    assert step.total % N_CTX == 0
    started = time.monotonic()
    steps.close()
    assert time.monotonic() - started < 30  # it ends at all


@pytest.mark.parametrize(
    ("kld_mean", "words"),
    [
        (0.0, "practically identical"),
        (0.003, "nearly identical"),
        (0.0149, "nearly identical"),
        (0.015, "very close"),
        (0.05, "noticeably different"),
        (0.15, "clearly worse"),
    ],
)
def test_verdicts(kld_mean: float, words: str) -> None:
    assert verdict(kld_mean) == words
