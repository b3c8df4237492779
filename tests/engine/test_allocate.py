"""The knapsack: never over the budget, and as good as trying everything."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from engine.ggml_types import GgmlType
from engine.quantize.allocate import Choice, Item, allocate, smallest_bytes

_TYPES = (GgmlType.Q2_K, GgmlType.Q4_K, GgmlType.Q8_0, GgmlType.F16)


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Item], int]:
    items = []
    for i in range(draw(st.integers(1, 5))):
        n = draw(st.integers(1, 4))
        sizes = draw(st.lists(st.integers(1, 10_000), min_size=n, max_size=n))
        costs = draw(st.lists(st.floats(0, 1), min_size=n, max_size=n))
        items.append(Item(f"t{i}", tuple(map(Choice, _TYPES, sizes, costs))))
    least = smallest_bytes(items)
    return items, draw(st.integers(max(0, least - 10), 2 * least + 1))


@given(problems())
def test_small_problems_are_solved_exactly(problem: tuple[list[Item], int]) -> None:
    items, budget = problem
    chosen = allocate(items, budget)
    fitting = [
        sum(choice.cost for choice in picks)
        for picks in product(*(item.choices for item in items))
        if sum(choice.n_bytes for choice in picks) <= budget
    ]
    if not fitting:
        assert chosen is None
        return
    assert chosen is not None and list(chosen) == [item.name for item in items]
    assert sum(choice.n_bytes for choice in chosen.values()) <= budget
    assert sum(choice.cost for choice in chosen.values()) <= min(fitting) + 1e-12
    assert allocate(items, budget) == chosen


def test_what_rounding_up_to_units_leaves_over_is_spent() -> None:
    """A unit is 36 kB here; as much must not be lost for each of the items."""
    choices = tuple(map(Choice, _TYPES, (1_000_003, 2_000_003, 4_000_003, 8_000_003), (8, 4, 2, 1)))
    items = [Item(f"t{i}", choices) for i in range(300)]
    budget = 300 * 4_000_003
    chosen = allocate(items, budget)
    assert chosen is not None
    used = sum(choice.n_bytes for choice in chosen.values())
    assert 0.995 * budget < used <= budget
