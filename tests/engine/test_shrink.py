"""Shrinking gives the bytes of llama-quantize (quantized_cases.py) and nothing half-written."""

from __future__ import annotations

import platform
from pathlib import Path

import msgspec
import pytest

from engine.convert.job import Convert
from engine.errors import AlreadyExists, CorruptFile, NotFound, UnsupportedTensor
from engine.ggml_types import FileType, GgmlType
from engine.gguf import GgufFile
from engine.jobs import Progress, finish
from engine.quantize.plan import plan
from engine.quantize.recipe import RECIPES
from engine.quantize.shrink import Shrink, Shrunk
from engine.source import open_source
from tests.engine.quantized_cases import REAL_MODELS, RECORDED, TYPES, digest, write_source

ANSWERS = msgspec.json.decode(RECORDED.read_bytes(), type=dict[str, dict[str, str]])
# Elsewhere the compiler fuses multiplications with additions, which changes last bits.
recorded_bytes = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="recorded on x86-64"
)


def shrink(source: Path, out: Path, recipe: str | None, n_threads: int = 2) -> Shrunk:
    return finish(Shrink(str(source), str(out), recipe, n_threads).run())


@recorded_bytes
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("stored", TYPES, ids=lambda stored: stored.name)
def test_bytes_are_those_of_llama_quantize(tmp_path: Path, stored: GgmlType, recipe: str) -> None:
    source = write_source(tmp_path / "source.gguf", stored)
    done = shrink(source, tmp_path / "out.gguf", recipe)
    assert digest(tmp_path / "out.gguf") == ANSWERS[f"seeded {stored.name}"][recipe]
    assert done.size_bytes == (tmp_path / "out.gguf").stat().st_size
    assert done.source_bytes == source.stat().st_size


@recorded_bytes
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("model", REAL_MODELS)
def test_bytes_of_real_checkpoints(tmp_path: Path, shared: Path, model: str, recipe: str) -> None:
    """No 16-bit file in between: the same bytes as from a GGUF of the checkpoint's own type."""
    source = shared / "models" / model
    done = shrink(source, tmp_path / "out.gguf", recipe)
    stored = next(t.type for t in open_source(source).tensors if len(t.shape) > 1)
    assert digest(tmp_path / "out.gguf") == ANSWERS[f"{model} {stored.name}"][recipe]
    assert done.size_bytes == (tmp_path / "out.gguf").stat().st_size


@recorded_bytes
@pytest.mark.parametrize("stored", TYPES, ids=lambda stored: stored.name)
def test_bytes_of_a_checkpoint_and_of_the_file_made_from_it(
    tmp_path: Path, tiny_checkpoint: Path, stored: GgmlType
) -> None:
    middle = tmp_path / "middle.gguf"
    finish(Convert(str(tiny_checkpoint), str(middle), stored.name.lower()).run())
    shrink(middle, tmp_path / "out.gguf", "Q4_K_M")
    assert digest(tmp_path / "out.gguf") == ANSWERS[f"tiny {stored.name}"]["Q4_K_M"]
    if stored is GgmlType.BF16:  # the checkpoint's own type
        shrink(tiny_checkpoint, tmp_path / "straight.gguf", "Q4_K_M")
        assert digest(tmp_path / "straight.gguf") == digest(tmp_path / "out.gguf")


