"""The `general.*` keys are those that llama.cpp's converter writes, and no file can spoil them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.checkpoint import Checkpoint
from engine.convert.general import general_metadata
from engine.convert.job import Convert
from engine.convert.model_card import read_model_card
from engine.convert.model_name import split_name, title
from engine.ggml_types import GgmlType
from engine.gguf import GgufFile
from engine.gguf_values import Array, TensorInfo, Value, encode
from engine.inspect import describe
from engine.jobs import finish
from tests.helpers.checkpoints import write_tiny_checkpoint

# Recorded by tests/record/general.py; "keys" is null where upstream stops.
CASES: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "general.json").read_text(encoding="utf-8")
)

FIXTURES = [HealthCheck.function_scoped_fixture]

# Where Snug differs, for the reasons that engine/convert/general.py gives.
CARD_NAMED = {"name": "Some 8B v1", "version": "v1", "basename": "Some", "size_label": "8B"}
CARD_MIT = {**CARD_NAMED, "license": "mit"}
FROM_FOLDER = {"name": "Folder 8B v2", "version": "v2", "basename": "Folder", "size_label": "8B"}
USUAL_CARD = CASES["path /model"]["keys"]
DIFFERENT: dict[str, dict[str, Any]] = {
    # An empty text is none, so that the next source is asked.
    "name owner/ 8000000000": {**CASES["name owner/ 8000000000"]["keys"], "name": "Model"},
    "name owner/ 135000000": {**CASES["name owner/ 135000000"]["keys"], "name": "Model"},
    "path ": {**USUAL_CARD, **FROM_FOLDER},
    "card empty texts": {**CARD_NAMED, "tags": ["ARRAY", [""]]},
    # The texts of a card are what stands there.
    "card numbers": {**CARD_MIT, "version": "1.0"},
    "card a date": {**CARD_MIT, "version": "2024-06-01"},
    "card truths": {**CARD_NAMED, "name": "true", "license": "no"},
    "card Norwegian alone": {**CARD_MIT, "languages": ["ARRAY", ["no"]]},
    "card Norwegian in a row": {**CARD_NAMED, "languages": ["ARRAY", ["en", "no"]]},
    "card a class": CARD_MIT,
    "card mixed tags": {**CARD_NAMED, "tags": ["ARRAY", ["a", "1", "true"]]},
    # What is damaged is left out and stops nothing.
    "card a document within": CARD_NAMED,
    "card damaged": CARD_NAMED,
    "card damaged elsewhere": CARD_MIT,
    "card not YAML": CARD_NAMED,
    "card not UTF-8": {**CARD_MIT, "author": "\ufffd"},
    "card a lone surrogate": {**CARD_MIT, "author": "?", "tags": ["ARRAY", ["?"]]},
    "card aliases": CARD_NAMED,
    "generation texts": {"name": "Model"},
    "generation fractions": {"name": "Model", "sampling.temp": ["FLOAT32", 0.7]},
    "generation truths": {"name": "Model"},
    "generation huge": {"name": "Model", "sampling.min_p": ["FLOAT32", 0.1]},
    "generation nested": {"name": "Model"},
    "generation a list": {"name": "Model"},
    "generation not a number": {"name": "Model"},
    "path 5": {**USUAL_CARD, **FROM_FOLDER},
    "path ['a/b']": {**USUAL_CARD, **FROM_FOLDER},
}


def keys_of(folder: Path, case: dict[str, Any]) -> dict[str, Any]:
    """What Snug writes, in the recorder's words; files of the case go below `folder`."""
    folder /= case.get("folder", "model")
    files = {"README.md": case.get("card"), "generation_config.json": case.get("generation")}
    for name, text in files.items():
        if text is not None:
            folder.mkdir(exist_ok=True)
            (folder / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    shapes = case.get("tensors", [])
    tensors = [TensorInfo(name, tuple(shape), GgmlType.F32) for name, shape in shapes]
    checkpoint = Checkpoint(folder, case.get("config", {}), {})
    metadata = general_metadata(checkpoint, "llama", tensors)
    assert metadata.pop("general.architecture") == Value.string("llama")
    assert metadata.pop("general.type") == Value.string("model")
    return {key.removeprefix("general."): told(value) for key, value in metadata.items()}


def told(value: Value) -> Any:
    assert encode(value.type, value.value)
    if isinstance(value.value, Array):
        return ["ARRAY", list(value.value)]
    return value.value if isinstance(value.value, str) else [value.type.name, value.value]


@pytest.mark.parametrize("kind", ["name", "card", "generation", "size", "path"])
def test_keys_are_those_of_llama_cpp(kind: str, tmp_path: Path) -> None:
    names = [name for name in CASES if name.startswith(kind)]
    assert len(names) > 5
    ours, theirs = {}, {}
    for i, name in enumerate(names):
        (tmp_path / str(i)).mkdir()
        ours[name] = keys_of(tmp_path / str(i), CASES[name])
        theirs[name] = DIFFERENT.get(name, CASES[name]["keys"])
    assert ours == theirs
    for name in set(names) - set(DIFFERENT):
        assert list(ours[name]) == list(theirs[name])


def test_every_difference_is_one() -> None:
    assert all(CASES[name]["keys"] != keys for name, keys in DIFFERENT.items())
    assert {name for name, case in CASES.items() if case["keys"] is None} <= set(DIFFERENT)


# Names.


def test_a_repository_in_a_download_cache_has_its_own_name(tmp_path: Path) -> None:
    folder = tmp_path / "models--Qwen--Qwen3-0.6B" / "snapshots" / "c1899de289a0"
    keys = keys_of(folder.parent, {"folder": folder.name})
    assert keys == {"name": "Qwen3 0.6B", "basename": "Qwen3", "size_label": "0.6B"}


def test_a_list_keeps_the_name_of_the_folder(tmp_path: Path) -> None:
    folder = write_tiny_checkpoint(tmp_path / "my-tune-v2", _name_or_path="Owner/Tiny-1M")
    assert describe(folder).name == "my-tune-v2"
    finish(Convert(str(folder), str(tmp_path / "a.gguf")).run())
    keys = GgufFile.open(tmp_path / "a.gguf").metadata
    assert keys["general.name"].value == "Tiny 1M"
    assert keys["general.version"].value == "v2"


@settings(deadline=None)
@given(st.text("aAbBkKmMtTxXvVqQ0189.-_/ éⅧ\u212a\ud800", max_size=30), st.integers(0, 1 << 62))
def test_any_name_can_be_taken_apart(name: str, n_params: int) -> None:
    parts = split_name(name, n_params)
    n_words = [part.count("-") + 1 for part in (parts.basename, parts.size_label) if part]
    assert sum(n_words) <= name.count("-") + 1
    assert title(parts.name).split() == title(parts.name).split(" ") or not title(parts.name)


# Cards.

FRAGMENTS = [
    "license: ", "tags:", "base_model:", "datasets: ", "name: ", "description: ", "- ", "[", "]",
    "{", "}", ", ", ": ", "\n", "\n  ", "\n- ", "&a ", "*a", "<<: *a", "!!python/name:os.system ",
    "!!binary ", "!!int ", "'", '"', '"\\ud800"', '"\\UFFFFFFFF"', "|\n", ">-\n", "# x\n", "? ",
    "%YAML 1.1\n", "---\n", "...\n", "\t", "~", "no", "1:1:1", "2024-99-99", "0x", "\0", "é",
    "\ufeff", "https://huggingface.co/a/b-7B", "a/b", "@", "`",
]  # fmt: skip


def card_keys(folder: Path, front_matter: str) -> dict[str, Any]:
    return keys_of(folder, {"folder": "card-8B", "card": f"---\n{front_matter}\n---\n"})


@settings(max_examples=300, deadline=None, suppress_health_check=FIXTURES)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join))
def test_no_card_stops_a_conversion(tmp_path: Path, front_matter: str) -> None:
    assert card_keys(tmp_path, front_matter)["name"]


