"""Snug's converter against llama.cpp's own, tensor by tensor and key by key, and against
transformers: tiny checkpoints of every architecture (tests/helpers/upstream.py).
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.convert.job import Convert
from engine.gguf import Array, GgufFile, Value, ValueType
from engine.jobs import finish
from tests.helpers.llama_logits import exact_logits
from tests.helpers.upstream import (
    FLOAT_TYPES,
    Stored,
    Written,
    case_names,
    load_case,
    weights,
    write_checkpoint,
)
from tests.record.recipe import stored
from tests.record.recipes import RECIPES

CASES = case_names()
LONGEST_ARRAY = 64
TOLERANCE = 1e-4
"""Of the logits, relative to the largest."""

# Expressions for cases and keys that Snug leaves out, adds or writes otherwise -> why.
DELIBERATE = {
    ("mistral-sliding-window|starcoder2", r"\w+\.context_length"): "llama.cpp knows no window here",
    ("glm", r"chatglm\.(context_length|attention\.\w+)"): "upstream looks for them elsewhere",
    ("minicpm.*", r"\w+\.rope\.freq_base"): "what is not said is 10,000 for both",
    ("qwen35|qwen35-moe.*", r"\w+\.(block_count|nextn_predict_layers|attention.recurrent_layers)"):
        "layers that predict further tokens are left out",
    ("qwen35|qwen35-moe.*", r"general\.size_label"): "layers that are left out do not count",
    ("gpt-oss.*|phi4-mini", r"tokenizer\.ggml\.pre"): "upstream's tears marks off their letters",
    ("yi", r"tokenizer\.ggml\.(add_space_prefix|unknown_token_id)"): "tokenizer.model says so",
    ("mistral-nemo", r"tokenizer\.ggml\.add_space_prefix"): "a byte-level BPE does not look at it",
    ("glm.*", r"tokenizer\.ggml\.eom_token_id"): "a turn ends with any of three tokens",
    ("gemma", r"tokenizer\.ggml\.eot_token_id"): "upstream's is a number that fits one vocabulary",
    ("llama-without-model", r"tokenizer\.ggml\.(scores|token_type)"): "upstream loses the merges",
    ("gemma4.*", r"tokenizer\.ggml\.token_type"): "special tokens are so unnamed as well",
    ("gemma3.*", r"tokenizer\.ggml\.(tokens|scores|token_type)"):
        "upstream does not see tokens that only tokenizer.json names",
}  # fmt: skip
# The same of tensors.
LEFT_OUT = {
    ("qwen35|qwen35-moe.*", r"blk\.4\..*"): "layers that predict further tokens are left out",
}
# Cases in which llama.cpp is further from transformers than TOLERANCE on upstream's file too -> how
# far it may be, and why.
FAR: dict[str, tuple[float, str]] = {
    "deepseek2": (0.1, "it chooses groups of experts by their two best, where V2 goes by the best"),
    "gpt-oss": (0.02, "it multiplies MXFP4 with activations of 8 bits, and rounds YaRN's ramp"),
}


@pytest.mark.parametrize("float_type", FLOAT_TYPES)
@pytest.mark.parametrize("name", CASES)
def test_tensors_and_keys_are_those_of_upstream(name: str, float_type: str, tmp_path: Path) -> None:
    case = load_case(name)
    model = convert(write_checkpoint(case, tmp_path / "Tiny"), float_type)
    assert differing_keys(name, model, dict(case.keys)) == {}
    assert model.get("general.file_type") == case.file_types[FLOAT_TYPES.index(float_type)]
    ours = {
        tensor.name: (
            tensor.shape,
            tensor.type.name,
            hashlib.sha256(model.raw(tensor, 0, tensor.n_rows)).hexdigest()[:16],
        )
        for tensor in model.tensors
    }
    theirs = {n: (w.shape, *w.of(float_type)) for n, w in wanted(name, case.written).items()}
    assert ours == theirs


@pytest.mark.parametrize("name", [name for name in CASES if load_case(name).saved_config])
def test_a_config_of_transformers_5_says_the_same(name: str, tmp_path: Path) -> None:
    case = load_case(name)
    model = convert(write_checkpoint(case, tmp_path / "Tiny", saved=True), "f32")
    changed = {**case.keys, **case.saved_config_keys}
    assert differing_keys(name, model, {k: v for k, v in changed.items() if v is not None}) == {}
    assert {tensor.name for tensor in model.tensors} == set(wanted(name, case.written))


@pytest.mark.parametrize("name", [name for name in CASES if load_case(name).deviation is not None])
def test_llama_cpp_computes_the_logits_of_transformers(name: str, tmp_path: Path) -> None:
    case = load_case(name)
    model = convert(write_checkpoint(case, tmp_path / "Tiny"), "f32")
    logits = exact_logits(model.path, case.prompt)[list(case.positions)]
    allowed, _why = FAR.get(name, (TOLERANCE, ""))
    assert np.abs(logits - case.logits).max() <= allowed * np.abs(case.logits).max()


def convert(checkpoint: Path, float_type: str) -> GgufFile:
    out = checkpoint.parent / f"{float_type}.gguf"
    finish(Convert(str(checkpoint), str(out), float_type).run())
    return GgufFile.open(out)


def differing_keys(
    case: str, model: GgufFile, theirs: dict[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """The keys that are not the same: what Snug wrote, what upstream wrote; None for nothing."""
    ours = {name: recorded(value) for name, value in model.metadata.items()}
    ours.pop("general.file_type")
    return {
        name: (ours.get(name), theirs.get(name))
        for name in {**theirs, **ours}
        if ours.get(name) != theirs.get(name) and not is_listed(DELIBERATE, case, name)
    }


def wanted(case: str, theirs: dict[str, Written]) -> dict[str, Written]:
    """The tensors of upstream that Snug writes too."""
    return {n: written for n, written in theirs.items() if not is_listed(LEFT_OUT, case, n)}


def is_listed(table: dict[tuple[str, str], str], case: str, name: str) -> bool:
    return any(re.fullmatch(c, case) and re.fullmatch(n, name) for c, n in table)


def recorded(value: Value) -> tuple[str, Any]:
    """A value in the notation of the recorder: of a long array its length and digest."""
    array = value.value
    if not isinstance(array, Array):
        return value.type.name, array
    item_type = array.item_type.name
    if len(array) <= LONGEST_ARRAY:
        return value.type.name, [item_type, list(array)]
    payload = array.payload
    if array.item_type is ValueType.STRING:
        payload = b"".join(text.encode("utf-8", "surrogateescape") + b"\0" for text in array)
    return value.type.name, [item_type, len(array), hashlib.sha256(payload).hexdigest()[:16]]


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_the_recipe_is_the_one_that_was_recorded(name: str) -> None:
    case, recipe = load_case(name), RECIPES[name]
    asked = recipe.config, recipe.generation_config, recipe.tokenizer
    assert json.loads(json.dumps(asked)) == [case.config, case.generation_config, case.tokenizer]
    assert case.tensors == {n: stored(recipe, n, t.shape) for n, t in case.tensors.items()}
    assert case.logits.shape[0] == len(case.positions)
    assert np.isfinite(case.logits).all()


def test_nothing_is_recorded_without_a_recipe() -> None:
    assert set(CASES) == set(RECIPES)


def test_weights_do_not_depend_on_the_library() -> None:
    """Recorded digests would be worth nothing if numpy drew other numbers."""
    values = weights("a.weight", Stored("F32", (2, 3), 1.0, 0.5))
    assert values.tolist() == [
        [1.1459589004516602, 1.2806298732757568, 1.1017744541168213],
        [0.6758807897567749, 1.3907636404037476, 0.6732363104820251],
    ]
