"""Folds leave a model as it is: its logits in F32, of a tiny checkpoint of every architecture."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.convert.architectures import ARCHITECTURES
from engine.convert.job import Convert
from engine.ggml_types import GgmlType
from engine.gguf import GgufFile, TensorInfo, Value
from engine.jobs import finish
from engine.model_writer import Plan, write_model
from engine.quantize.fold import Columns, Fold, Folded, FoldedSource, FoldedStatistics, Span
from engine.quantize.folds import folds_of
from tests.helpers.input_statistics import Inputs
from tests.helpers.llama_logits import exact_logits
from tests.helpers.upstream import case_names, load_case, write_checkpoint

TOLERANCE = 1e-5
"""Of the logits, relative to the largest."""
# ggml looks GELU up in a table of 16-bit numbers, where another last bit can be another entry.
FAR = r"gemma.*|phi2|starcoder2", 1e-4
BROKEN = 5e-3
"""How far the logits are at least when a fold forgets a tensor."""

USUAL = "attn_norm attn_v ffn_norm ffn_up "
LATENT = "attn_q_a_norm attn_kv_a_norm "
# The folds of each case; the output is folded where it is a matrix of its own.
KINDS = {
    "cohere.*": "attn_norm attn_v ffn_up",  # tied, and one norm for attention and network
    "deepseek2.*|deepseek3": USUAL + LATENT + "ffn_up_exps ffn_up_shexp output_norm",
    "gemma|gemma[23].*|granite|llama-3|minicpm|phi4-mini|qwen2|qwen2-yarn|qwen3|smollm3": USUAL,
    "gemma4.*": "attn_norm ffn_norm ffn_up pre_ffw_norm_2 ffn_gate_up_exps",  # values are normed
    "gpt-oss": "attn_norm attn_v output_norm",  # the experts are quantized and stay so
    "gpt-oss-bf16": "attn_norm attn_v post_attention_norm output_norm",  # up is clamped
    "granite-moe.*": USUAL + "ffn_up_exps ffn_up_shexp",
    "minicpm3": USUAL + LATENT,
    "mixtral|olmoe|qwen[23]-moe": USUAL + "ffn_up_exps ffn_up_shexp output_norm",
    "olmo[23]": "attn_v ffn_up output_norm",  # its norms come after
    "phi2": "attn_norm attn_v output_norm",  # no gate, and one norm for attention and network
    "starcoder2": "attn_norm attn_v ffn_norm",  # no gate
    "qwen35.*": "attn_norm attn_v ssm_norm post_attention_norm ffn_up ffn_up_exps ffn_up_shexp"
    " output_norm",
    "glm.*|llama-.*|minicpm-.*|mistral.*|phi3.*|phi4|stablelm.*|yi": USUAL + "output_norm",
}
# Those of the above that are there only where a case has such a tensor.
SOME = {
    *("attn_q_a_norm", "ffn_norm", "ffn_up", "ffn_up_exps", "ffn_up_shexp", "ffn_gate_up_exps"),
    *("pre_ffw_norm_2", "output_norm"),
}


@pytest.mark.parametrize("name", case_names())
def test_a_folded_model_has_the_same_logits(name: str, tmp_path: Path) -> None:
    model, prompt = converted(name, tmp_path)
    folded = random_scales(folds_of(model.metadata, model.tensors))
    expected = exact_logits(model.path, prompt)
    allowed = FAR[1] if re.fullmatch(FAR[0], name) else TOLERANCE

    def deviation(some: Sequence[Folded]) -> float:
        difference = logits(model, some, prompt) - expected
        return float(np.abs(difference).max() / np.abs(expected).max())

    for kind in dict.fromkeys(each.fold.kind for each in folded):
        some = [each for each in folded if each.fold.kind == kind]
        assert deviation(some) <= allowed, kind
        for stem in dict.fromkeys(stem_of(name) for each in some for name in each.fold.tensors):
            broken = [Folded(without(fold, stem), scales) for fold, scales, *_ in some]
            assert deviation(broken) >= BROKEN, f"{kind} without {stem}"
    assert deviation(folded) <= allowed


@pytest.mark.parametrize("name", case_names())
def test_the_folds_of_each_architecture(name: str, tmp_path: Path) -> None:
    model, _ = converted(name, tmp_path)
    kinds = next(kinds for case, kinds in KINDS.items() if re.fullmatch(case, name)).split()
    names = {stem_of(tensor.name).partition(".")[0] for tensor in model.tensors}
    if "output" not in names:
        names.discard("output_norm")
    expected = {kind for kind in kinds if kind in names or kind not in SOME}
    folds = folds_of(model.metadata, model.tensors)
    assert {fold.kind for fold in folds} == expected
    n_layers = model.metadata[f"{model.metadata['general.architecture'].value}.block_count"].value
    layers = {int(fold.name.split(".")[1]) for fold in folds if fold.name.startswith("blk.")}
    assert layers == set(range(n_layers))


def test_every_architecture_that_is_converted_has_a_case(tmp_path: Path) -> None:
    found = {str(load_case(name).keys["general.architecture"][1]) for name in case_names()}
    assert {architecture.name for architecture in ARCHITECTURES} == found


def test_what_is_not_known_has_no_folds() -> None:
    tensors = [matrix("blk.0.attn_q.weight", 8, 8), vector("blk.0.attn_norm.weight", 8)]
    assert folds_of({"general.architecture": Value.string("mamba")}, tensors) == ()
    assert folds_of({}, tensors) == ()
    known = folds_of(llama(1), tensors)
    assert [fold.name for fold in known] == ["blk.0.attn_norm"]
    quantized = [matrix("blk.0.attn_q.weight", 32, 8, GgmlType.Q8_0), tensors[1]]
    assert folds_of(llama(1), quantized) == ()


@pytest.mark.parametrize("n_heads", [-1, 0, 1, 3, 2**31])
@pytest.mark.parametrize("n_kv_heads", [-1, 0, 1, 5, 2**31])
def test_sizes_that_do_not_fit_give_no_folds(n_heads: int, n_kv_heads: int) -> None:
    metadata = {
        **llama(1),
        "llama.attention.head_count": Value.u32(n_heads),
        "llama.attention.head_count_kv": Value.u32(n_kv_heads),
    }
    tensors = [
        vector("blk.0.attn_norm.weight", 7),
        *(matrix(f"blk.0.attn_{part}.weight", 8, 8) for part in ("v", "output")),
        *(matrix(f"blk.0.ffn_{part}.weight", 8, 4) for part in ("gate", "up", "down")),
    ]
    for fold in folds_of(metadata, tensors):
        assert fold.name == "blk.0.attn_v"
        assert (n_heads, n_kv_heads) == (1, 1)


def test_layers_that_predict_further_tokens_are_left_alone() -> None:
    tensors = [
        vector("output_norm.weight", 8),
        matrix("output.weight", 8, 16),
        *(vector(f"blk.{i}.attn_norm.weight", 8) for i in range(2)),
        *(matrix(f"blk.{i}.attn_q.weight", 8, 8) for i in range(2)),
        vector("blk.1.nextn.hnorm.weight", 8),
    ]
    metadata = llama(2) | {"llama.nextn_predict_layers": Value.u32(1)}
    assert [fold.name for fold in folds_of(metadata, tensors)] == ["blk.0.attn_norm"]


def test_statistics_are_those_of_the_folded_model() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 50, 12)).astype(np.float32)
    statistics = Inputs({"down": x, "other": x})
    fold = Fold("f", 6, (Columns("down", 1),), (Span("up", 0, 6),), n_sharing=2, run=3)
    scales = rng.uniform(0.3, 3, 6).astype(np.float32)
    tensors = [matrix("down", 12, 4, n_matrices=2), matrix("up", 4, 12), matrix("other", 12, 4)]
    seen = FoldedStatistics(statistics, tensors, [Folded(fold, scales)])
    columns = np.concatenate([scales[:3], scales[:3], scales[3:], scales[3:]])
    expected = Inputs({"down": np.stack([x[0], x[1] / columns])})
    for i in range(2):
        assert_close(seen.second_moment("down", i), expected.second_moment("down", i))
        blocks = seen.second_moment_blocks("down", i)
        assert blocks is not None
        assert len(blocks) == 2
        theirs = expected.second_moment_blocks("down", i)
        assert theirs is not None
        assert_close(blocks[1], theirs[1])
        assert_close(seen.held_out("down", i), expected.held_out("down", i))
    assert_close(seen.importance("down"), expected.importance("down"))
    assert seen.n_tokens("down").tolist() == statistics.n_tokens("down").tolist()
    assert seen.importance("other") is statistics.importance("other")
    for nothing in (seen.importance, seen.second_moment, seen.second_moment_blocks):
        assert nothing("never seen") is None


def converted(name: str, tmp_path: Path) -> tuple[GgufFile, Sequence[int]]:
    case, out = load_case(name), tmp_path / "model.gguf"
    finish(Convert(str(write_checkpoint(case, tmp_path / "Tiny")), str(out), "f32").run())
    return GgufFile.open(out), case.prompt


def random_scales(folds: Sequence[Fold]) -> list[Folded]:
    rng = np.random.default_rng(0)
    low, high = np.log(0.3), np.log(3)
    return [
        Folded(fold, np.exp(rng.uniform(low, high, fold.n_channels)).astype(np.float32))
        for fold in folds
    ]


def logits(model: GgufFile, folded: Iterable[Folded], prompt: Sequence[int]) -> NDArray[np.float32]:
    """Of the model with folds applied, written to a file and run."""
    source = FoldedSource(model, folded)
    tensors = tuple(source.tensors)
    out = model.path.with_name("folded.gguf")
    plan = Plan(dict(source.metadata), tensors, tensors, only_finite=True)
    finish(write_model(source, plan, str(out), "Folding", 1, overwrite=True))
    return exact_logits(out, prompt)


def without(fold: Fold, stem: str) -> Fold:
    """The fold when it forgets the tensors called `stem`."""
    return msgspec.structs.replace(
        fold,
        columns=tuple(part for part in fold.columns if stem_of(part.tensor) != stem),
        divided=tuple(span for span in fold.divided if stem_of(span.tensor) != stem),
        multiplied=tuple(span for span in fold.multiplied if stem_of(span.tensor) != stem),
    )


def stem_of(name: str) -> str:
    return re.sub(r"^blk\.\d+\.", "", name)


def llama(n_layers: int) -> dict[str, Value]:
    return {
        "general.architecture": Value.string("llama"),
        "llama.block_count": Value.u32(n_layers),
    }


def vector(name: str, n: int) -> TensorInfo:
    return TensorInfo(name, (n,), GgmlType.F32)


def matrix(
    name: str, n_cols: int, n_rows: int, kind: GgmlType = GgmlType.F16, n_matrices: int = 1
) -> TensorInfo:
    return TensorInfo(name, (n_cols, n_rows, n_matrices), kind)


def assert_close(ours: NDArray[np.float32] | None, theirs: NDArray[np.float32] | None) -> None:
    assert ours is not None
    assert theirs is not None
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
