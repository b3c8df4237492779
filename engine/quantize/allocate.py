"""Which type each tensor gets, so that the whole costs least within a number of bytes.

A multiple-choice knapsack. Pure: knows names, bytes and costs, neither models nor how a cost came
about.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from engine.ggml_types import GgmlType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

N_UNITS = 2**15  # the budget in units, into which sizes are rounded up; what is left over is filled


class Choice(msgspec.Struct, frozen=True):
    """One type that a tensor could have: `cost` is the divergence in nats that it adds."""

    type: GgmlType
    n_bytes: int
    cost: float


class Item(msgspec.Struct, frozen=True):
    """A tensor, and the types it may have."""

    name: str
    choices: tuple[Choice, ...]


def smallest_bytes(items: Sequence[Item]) -> int:
    """The fewest bytes that `items` can take."""
    return sum(min(choice.n_bytes for choice in item.choices) for item in items)


def allocate(items: Sequence[Item], budget_bytes: int) -> dict[str, Choice] | None:
    """Choose a type for each of `items`: the least sum of costs in at most `budget_bytes`.

    By dynamic programming over the bytes in 32,768 units, which are rounded up; what that leaves
    over goes to the tensors that gain most. None if not even the smallest types fit. The same items
    give the same choice.
    """
    if smallest_bytes(items) > budget_bytes:
        return None
    chosen = _least_cost(items, budget_bytes) or {
        item.name: min(item.choices, key=lambda c: (c.n_bytes, c.cost)) for item in items
    }
    return _filled(items, chosen, budget_bytes)


def _least_cost(items: Sequence[Item], budget_bytes: int) -> dict[str, Choice] | None:
    """The best choice when every size is rounded up to whole units; None if nothing fits so."""
    import numpy as np

    unit = max(1, budget_bytes // N_UNITS)
    n_units = budget_bytes // unit
    least = np.zeros(n_units + 1)  # cost of the items so far in at most so many units
    picks = np.zeros((len(items), n_units + 1), dtype=np.uint8)
    for i_item, item in enumerate(items):
        least, picks[i_item] = _with_item(least, item, unit)
    if not np.isfinite(least[-1]):
        return None
    chosen, left = {}, n_units
    for i_item in reversed(range(len(items))):
        choice = items[i_item].choices[picks[i_item, left]]
        chosen[items[i_item].name] = choice
        left -= _units(choice.n_bytes, unit)
    return chosen


def _with_item(
    least: NDArray[np.float64], item: Item, unit: int
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """`least` with one item more, and which of its choices is taken for each number of units."""
    import numpy as np

    costs = np.full((len(item.choices), len(least)), np.inf)
    for row, choice in zip(costs, item.choices, strict=True):
        n = _units(choice.n_bytes, unit)
        if n < len(least):
            row[n:] = least[: len(least) - n] + choice.cost
    picks = costs.argmin(axis=0)
    return costs[picks, np.arange(len(least))], picks.astype(np.uint8)


def _units(n_bytes: int, unit: int) -> int:
    return -(-n_bytes // unit)


def _filled(
    items: Sequence[Item], chosen: dict[str, Choice], budget_bytes: int
) -> dict[str, Choice]:
    """Spend what is left: again and again the change that saves most cost for each byte it adds."""
    chosen = dict(chosen)
    left = budget_bytes - sum(choice.n_bytes for choice in chosen.values())
    while True:
        better = [
            (_gain(chosen[item.name], choice), item.name, choice)
            for item in items
            for choice in item.choices
            if choice.cost < chosen[item.name].cost
            and choice.n_bytes - chosen[item.name].n_bytes <= left
        ]
        if not better:
            return {item.name: chosen[item.name] for item in items}
        _, name, choice = max(better, key=lambda found: found[:2])
        left -= choice.n_bytes - chosen[name].n_bytes
        chosen[name] = choice


def _gain(old: Choice, new: Choice) -> float:
    """Cost saved for each byte more; endless if it takes no more."""
    more = new.n_bytes - old.n_bytes
    return (old.cost - new.cost) / more if more > 0 else float("inf")
