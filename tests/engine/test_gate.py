"""The quality gate: thresholds as they are written, what fails, and which result is better."""

from __future__ import annotations

import math

import msgspec
import pytest

from engine.quantize.gate import OFF, Gate, check, is_better, parse_gate
from engine.quantize.probes.compare import KindResult, ProbesReport
from tests.helpers.reports import GOOD


def test_a_good_model_passes() -> None:
    assert check(GOOD, Gate()) == ()


@pytest.mark.parametrize(
    ("changes", "threshold", "words"),
    [
        ({"kld_mean": 0.06}, "kld", "mean KL divergence is 0.0600, and at most 0.0500"),
        ({"kld_p999": 2.5}, "p999", "worst 0.1 % of the tokens is 2.500"),
        ({"same_top_fraction": 0.8}, "same_top", "80.0% are the same, and at least 88.0%"),
        ({"perplexity_ratio": 1.06}, "ppl_ratio", "1.0600 times the original's"),
        ({"kld_mean": math.nan}, "kld", "nan"),
        (
            {"probes": ProbesReport((KindResult("json", 8, 8, 6, 5),), ("json 1", "json 2"))},
            "probes_lost",
            "25% fail, and at most 10% may",
        ),
    ],
)
def test_each_figure_can_fail(changes: dict[str, object], threshold: str, words: str) -> None:
    (failure,) = check(msgspec.structs.replace(GOOD, **changes), Gate())
    assert failure.threshold == threshold
    assert words in failure.words
    assert check(msgspec.structs.replace(GOOD, **changes), OFF) == ()


def test_one_lost_probe_may_be_chance() -> None:
    one = ProbesReport((KindResult("json", 8, 6, 5, 5),), ("json 1",))
    report = msgspec.structs.replace(GOOD, probes=one)
    assert check(report, Gate()) == ()
    (failure,) = check(report, Gate(probes_lost=0))
    assert failure.value == pytest.approx(1 / 6)


def test_a_gate_is_written_as_limits() -> None:
    assert parse_gate("kld=0.1, same_top=0.5") == Gate(kld=0.1, same_top=0.5)
    assert parse_gate("") == Gate()
    assert parse_gate("off") == OFF
    assert parse_gate("p999=off") == Gate(p999=None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kdl=1", "'kdl' is no threshold: choose from kld, p999"),
        ("kld", "lacks a number"),
        ("kld=low", "lacks a number"),
        ("kld=-1", "less than nothing"),
        ("kld=nan", "less than nothing"),
    ],
)
def test_a_wrong_gate_is_explained(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_gate(text)


def test_fewer_failures_count_before_less_divergence() -> None:
    close_but_failing = msgspec.structs.replace(GOOD, kld_mean=0.01, kld_p999=3.0)
    assert is_better(GOOD, close_but_failing, Gate())
    assert not is_better(close_but_failing, GOOD, Gate())
    assert is_better(close_but_failing, GOOD, OFF)
    assert not is_better(GOOD, GOOD, Gate())
