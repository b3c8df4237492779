"""The ladder of the named methods: each makes a file, all are judged alike, nothing is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import FormatError
from engine.jobs import finish
from engine.quantize.ladder import Ladder, Rungs
from engine.quantize.methods import METHODS
from engine.quantize.plan import plan
from engine.quantize.recipe import RECIPES
from engine.source import open_source
from tests.helpers.checkpoints import write_tiny_checkpoint

WORDS = "Once upon a time there was a little boy who loved to play with his friend in the day. "


pytestmark = pytest.mark.timeout(600)  # eleven models are made


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In 32 bits, which no 16-bit file in between may narrow."""
    folder = tmp_path_factory.mktemp("source") / "Tiny"
    return write_tiny_checkpoint(folder, n_layers=1, ffn=256, dtype="F32")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text(WORDS * 60, encoding="utf-8")
    return path


def ladder(source: Path, text: Path, folder: Path, methods: tuple[str, ...] = ()) -> Ladder:
    folder.mkdir()
    return Ladder(
        source=str(source),
        text=str(text),
        methods=methods,
        recipe="Q3_K_M",
        effort="fast",
        texts=(str(text),),
        chunks=2,
        n_ctx=64,
        folder=str(folder),
        n_threads=1,
    )


@pytest.fixture(scope="module")
def found(source: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Rungs:
    """All methods; that a model was compared means that llama.cpp has loaded it."""
    folder = tmp_path_factory.mktemp("ladder") / "work"
    found = finish(ladder(source, text, folder).run())
    assert list(folder.iterdir()) == []
    return found


def test_every_method_is_there_in_order(found: Rungs) -> None:
    assert [rung.method for rung in found.rungs] == [method.name for method in METHODS]
    assert all(rung.quality.kld_mean > 0 for rung in found.rungs)
    assert len({rung.quality.kld_mean for rung in found.rungs}) >= len(METHODS) - 1


def test_sizes_are_those_of_the_types(found: Rungs, source: Path) -> None:
    model = open_source(source)
    assert found.size_bytes == plan(model, RECIPES["Q3_K_M"]).size_bytes
    sizes = {rung.method: rung.size_bytes for rung in found.rungs}
    for method in METHODS:
        if not method.chooses_types:
            recipe = method.recipe or RECIPES["Q3_K_M"]
            assert sizes[method.name] == plan(model, recipe).size_bytes
    model.close()
    assert sizes["mixed"] <= found.size_bytes


def test_eight_bits_are_better_than_four(found: Rungs) -> None:
    kld = {rung.method: rung.quality.kld_mean for rung in found.rungs}
    assert max(kld["int8"], kld["smoothquant"]) < min(kld["rtn"], kld["hqq"], kld["nf4"])


def test_the_best_of_that_size_is_tried_with_each_cache(found: Rungs) -> None:
    by_name = {rung.method: rung for rung in found.rungs}
    best = by_name[found.best]
    assert best.size_bytes <= found.size_bytes
    allowed = [rung for rung in found.rungs if rung.size_bytes <= found.size_bytes]
    assert best.quality.kld_mean == min(rung.quality.kld_mean for rung in allowed)
    assert found.kv_caches[0] == best.quality
    assert [cache.kv_type for cache in found.kv_caches] == ["f16", "q8_0", "q4_0"]
    assert found.kv_caches[2].kld_mean > found.kv_caches[0].kld_mean


def test_some_methods_only(source: Path, text: Path, tmp_path: Path) -> None:
    """In the order of the ladder; without a calibrated one nothing is calibrated."""
    steps = ladder(source, text, tmp_path / "work", ("int8", "rtn")).run()
    stages = []
    rungs = finish(steps, lambda step: stages.append(getattr(step, "stage", ""))).rungs
    assert [rung.method for rung in rungs] == ["rtn", "int8"]
    assert "Calibrating" not in stages
    with pytest.raises(FormatError, match="no method named"):
        finish(ladder(source, text, tmp_path / "other", ("awk",)).run())


@pytest.mark.parametrize("stage", ["Calibrating", "Folding", "Comparing", "Finding out what"])
def test_a_cancelled_one_leaves_nothing(
    source: Path, text: Path, tmp_path: Path, stage: str
) -> None:
    steps = ladder(source, text, tmp_path / "work", ("awq", "mixed")).run()
    for step in steps:
        if getattr(step, "stage", "").startswith(stage):
            break
    assert list((tmp_path / "work").iterdir()) != []
    steps.close()
    assert list((tmp_path / "work").iterdir()) == []
