"""Which types a tensor could have, and which one it is made coarse with to see what it matters.

Knows types by their sizes and speed, not by what they do to a model.
"""

from __future__ import annotations

from typing import Literal

from engine.ggml_types import GgmlType
from engine.gguf_values import TensorInfo

Profile = Literal["any", "fast"]

_T = GgmlType
# From narrow to wide. With blocks of 32 the inputs have scales for 32 of them too, when llama.cpp
# computes: that is worth more than the bits where some are much larger than others.
_OF_256 = (
    _T.IQ2_XS,
    _T.IQ2_S,
    _T.Q2_K,
    _T.IQ3_XXS,
    _T.IQ3_S,
    _T.Q3_K,
    _T.IQ4_XS,
    _T.IQ4_NL,
    _T.Q4_K,
    _T.Q5_0,
    _T.Q5_K,
    _T.Q6_K,
    _T.Q8_0,
)
_OF_32 = (_T.IQ4_NL, _T.Q4_0, _T.Q4_1, _T.Q5_0, _T.Q5_1, _T.Q8_0)
# Their grids are looked up number by number, which takes processors two to four times as long.
_SLOW_ON_A_PROCESSOR = frozenset({_T.IQ2_XS, _T.IQ2_S, _T.IQ3_XXS, _T.IQ3_S})


def candidate_types(
    tensor: TensorInfo, profile: Profile, *, has_importance: bool
) -> tuple[GgmlType, ...]:
    """The types that `tensor` could have, from narrow to wide; the last one is as it is stored.

    `profile` "fast" leaves out what a processor is slow with. Types that ggml only makes by
    importance are left out where there is none.
    """
    fitting = list(_OF_256 if tensor.n_cols % 256 == 0 else _OF_32)
    if tensor.n_cols % 32:
        fitting = []
    if profile == "fast" or not has_importance:
        fitting = [t for t in fitting if t not in _SLOW_ON_A_PROCESSOR]
    whole = _T.F16 if tensor.type is _T.F32 else tensor.type
    return (*fitting, whole)


def coarse_type(tensor: TensorInfo) -> GgmlType:
    """The type that shows what a tensor matters: its error is large enough to be seen."""
    if tensor.n_cols % _T.Q3_K.block_size == 0:
        return _T.Q3_K
    return _T.Q4_0 if tensor.n_cols % _T.Q4_0.block_size == 0 else _T.F16
