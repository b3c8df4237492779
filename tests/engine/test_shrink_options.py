"""What is asked of a shrink has an effect, or is refused with what to leave out."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import starter
from engine.cli import main
from engine.ggml_types import GgmlType
from engine.quantize.choice import Pin, stock_within
from engine.quantize.plan import plan
from engine.quantize.recipe import RECIPES
from engine.source import open_source


@pytest.mark.parametrize(
    ("words", "left_out"),
    [
        ("--type Q4_K_M --pin attn_v=Q8_0", "--pin"),
        ("--type Q4_K_M --profile fast", "--profile"),
        ("--type Q4_K_M --up-to 5GB --pin a=Q8_0", "--up-to and --pin"),
        ("--effort stock --size 4GB", "--size"),
        ("--effort stock --bpw 4", "--bpw"),
        ("--effort stock --calibration a.txt", "--calibration"),
        ("--effort stock --statistics a.gguf", "--statistics"),
        ("--size 4GB --statistics a.gguf --calibration a.txt", "--calibration"),
        ("--effort stock --judge a.txt", "--judge"),
        ("--effort stock --gate off", "--gate"),
        ("--effort stock --fit --probes", "--probes"),
        ("--type Q8_0 --effort stock --pin a=Q8_0 --profile any", "--profile and --pin"),
        ("--effort stock --up-to 4GB", "--up-to"),
        ("--gate off --judge a.txt", "--judge"),
        ("--gate off --size 4GB --up-to 5GB --probes", "--up-to and --probes"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    words: str, left_out: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small.gguf"
    with pytest.raises(SystemExit) as ended:
        main(["shrink", str(starter.MODEL), "-o", str(out), *words.split()])
    assert ended.value.code == 2
    assert f"leave out {left_out}." in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_help_names_the_default_effort(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["shrink", "--help"])
    assert "default: balanced" in capsys.readouterr().out


def test_a_stock_recipe_keeps_pins_within_the_size() -> None:
    source = open_source(str(starter.MODEL))
    try:
        size_bytes = plan(source, RECIPES["Q4_K_M"]).size_bytes
        found = stock_within(source, size_bytes, ())
        assert found is not None and found[0] is RECIPES["Q4_K_M"]
        found = stock_within(source, size_bytes, (Pin("attn_v", "Q8_0"), Pin("norm", "Q4_0")))
        assert found is not None
        recipe, laid_out = found
        assert recipe is RECIPES["Q3_K_M"]
        assert laid_out.size_bytes <= size_bytes
        types = {tensor.name: tensor.type for tensor in laid_out.tensors}
        assert {types[name] for name in types if "attn_v" in name} == {GgmlType.Q8_0}
        assert types["output_norm.weight"] is GgmlType.F32  # nothing to choose
        assert stock_within(source, size_bytes // 10, ()) is None
    finally:
        source.close()
