"""A shrunk model is never larger than its budget: whatever the source's alignment is."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from engine.errors import TooSmall
from engine.ggml_types import FileType, GgmlType
from engine.gguf import GgufFile, Value, write_gguf
from engine.quantize.allocate import Choice, Item
from engine.quantize.budget import Budget, choosable, least_plan, padded_bytes, plan_within
from engine.quantize.candidates import candidate_types
from engine.source import ModelSource, open_source
from tests.helpers.upstream import load_case, write_checkpoint


@pytest.fixture(scope="module")
def wide(tiny_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> GgufFile:
    """The tiny model with tensors at multiples of 4,096 bytes."""
    path = tmp_path_factory.mktemp("wide") / "wide.gguf"
    with GgufFile.open(tiny_gguf) as source:
        metadata = dict(source.metadata) | {"general.alignment": Value.u32(4096)}
        with write_gguf(path, metadata, source.tensors) as writer:
            for tensor in source.tensors:
                writer.write(source.raw(tensor, 0, tensor.n_rows))
    return GgufFile.open(path)


def items(source: ModelSource) -> list[Item]:
    """All types of all tensors, wider ones of less cost."""
    return [
        Item(
            tensor.name,
            tuple(
                Choice(t, padded_bytes(tensor, t), 1 / padded_bytes(tensor, t))
                for t in candidate_types(tensor, "any", has_importance=True)
            ),
        )
        for tensor in choosable(source)
    ]


def test_a_source_of_large_alignment_stays_in_any_budget(wide: GgufFile, tmp_path: Path) -> None:
    choices = items(wide)
    least, _ = least_plan(wide, choices, Budget(size_bytes=1 << 40))
    most = wide.path.stat().st_size
    for size_bytes in range(least.size_bytes, most, (most - least.size_bytes) // 40):
        plan, _ = plan_within(wide, choices, Budget(size_bytes))
        out = tmp_path / f"{size_bytes}.gguf"
        with write_gguf(out, plan.metadata, plan.tensors) as writer:
            for tensor in plan.tensors:
                writer.write(bytes(tensor.n_bytes))
        assert out.stat().st_size == plan.size_bytes <= size_bytes
        out.unlink()
    with pytest.raises(TooSmall, match="the least is"):
        plan_within(wide, choices, Budget(least.size_bytes - 1))


def test_most_of_gpt_oss_may_stay_as_it_comes(tmp_path: Path) -> None:
    folder = write_checkpoint(load_case("gpt-oss"), tmp_path / "Tiny")
    with closing(open_source(folder)) as source:
        plan, _ = least_plan(source, items(source), Budget(1 << 30))
        assert plan.metadata["general.file_type"].value == FileType.MXFP4_MOE
        assert GgmlType.MXFP4 in {tensor.type for tensor in plan.tensors}


def test_a_plan_that_is_too_large_is_never_made(tiny_gguf: Path) -> None:
    """Not even when the bytes of choices are wrong."""
    with GgufFile.open(tiny_gguf) as source:
        choices = items(source)
        least, _ = least_plan(source, choices, Budget(size_bytes=1 << 40))
        wrong = [
            Item(
                item.name,
                tuple(
                    Choice(choice.type, item.choices[0].n_bytes + 32 * (number > 0), choice.cost)
                    for number, choice in enumerate(item.choices)
                ),
            )
            for item in choices
        ]
        with pytest.raises(AssertionError, match="were planned"):
            plan_within(source, wrong, Budget(least.size_bytes + 32))
