"""Which type each tensor gets, for any number of bytes, once all that it takes is measured."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from engine.errors import UnsupportedTensor
from engine.ggml_types import GgmlType
from engine.jobs import Step
from engine.quantize.allocate import Choice, Item
from engine.quantize.budget import (
    Budget,
    choosable,
    is_table,
    least_plan,
    padded_bytes,
    plan_within,
)
from engine.quantize.candidates import Profile, candidate_types
from engine.quantize.encode import Care
from engine.quantize.fold import FoldedSource, FoldedStatistics, InputStatistics
from engine.quantize.plan import plan_types
from engine.quantize.recipe import RECIPES, Recipe, tensor_types

if TYPE_CHECKING:
    from engine.calibrate.statistics import Statistics
    from engine.model_writer import Plan
    from engine.quantize.study import Study
    from engine.source import ModelSource

WORTH_FOLDING = 0.97  # of the expected divergence; smaller gains are not seen in the result


class Pin(msgspec.Struct, frozen=True):
    """Tensors whose name the regular expression `pattern` is found in get `type`."""

    pattern: str
    type: str


class Chosen(NamedTuple):
    """A model with its folds, what is known of its inputs, and the file that it becomes.

    `errors` are the relative errors that are expected of its tensors, `cost` the divergence from
    the original in nats; nothing and 0 where nothing was measured. `folds` is the name of the folds
    as `name_of` has it, "" where nothing moved.
    """

    source: ModelSource
    statistics: InputStatistics
    plan: Plan
    errors: Mapping[str, float] = {}
    cost: float = 0.0
    folds: str = ""


class _Measured(NamedTuple):
    source: ModelSource
    statistics: InputStatistics
    items: list[Item]
    folds: str


class Chooser:
    """The measured model, as it is and with folds; made by `measure`."""

    def __init__(self, ways: Sequence[_Measured], matters: Mapping[str, float]) -> None:
        self._ways = ways
        self._matters = matters

    @staticmethod
    def measure(
        study: Study,
        source: ModelSource,
        statistics: Statistics,
        care: Care,
        profile: Profile,
        pins: Sequence[Pin],
        budget: Budget,
        *,
        folds: bool,
    ) -> Generator[Step, None, Chooser]:
        """Measure all; scales that move are looked for with the types of `budget`."""
        matters = yield from study.matters(choosable(source), statistics)

        def measured(
            seen: ModelSource, known: InputStatistics, folds: str = ""
        ) -> Generator[Step, None, _Measured]:
            items = yield from study.items(
                seen, choosable(seen), known, care, matters, profile, folds=folds
            )
            return _Measured(seen, known, [pinned(item, pins) for item in items], folds)

        plain = yield from measured(source, statistics)
        if not folds:
            return Chooser([plain], matters)
        plan, _ = plan_within(source, plain.items, budget)
        types = {tensor.name: tensor.type for tensor in plan.tensors}
        moved = yield from study.folds(statistics, types)
        seen = FoldedStatistics(statistics, source.tensors, moved)
        folded = yield from measured(FoldedSource(source, moved), seen, name_of(types))
        return Chooser([plain, folded], matters)

    def within(self, budget: Budget) -> Chosen:
        """Choose for `budget`; folds only if they are worth it. Raises TooSmall."""
        best, *others = (self._choose(way, budget) for way in self._ways)
        for other in others:
            if other.cost < WORTH_FOLDING * best.cost:
                best = other
        return best

    def _choose(self, way: _Measured, budget: Budget) -> Chosen:
        plan, cost = plan_within(way.source, way.items, budget)
        types = {tensor.name: tensor.type for tensor in plan.tensors}
        costs = {
            item.name: choice.cost
            for item in way.items
            for choice in item.choices
            if choice.type is types[item.name]
        }
        errors = {
            name: cost / self._matters[name] for name, cost in costs.items() if self._matters[name]
        }
        return Chosen(way.source, way.statistics, plan, errors, cost, way.folds)


def name_of(types: Mapping[str, GgmlType]) -> str:
    """What tells `types` from others, as the folds are told that were found for them."""
    told = sorted((tensor, stored.name) for tensor, stored in types.items())
    return hashlib.sha256(repr(told).encode()).hexdigest()


def require_possible(
    source: ModelSource, profile: Profile, pins: Sequence[Pin], budget: Budget
) -> None:
    """Refuse what cannot be, from names and sizes alone: before anything is measured.

    Raises UnsupportedTensor for a pin that names no tensor or a type that one cannot have,
    TooSmall for a budget that holds no version of the model.
    """
    items = []
    for tensor in choosable(source):
        types = candidate_types(tensor, profile, has_importance=not is_table(tensor, source))
        choices = tuple(Choice(stored, padded_bytes(tensor, stored), 0.0) for stored in types)
        items.append(Item(tensor.name, choices))
    for pin in pins:
        if not any(re.search(pin.pattern, item.name) for item in items):
            some = ", ".join(item.name for item in items[:3])
            raise UnsupportedTensor(
                f"No tensor that could have another type is called like {pin.pattern}.",
                hint=f"They have names such as {some}." if some else "",
            )
    least_plan(source, [pinned(item, pins) for item in items], budget)


def pinned(item: Item, pins: Sequence[Pin]) -> Item:
    """`item` with no choice but that of the first pin that names it.

    Raises UnsupportedTensor for a type that it cannot have.
    """
    pin = _pin_of(item.name, pins)
    if pin is None:
        return item
    kept = tuple(c for c in item.choices if c.type.name == pin.type.upper())
    if not kept:
        able = ", ".join(choice.type.name for choice in item.choices)
        raise UnsupportedTensor(
            f"{item.name} cannot have the type {pin.type}.", hint=f"Choose one of {able}."
        )
    return msgspec.structs.replace(item, choices=kept)


def stock_within(
    source: ModelSource, size_bytes: int, pins: Sequence[Pin]
) -> tuple[Recipe, Plan] | None:
    """The widest stock recipe, with the types of `pins`, whose file takes at most `size_bytes`."""
    pin_of = {tensor.name: _pin_of(tensor.name, pins) for tensor in choosable(source)}
    for recipe in RECIPES.values():
        types = tensor_types(recipe, source.tensors, source.metadata)
        types |= {name: GgmlType[pin.type.upper()] for name, pin in pin_of.items() if pin}
        laid_out = plan_types(source, types, recipe.file_type)
        if laid_out.size_bytes <= size_bytes:
            return recipe, laid_out
    return None


def _pin_of(tensor: str, pins: Sequence[Pin]) -> Pin | None:
    """The first pin that names `tensor`."""
    return next((pin for pin in pins if re.search(pin.pattern, tensor)), None)
