"""What a shrunk model can still do of what its original can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from engine.quantize.probes.ask import Answered
    from engine.quantize.probes.probe import Probe


class KindResult(msgspec.Struct, frozen=True):
    """Of `n_asked` probes the original passes `n_passed`, and of these the model `n_kept`.

    `n_identical` of the `n_asked` answers are the same to the letter.
    """

    kind: str
    n_asked: int
    n_passed: int
    n_kept: int
    n_identical: int


class ProbesReport(msgspec.Struct, frozen=True):
    """The results by kind, and the names of the probes that the original passes and the model not.

    A probe that the original fails itself does not count for or against the model.
    """

    kinds: tuple[KindResult, ...]
    lost: tuple[str, ...] = ()

    @property
    def n_asked(self) -> int:
        return sum(kind.n_asked for kind in self.kinds)

    @property
    def n_passed(self) -> int:
        return sum(kind.n_passed for kind in self.kinds)

    @property
    def n_kept(self) -> int:
        return sum(kind.n_kept for kind in self.kinds)

    @property
    def n_identical(self) -> int:
        return sum(kind.n_identical for kind in self.kinds)

    @property
    def lost_fraction(self) -> float:
        """Of the probes that the original passes; 0 where it passes none."""
        return (self.n_passed - self.n_kept) / max(1, self.n_passed)


def compare_answers(
    probes: Sequence[Probe],
    original: Sequence[Answered | None],
    model: Sequence[Answered | None],
) -> ProbesReport:
    """Judge the answers of both to `probes`; those that the original could not be asked count not.

    A model that cannot be asked what its original can has failed.
    """
    kinds: dict[str, list[tuple[bool, bool, bool]]] = {}
    lost = []
    for probe, before, after in zip(probes, original, model, strict=True):
        results = kinds.setdefault(probe.kind, [])
        if before is None:
            continue
        is_passed = _passes(probe, before)
        is_kept = is_passed and after is not None and _passes(probe, after)
        results.append((is_passed, is_kept, before == after))
        if is_passed and not is_kept:
            lost.append(probe.name)
    return ProbesReport(
        tuple(
            KindResult(kind, len(results), *(sum(flags) for flags in zip(*results, strict=True)))
            for kind, results in kinds.items()
            if results
        ),
        tuple(lost),
    )


def _passes(probe: Probe, answer: Answered) -> bool:
    from engine.quantize.probes.checks import passes_check

    return passes_check(probe.check, answer.text, has_ended=answer.has_ended)