@pytest.mark.parametrize(
    "front_matter",
    [
        "tags: " + "[" * 30_000,
        "tags: " + "{a: " * 7_000,
        "tags:\n" + "- " * 15_000,
        "tags: " + "[a, " * 7_000,
        "version: " + "9" * 30_000,
        "base_model: [" + "https://huggingface.co/a/b-v1, " * 1_000 + "]",
        "license: &a [x]\nname: &b [*a, *a]\ntags: {<<: [*b, *b]}",
        "author: &a " + "x" * 9_000 + "\ntags: [" + "*a, " * 5_000 + "]",
    ],
    ids=lambda text: text[:20],
)
def test_a_card_takes_no_more_room_than_it_has(tmp_path: Path, front_matter: str) -> None:
    keys = card_keys(tmp_path, front_matter)
    assert keys["name"]
    assert len(json.dumps(keys)) < 200 * (1000 + front_matter.count(","))


def test_results_of_benchmarks_cost_a_card_nothing(tmp_path: Path) -> None:
    results = "model-index:\n- name: x\n  results:\n" + "  - {type: y, value: [1, 2}\n" * 50_000
    keys = card_keys(tmp_path, f"license: mit\n{results}tags:\n- a")
    assert keys["license"] == "mit"
    assert keys["tags"] == ["ARRAY", ["a"]]


def test_a_card_that_is_too_long_is_left_out(tmp_path: Path) -> None:
    assert "license" in card_keys(tmp_path, "license: mit\ntags:" + "\n- a" * 5_000)
    assert "license" not in card_keys(tmp_path, "license: mit\ntags:" + "\n- a" * 10_000)


def test_a_card_that_is_a_folder_is_none(tmp_path: Path) -> None:
    (tmp_path / "README.md").mkdir()
    assert read_model_card(tmp_path, ["license"]) == {}


# Advice on sampling.

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "a", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("a"), inner),
    max_leaves=5,
)
SETTINGS = ["sequence", "temperature", "top_k", "top_p", "repetition_penalty", "mirostat"]


@settings(deadline=None, suppress_health_check=FIXTURES)
@given(st.dictionaries(st.sampled_from(SETTINGS), JSON) | JSON)
def test_no_advice_stops_a_conversion(tmp_path: Path, generation: Any) -> None:
    keys = keys_of(tmp_path, {"generation": json.dumps(generation)})
    assert keys["name"] == "Model"
