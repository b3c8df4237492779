"""A shrink to a size as a whole: the gate, what is kept, and what the report says."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import starter
from engine.errors import EngineError
from engine.jobs import Paused, finish
from engine.quantize.choice import Pin
from engine.quantize.effort import effort_of
from engine.quantize.gate import Gate
from engine.quantize.recipe import find_recipe
from engine.quantize.report import read_report
from engine.quantize.shrink_to_size import ShrinkToSize, ShrunkToSize
from engine.quantize.workbench import folder_of
from engine.splits import open_gguf

BPW = 4.5


def shrink(tmp_path: Path, source: Path = starter.MODEL, **settings: object) -> ShrunkToSize:
    out = tmp_path / "out" / "small.gguf"
    out.parent.mkdir()
    job = ShrinkToSize(str(source), str(out), effort="fast", **settings)  # type: ignore[arg-type]
    done: ShrunkToSize = finish(job.run())
    assert done.size_bytes == out.stat().st_size
    left = sorted(path.name for path in out.parent.iterdir())
    assert left == ["small.gguf", "small.quality.json"]
    return done


def test_what_passes_is_kept_and_reported(tmp_path: Path) -> None:
    done = shrink(tmp_path, bits_per_weight=BPW, pins=(Pin(r"blk\.0\..*attn_k", "Q8_0"),))
    assert done.bits_per_weight <= BPW
    assert done.kept == "ours" and not done.failures
    assert done.quality is not None and done.quality.kld_mean < 0.05
    report = read_report(Path(done.path))
    assert report is not None and report.quality == done.quality
    stored = {tensor.name: tensor.type.name for tensor in open_gguf(done.path).tensors}
    assert {line.name: line.type for line in report.tensors} == stored
    assert stored["blk.0.attn_k.weight"] == "Q8_0"
    assert len(set(stored.values())) > 3
    expected = sum(line.size_bytes for line in report.tensors)
    assert 0 < done.size_bytes - expected < done.size_bytes / 4  # the header
    assert all(line.error is not None for line in report.tensors if "feedback" in line.rounding)
    n_chunks = effort_of("fast", open_gguf(starter.MODEL)).judge_chunks
    assert f"first {n_chunks} chunks of 512 tokens of the text for it" in report.notes[-1]
    assert report.notes[-2].startswith("Calibrated on ") and "prose.txt" in report.notes[-2]


def test_what_fails_grows_as_far_as_it_may_and_says_so(tiny_gguf: Path, tmp_path: Path) -> None:
    whole = tiny_gguf.stat().st_size
    least, most = whole // 2, whole // 2 + whole // 20
    gate = Gate(kld=1e-9, p999=None, same_top=None, ppl_ratio=None, probes_lost=None)
    done = shrink(tmp_path, tiny_gguf, size_bytes=least, most_bytes=most, gate=gate)
    assert done.size_bytes <= most
    assert [failure.threshold for failure in done.failures] == ["kld"]
    report = read_report(Path(done.path))
    assert report is not None
    assert done.quality is not None
    assert len(report.others) > 1
    assert all(done.quality.kld_mean <= other.quality.kld_mean for other in report.others)
    assert report.notes[0].startswith(f"Of {len(report.others) + 1} versions")
    assert any(other.size_bytes > least for other in report.others) or done.size_bytes > least


def test_what_has_lost_takes_no_room_and_is_not_made_again(tiny_gguf: Path, tmp_path: Path) -> None:
    """There are two results at a time at most, paused and gone on with or not."""
    whole = tiny_gguf.stat().st_size
    job = ShrinkToSize(
        str(tiny_gguf),
        str(tmp_path / "small.gguf"),
        size_bytes=whole // 2,
        most_bytes=whole // 2 + whole // 10,
        gate=Gate(kld=1e-9, p999=None, same_top=None, ppl_ratio=None, probes_lost=None),
        effort="fast",
    )
    bench = folder_of(Path(job.out))

    def results() -> set[str]:
        return {path.name for path in bench.glob("*.gguf") if path.name[:4] in ("ours", "stoc")}

    steps, before = job.run(), [results()]
    while len(list(bench.glob("*.judged.json"))) < 2:
        next(steps)
        before.append(results())
    with pytest.raises(Paused):
        steps.throw(Paused())
    after: list[set[str]] = []
    done = finish(job.run(), lambda _: after.append(results()))
    assert max(map(len, before + after)) == 2
    lost = {name for names in before for name in names} - after[0]
    assert len(lost) == 1 and not any(lost & names for names in after)
    report = read_report(Path(done.path))
    assert report is not None and len(report.others) > 1
    assert Path(done.path).stat().st_size == report.size_bytes


def test_a_recipe_keeps_its_types_and_is_better_than_stock(tmp_path: Path) -> None:
    gate = Gate(kld=1e-6)  # so that the stock one is made, too
    done = shrink(tmp_path, recipe="Q4_K_M", keeps_types=True, gate=gate)
    report = read_report(Path(done.path))
    assert report is not None and done.kept == "ours"
    (stock,) = report.others
    assert (stock.name, stock.size_bytes) == ("stock Q4_K_M", done.size_bytes)
    assert done.quality is not None
    assert done.quality.kld_mean < stock.quality.kld_mean
    types = {tensor.type.name for tensor in open_gguf(done.path).tensors}
    assert types == {"F32", find_recipe("Q4_K_M").base.name, "Q6_K"}


@pytest.mark.parametrize("settings", [{}, {"size_bytes": 3_000}])
def test_what_cannot_be_is_said(tiny_gguf: Path, tmp_path: Path, settings: dict[str, int]) -> None:
    with pytest.raises(EngineError, match=r"how small|as small as"):
        shrink(tmp_path, tiny_gguf, **settings)
    assert not list((tmp_path / "out").iterdir())
