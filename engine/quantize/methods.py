"""The named methods of quantization, as what Snug can do: types, inputs known or not, a rounding.

What each name stands for in the papers is a combination of the same few parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from engine.errors import FormatError
from engine.ggml_types import FileType, GgmlType
from engine.quantize.recipe import Mix, Recipe

Rounding = Literal["nearest", "feedback", "hqq"]


class Method(msgspec.Struct, frozen=True):
    """One of them; `words` are its usual name.

    `recipe` gives each tensor its type; None is that of the size that all are compared at, and
    with `chooses_types` only that size. `is_calibrated` tells whether ggml knows what the inputs
    are like, `folds` the form of the scales that move, "" for none.
    """

    name: str
    words: str
    recipe: Recipe | None = None
    is_calibrated: bool = True
    rounding: Rounding = "nearest"
    folds: str = ""
    chooses_types: bool = False


def _of_one_type(ggml_type: GgmlType) -> Recipe:
    return Recipe(ggml_type.name, FileType[ggml_type.name], ggml_type)


def _of_nf4(ggml_type: GgmlType) -> Recipe:
    """With the exceptions that llama-quantize makes (`llama_tensor_get_type_impl`)."""
    return Recipe(
        ggml_type.name,
        FileType[ggml_type.name],
        ggml_type,
        attention_v_shared=Mix(GgmlType.Q5_K),
        attention_output_of_8_experts=GgmlType.Q5_K,
    )


METHODS = (
    Method("rtn", "round to nearest", _of_one_type(GgmlType.Q4_0), is_calibrated=False),
    Method("hqq", "HQQ", _of_one_type(GgmlType.Q4_1), is_calibrated=False, rounding="hqq"),
    Method("nf4", "NF4-like, blocks of 32", _of_nf4(GgmlType.IQ4_NL)),
    Method("nf4-256", "NF4-like, blocks of 256", _of_nf4(GgmlType.IQ4_XS)),
    Method("k-quants", "k-quants", is_calibrated=False),
    Method("imatrix", "k-quants + imatrix"),
    Method("awq", "AWQ", folds="AWQ"),
    Method("gptq", "GPTQ", rounding="feedback"),
    Method("mixed", "mixed precision", rounding="feedback", chooses_types=True),
    Method("smoothquant", "SmoothQuant", _of_one_type(GgmlType.Q8_0), folds="SmoothQuant"),
    Method("int8", "int8", _of_one_type(GgmlType.Q8_0), is_calibrated=False),
)


def find_methods(names: Sequence[str]) -> tuple[Method, ...]:
    """Those called `names`, in the order of METHODS; all of them for none."""
    known = [method.name for method in METHODS]
    for name in names:
        if name not in known:
            raise FormatError(
                f"There is no method named {name}.", hint=f"Choose among {', '.join(known)}."
            )
    return tuple(method for method in METHODS if not names or method.name in names)
