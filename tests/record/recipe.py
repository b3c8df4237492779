"""What a case is made of, and from which numbers its weights are drawn."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.helpers.upstream import Stored

Config = dict[str, Any]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Recipe:
    """A checkpoint to be recorded.

    `config` is a config.json as the family has it on the hub, with small numbers; transformers runs
    it, or `stand_in`, a config under which another network there computes the same. `norm_center`
    is what a trained norm lies around: 0 where the network adds 1 to it. `rules` go before RULES,
    `dtypes` say which tensors are not stored as `dtype`, `is_packed` that experts are in MXFP4.
    `is_fused`: the hub has the experts of a layer in one tensor where transformers splits them.
    `extra` are stored tensors that transformers has no use for, `renames` (expression, replacement)
    what the hub calls otherwise than transformers saves it. `options` are for the converter.
    """

    name: str
    config: Config
    tokenizer: dict[str, Any]
    generation_config: Config | None = None
    dtype: str = "BF16"
    norm_center: float = 1.0
    rules: tuple[tuple[str, float, float], ...] = ()
    dtypes: tuple[tuple[str, str], ...] = ()
    is_packed: bool = False
    is_fused: bool = False
    extra: Shapes = field(default_factory=dict)
    renames: tuple[tuple[str, str], ...] = ()
    stand_in: Config | None = None
    options: tuple[str, ...] = ()
    n_prompt: int = 32


# Names (the first that is found counts) -> center and spread of evenly spread values; a spread of 0
# is 1.7 / sqrt(n_in), which keeps the size of what comes in.
RULES = (
    (r"(^|[._])embed_tokens\w*\.weight$|wte\.weight$", 0.0, 0.5),
    (r"A_log$", 1.0, 0.8),
    (r"dt_bias$", 0.0, 1.0),
    (r"e_score_correction_bias$", 0.0, 0.2),
    (r"sinks$", 0.0, 1.0),
    (r"bias$", 0.0, 0.15),
    (r"conv1d\.weight$", 0.0, 0.6),
)


def stored(recipe: Recipe, name: str, shape: tuple[int, ...]) -> Stored:
    """How the tensor `name` of a checkpoint is stored, and around which numbers."""
    if re.search(r"_(blocks|scales)$", name):
        return Stored("U8", shape, *((128.0, 128.0) if name.endswith("blocks") else (122.0, 2.0)))
    dtype = next((d for pattern, d in recipe.dtypes if re.search(pattern, name)), recipe.dtype)
    for pattern, center, spread in (*recipe.rules, *RULES):
        if re.search(pattern, name):
            return Stored(dtype, shape, center, spread or _keeping_size(shape))
    if len(shape) == 1 or re.search(r"norm\w*\.weight$", name):
        return Stored(dtype, shape, recipe.norm_center, 0.3)
    return Stored(dtype, shape, 0.0, _keeping_size(shape))


def prompt_of(n_tokens: int, n_prompt: int) -> list[int]:
    """Token ids that jump about in the vocabulary, the first of them twice."""
    ids = [(7 + 37 * i + 11 * i * i) % n_tokens for i in range(n_prompt)]
    return [*ids[: n_prompt // 2], ids[0], *ids[n_prompt // 2 + 1 :]]


def _keeping_size(shape: tuple[int, ...]) -> float:
    n_in = shape[-1] if shape else 1
    return float(round(1.7 / n_in**0.5, 4))
