"""The quality gate: what a shrunk model must reach, and which of two results is the better one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from engine.quantize.figures import QualityReport
from engine.quantize.probes.compare import ProbesReport


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Thresholds; None leaves a figure out. KL divergences in nats.

    The defaults let pass what is "very close" to its original on average, and no worse than that in
    its rare failures; four bits of a model of some billion parameters pass, three at times. The
    perplexity ratio fails above its threshold only. `probes_lost` is the share, of the probes that
    the original passes, that the model fails; a single one may be chance, and counts only where
    none may be lost.
    """

    kld: float | None = 0.05
    p999: float | None = 2.0
    same_top: float | None = 0.88
    ppl_ratio: float | None = 1.05
    probes_lost: float | None = 0.1


class Failure(msgspec.Struct, frozen=True):
    """A threshold that was not reached: its name in Gate, both figures, and a sentence."""

    threshold: str
    value: float
    limit: float
    words: str


OFF = Gate(kld=None, p999=None, same_top=None, ppl_ratio=None, probes_lost=None)

# What each threshold is about in words, with how its figures are written.
_WORDS: Mapping[str, str] = MappingProxyType({
    "kld": "The mean KL divergence is {value:.4f}, and at most {limit:.4f} is asked for.",
    "p999": "The KL divergence of the worst 0.1 % of the tokens is {value:.3f} and more,"
    " and at most {limit:.3f} is asked for.",
    "same_top": "Of the likeliest tokens {value:.1%} are the same,"
    " and at least {limit:.1%} is asked for.",
    "ppl_ratio": "The perplexity is {value:.4f} times the original's,"
    " and at most {limit:.4f} times is asked for.",
    "probes_lost": "Of the probes that the original passes {value:.0%} fail,"
    " and at most {limit:.0%} may.",
})  # fmt: skip


def parse_gate(text: str) -> Gate:
    """Read "kld=0.05,same_top=0.9" (the rest as by default), "kld=off", or "off" for no gate.

    Raises ValueError with a sentence.
    """
    if text.strip() == "off":
        return OFF
    values: dict[str, float | None] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, figure = map(str.strip, part.partition("="))
        if name not in _WORDS:
            raise ValueError(f"{name!r} is no threshold: choose from {', '.join(_WORDS)}")
        try:
            values[name] = None if figure == "off" else float(figure)
        except ValueError:
            raise ValueError(f"{part!r} lacks a number: write {name}=0.05") from None
        if not (values[name] or 0) >= 0:
            raise ValueError(f"{part!r} asks for less than nothing")
    return Gate(**values)


def check(report: QualityReport, gate: Gate) -> tuple[Failure, ...]:
    """The thresholds of `gate` that `report` does not reach; of probes only if some were asked."""
    figures = {
        "kld": report.kld_mean,
        "p999": report.kld_p999,
        "ppl_ratio": report.perplexity_ratio,
        "probes_lost": _lost_fraction(report.probes, gate),
    }
    limits = msgspec.structs.asdict(gate)
    failures = [
        _failure(name, value, limit)
        for name, value in figures.items()
        if (limit := limits[name]) is not None and not value <= limit
    ]
    if gate.same_top is not None and not report.same_top_fraction >= gate.same_top:
        failures.append(_failure("same_top", report.same_top_fraction, gate.same_top))
    return tuple(failures)


def is_better(report: QualityReport, other: QualityReport, gate: Gate) -> bool:
    """Whether `report` misses fewer thresholds than `other`, or as many with less divergence."""
    mine, others = (len(check(r, gate)) for r in (report, other))
    return (mine, report.kld_mean) < (others, other.kld_mean)


def _lost_fraction(probes: ProbesReport | None, gate: Gate) -> float:
    if probes is None or (len(probes.lost) == 1 and gate.probes_lost != 0):
        return 0.0
    return probes.lost_fraction


def _failure(name: str, value: float, limit: float) -> Failure:
    return Failure(name, value, limit, _WORDS[name].format(value=value, limit=limit))
