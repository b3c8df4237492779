"""The report beside a model: written whole, read back, and worth nothing when it is damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import starter
from engine.errors import NotFound
from engine.jobs import finish
from engine.quantize.report import (
    MAX_BYTES,
    ShrinkReport,
    as_text,
    read_report,
    report_path,
    write_report,
)
from engine.quantize.shrink import Shrink
from engine.quantize.shrink_to_size import ShrinkToSize
from tests.helpers.reports import REPORT


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    model = tmp_path / "small.gguf"
    model.write_bytes(b"GGUF" + bytes(99))
    write_report(REPORT, model)
    assert report_path(model).name == "small.quality.json"
    found = read_report(model)
    assert found is not None and msgspec.structs.replace(found, fingerprint="") == REPORT
    assert read_report(tmp_path / "other.gguf") is None
    model.unlink()
    assert read_report(model) is None
    with pytest.raises(NotFound):
        write_report(REPORT, model)


@pytest.mark.parametrize("size_bytes", [0, 1, 4095, 4097, 1_000_000])
def test_it_is_about_no_other_file_of_that_name(size_bytes: int, tmp_path: Path) -> None:
    model = tmp_path / "small.gguf"
    model.write_bytes(bytes(size_bytes))
    write_report(REPORT, model)
    assert read_report(model) is not None
    for other in (bytes(size_bytes + 1), bytes(max(0, size_bytes - 1)) + b"a"):
        model.write_bytes(other)
        assert read_report(model) is None
    if size_bytes:
        model.write_bytes(b"a" + bytes(size_bytes - 1))
        assert read_report(model) is None


def test_a_stock_shrink_over_a_measured_one_leaves_no_report(tmp_path: Path) -> None:
    out = tmp_path / "small.gguf"
    source = str(starter.MODEL)
    job = ShrinkToSize(source, str(out), recipe="Q4_K_M", keeps_types=True, effort="fast")
    measured = finish(job.run())
    kept = report_path(out).read_bytes()
    assert read_report(out) is not None
    stock = finish(Shrink(source, str(out), "Q4_K_M", overwrite=True).run())
    assert stock.size_bytes == measured.size_bytes
    assert not report_path(out).exists()
    report_path(out).write_bytes(kept)  # as if another program had replaced the model
    assert read_report(out) is None


def test_the_parts_of_a_model_share_it() -> None:
    paths = {report_path(Path(f"big-0000{n}-of-00002.gguf")) for n in (1, 2)}
    assert paths == {Path("big.quality.json")}


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """A model, and what the report beside it holds; tests change the report."""
    model = tmp_path_factory.mktemp("reported") / "small.gguf"
    model.write_bytes(b"GGUF" + bytes(99))
    write_report(REPORT, model)
    return model, report_path(model).read_bytes()


@given(rubbish=st.binary() | st.text().map(str.encode))
def test_rubbish_is_no_report(rubbish: bytes, reported: tuple[Path, bytes]) -> None:
    model, _ = reported
    report_path(model).write_bytes(rubbish)
    assert read_report(model) is None


@given(data=st.data())
def test_a_damaged_report_is_none_or_a_report(
    data: st.DataObject, reported: tuple[Path, bytes]
) -> None:
    model, whole = reported
    damaged = bytearray(whole)
    at = data.draw(st.integers(0, len(damaged) - 1))
    damaged[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    report_path(model).write_bytes(damaged)
    report = read_report(model)
    assert report is None or as_text(report)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"[" * 100_000,
        lambda _: b'{"model": "\xff"}',
        lambda _: b'{"model": ' * 50_000,
        lambda whole: whole.replace(b'"version": 2', b'"version": 99'),
        lambda whole: whole.replace(b'"kld_mean": 0.02', b'"kld_mean": "low"'),
        lambda whole: b" " * MAX_BYTES + whole,
    ],
)
def test_a_hostile_report_is_none(
    spoil: Callable[[bytes], bytes], reported: tuple[Path, bytes]
) -> None:
    model, whole = reported
    report_path(model).write_bytes(whole)
    assert read_report(model) is not None
    assert spoil(whole) != whole
    report_path(model).write_bytes(spoil(whole))
    assert read_report(model) is None


def test_a_folder_of_that_name_is_none(tmp_path: Path) -> None:
    (tmp_path / "small.quality.json").mkdir()
    assert read_report(tmp_path / "small.gguf") is None


def test_the_text_has_every_figure_and_no_escapes() -> None:
    text = as_text(msgspec.structs.replace(REPORT, model="\x1b[31mred.gguf"))
    for words in (
        "4,000,000 bytes",
        "4.251 bits per weight",
        "mean KLD         0.020000 ± 0.001000",
        "99.9 % KLD       2.500000",
        "probes kept      6 of 7",
        "lost: json 3",
        "stock Q4_K_M",
        "blk.0.attn_q.weight  Q4_K  36,864  1.230e-03  feedback in 87 % of rows",
        "at most 2.000 is asked for",
        "Calibrate  12 s",
        "effort  balanced",
        "Ours is better than stock.",
    ):
        assert words in text, words
    assert "\x1b" not in text


def test_a_bare_report_has_no_empty_sections() -> None:
    bare = ShrinkReport("m", 1, "s", 2, "Q8_0", 8.5)
    assert as_text(bare).count("\n") == 2
