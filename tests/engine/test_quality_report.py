"""The report beside a model: written whole, read back, and worth nothing when it is damaged."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.quantize.report import (
    MAX_BYTES,
    ShrinkReport,
    as_text,
    read_report,
    report_path,
    write_report,
)
from tests.helpers.reports import REPORT


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    model = tmp_path / "small.gguf"
    write_report(REPORT, model)
    assert report_path(model).name == "small.quality.json"
    assert read_report(model, REPORT.size_bytes) == REPORT
    assert read_report(model, REPORT.size_bytes + 1) is None  # another file by now
    assert read_report(tmp_path / "other.gguf", REPORT.size_bytes) is None


def test_the_parts_of_a_model_share_it() -> None:
    paths = {report_path(Path(f"big-0000{n}-of-00002.gguf")) for n in (1, 2)}
    assert paths == {Path("big.quality.json")}


@given(rubbish=st.binary() | st.text().map(str.encode))
def test_rubbish_is_no_report(rubbish: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    model = tmp_path_factory.mktemp("rubbish") / "small.gguf"
    report_path(model).write_bytes(rubbish)
    assert read_report(model, 0) is None


@given(data=st.data())
def test_a_damaged_report_is_none_or_a_report(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = tmp_path_factory.mktemp("damaged") / "small.gguf"
    whole = bytearray(msgspec.json.encode(REPORT))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at : at + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=20))
    report_path(model).write_bytes(whole)
    report = read_report(model, REPORT.size_bytes)
    assert report is None or as_text(report)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"model": "\xff"}',
        b'{"model": ' * 50_000,
        msgspec.json.encode(msgspec.structs.replace(REPORT, version=99)),
        msgspec.json.encode(REPORT).replace(b'"kld_mean":0.02', b'"kld_mean":"low"'),
        b" " * MAX_BYTES + msgspec.json.encode(REPORT),
    ],
)
def test_a_hostile_report_is_none(content: bytes, tmp_path: Path) -> None:
    model = tmp_path / "small.gguf"
    report_path(model).write_bytes(content)
    assert read_report(model, REPORT.size_bytes) is None


def test_a_folder_of_that_name_is_none(tmp_path: Path) -> None:
    (tmp_path / "small.quality.json").mkdir()
    assert read_report(tmp_path / "small.gguf", 1) is None


def test_the_text_has_every_figure_and_no_escapes() -> None:
    text = as_text(msgspec.structs.replace(REPORT, model="\x1b[31mred.gguf"))
    for words in (
        "4,000,000 bytes",
        "4.251 bits per weight",
        "mean KLD         0.020000 ± 0.001000",
        "99.9 % KLD       2.500000",
        "probes kept      6 of 7",
        "lost: json 3",
        "q8_0",
        "stock Q4_K_M",
        "blk.0.attn_q.weight  Q4_K  36,864  1.230e-03  gptq",
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
