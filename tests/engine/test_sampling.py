"""Sampling settings that mean nothing are refused, on the wire too."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.sampling import SamplingParams


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.01},
        {"min_p": -0.1},
        {"min_p": 1.5},
        {"repeat_penalty": 0.0},
        {"repeat_last_n": -1},
        {"seed": -1},
        {"seed": 2**32},
    ],
)
def test_senseless_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        SamplingParams(**settings)


def test_senseless_settings_do_not_cross_the_wire() -> None:
    with pytest.raises(msgspec.ValidationError, match="temperature must be 0 or more"):
        msgspec.json.decode(b'{"temperature": -1}', type=SamplingParams)


def test_temperature_zero_is_greedy() -> None:
    assert SamplingParams(temperature=0).is_greedy
    assert not SamplingParams().is_greedy