def test_threads_change_nothing(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source.gguf", GgmlType.F16)
    for n_threads in (1, 3):
        shrink(source, tmp_path / f"{n_threads}.gguf", "Q4_K_M", n_threads)
    assert (tmp_path / "1.gguf").read_bytes() == (tmp_path / "3.gguf").read_bytes()


def test_metadata_is_kept_and_stamped(tmp_path: Path) -> None:
    source = GgufFile.open(write_source(tmp_path / "source.gguf", GgmlType.BF16))
    shrink(source.path, tmp_path / "out.gguf", "q4_k_m")
    out = GgufFile.open(tmp_path / "out.gguf")
    assert out.get("general.file_type") == FileType.Q4_K_M
    assert out.get("general.quantization_version") == 2
    stamps = {"general.file_type", "general.quantization_version"}
    kept = [item for item in out.metadata.items() if item[0] not in stamps]
    dropped = stamps | {"split.count"}
    assert kept == [item for item in source.metadata.items() if item[0] not in dropped]


def test_the_size_is_known_before(tmp_path: Path) -> None:
    source = open_source(write_source(tmp_path / "source.gguf", GgmlType.F16))
    for recipe in RECIPES.values():
        known = plan(source, recipe)
        done = shrink(tmp_path / "source.gguf", tmp_path / f"{recipe.name}.gguf", recipe.name)
        assert known.size_bytes == done.size_bytes
        assert known.bits_per_weight == done.bits_per_weight
    source.close()


def test_progress_reaches_the_total(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source.gguf", GgmlType.F32)
    steps: list[Progress] = []
    finish(Shrink(str(source), str(tmp_path / "out.gguf"), "Q8_0").run(), steps.append)  # type: ignore[arg-type]
    shrinking = [step for step in steps if step.stage == "Shrinking"]
    assert [step.done for step in shrinking] == sorted(step.done for step in shrinking)
    assert shrinking[-1].done == shrinking[-1].total


def test_a_cancelled_job_leaves_nothing(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source.gguf", GgmlType.F16)
    steps = Shrink(str(source), str(tmp_path / "out.gguf"), "Q5_K_M", 2).run()
    while next(steps).stage != "Shrinking":
        pass
    assert (tmp_path / "out.gguf.partial").exists()
    steps.close()
    assert [path.name for path in tmp_path.iterdir()] == ["source.gguf"]


def test_without_a_recipe_the_recommended_one_is_taken(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source.gguf", GgmlType.F16)
    assert shrink(source, tmp_path / "out.gguf", None).recipe == "Q8_0"


def test_a_quantized_source_is_refused(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source.gguf", GgmlType.F16)
    shrink(source, tmp_path / "once.gguf", "Q8_0")
    with pytest.raises(UnsupportedTensor, match="quantized already") as caught:
        shrink(tmp_path / "once.gguf", tmp_path / "twice.gguf", "Q4_K_M")
    assert "original" in caught.value.hint
    assert not (tmp_path / "twice.gguf").exists()


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("recipe", ["Q8_0", "Q4_K_M"])
def test_numbers_that_are_none_are_found_and_named(
    tmp_path: Path, broken: float, recipe: str
) -> None:
    source = write_source(tmp_path / "source.gguf", GgmlType.F32, broken)
    with pytest.raises(CorruptFile, match=r"blk\.1\.ffn_down\.weight"):
        shrink(source, tmp_path / "out.gguf", recipe)
    assert [path.name for path in tmp_path.iterdir()] == ["source.gguf"]


def test_broken_numbers_in_a_copied_tensor_are_found(tmp_path: Path) -> None:
    """The last tensor has rows of 44: F16 stays F16, and is checked all the same."""
    source = write_source(tmp_path / "source.gguf", GgmlType.F16, float("nan"))
    with pytest.raises(CorruptFile, match=r"blk\.1\.ffn_down\.weight"):
        shrink(source, tmp_path / "out.gguf", "Q8_0")


def test_an_existing_file_is_kept_unless_asked(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source.gguf", GgmlType.F16)
    out = tmp_path / "out.gguf"
    out.write_text("precious")
    with pytest.raises(AlreadyExists):
        shrink(source, out, "Q8_0")
    assert out.read_text() == "precious"
    finish(Shrink(str(source), str(out), "Q8_0", overwrite=True).run())
    assert GgufFile.open(out).tensors


def test_the_source_is_never_replaced(tmp_path: Path) -> None:
    source = write_source(tmp_path / "source.gguf", GgmlType.F16)
    before = source.read_bytes()
    (tmp_path / "link.gguf").symlink_to(source)
    for out in (source, tmp_path / "link.gguf"):
        with pytest.raises(AlreadyExists, match="cannot replace"):
            finish(Shrink(str(source), str(out), "Q8_0", overwrite=True).run())
    assert source.read_bytes() == before


def test_a_missing_source_or_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="missing"):
        shrink(tmp_path / "missing.gguf", tmp_path / "out.gguf", "Q8_0")
    source = write_source(tmp_path / "source.gguf", GgmlType.F16)
    with pytest.raises(NotFound, match="nowhere"):
        shrink(source, tmp_path / "nowhere" / "out.gguf", "Q8_0")
