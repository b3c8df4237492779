"""An adapter's pairs A and B under the names of a GGUF, their rows and columns in its order.

llama.cpp adds alpha / rank * B A to what a matrix does, with one alpha for all: what counts
otherwise (rsLoRA, alphas of their own) is put into B.
Source: llama.cpp convert_lora_to_gguf.py, src/llama-adapter.cpp.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from engine.convert.architecture import Order, Part, TensorRule
from engine.convert.lora.adapter import Adapter, LowRank
from engine.convert.lora.refusals import no_gguf_adapter, no_place, wrong_shape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from engine.convert.lora.base import Base

# Tensors that llama.cpp multiplies with as they are, whatever an adapter says, by architecture.
UNTOUCHED = {
    "deepseek2": re.compile(r"output\.weight|blk\.\d+\.attn_(q|q_a|q_b|kv_a_mqa|k_b|v_b)\.weight"),
    "minicpm3": re.compile(r"blk\.\d+\.attn_(q_a|q_b|kv_a_mqa|kv_b)\.weight"),
    "gemma4": re.compile(r"per_layer_(token_embd|model_proj)\.weight"),
}


class Pair(NamedTuple):
    """What is added to the matrix `name` of a GGUF, or to each one of a stack of `n_stacked`.

    `matrices` are those of the stack, each with the parts that make it up, all of one `LowRank`.
    """

    name: str
    n_stacked: int
    n_rows: int
    n_cols: int
    matrices: tuple[tuple[LowRank, tuple[Part, ...]], ...]

    @property
    def rank(self) -> int:
        return self.matrices[0][0].rank

    @property
    def is_embedding(self) -> bool:
        """llama.cpp looks rows of it up: A and B are the other way round."""
        return self.name == "token_embd.weight"

    @property
    def shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of lora_a and lora_b, rows first."""
        if self.is_embedding:
            return (self.n_rows, self.rank), (self.n_cols, self.rank)
        outer = (self.n_stacked,) if self.n_stacked else ()
        return (*outer, self.rank, self.n_cols), (*outer, self.n_rows, self.rank)

    def load(self, alpha: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """lora_a and lora_b, float32 of `shapes`, to be counted with `alpha`."""
        import numpy as np

        a = np.stack([_columns(low.right(), parts[0].cols) for low, parts in self.matrices])
        b = np.stack([_left(low, parts, alpha) for low, parts in self.matrices])
        if self.is_embedding:
            a, b = b, a.transpose(0, 2, 1)
        a_shape, b_shape = self.shapes
        return np.ascontiguousarray(a).reshape(a_shape), np.ascontiguousarray(b).reshape(b_shape)


def _left(low_rank: LowRank, parts: tuple[Part, ...], alpha: float) -> NDArray[np.float32]:
    """The rows of B that `parts` take, one below the other, float32 [n_rows, rank]."""
    import numpy as np

    whole = low_rank.left(0, low_rank.shape[0])
    taken = []
    for part in parts:
        rows = part.rows if part.rows is not None else range(len(whole))
        span = whole[rows.start : rows.stop : rows.step]
        taken.append(span if part.order is None else span[part.order.indices()])
    left = np.concatenate(taken)
    return left if low_rank.strength == alpha else left * np.float32(low_rank.strength / alpha)


def _columns(right: NDArray[np.float32], cols: range | Order | None) -> NDArray[np.float32]:
    if cols is None:
        return right
    if isinstance(cols, range):
        return right[:, cols.start : cols.stop : cols.step]
    return right[:, cols.indices()]


def common_alpha(low_rank: Iterable[LowRank]) -> float:
    """The alpha of most pairs: these stay as they are."""
    return Counter(low.strength for low in low_rank).most_common(1)[0][0]


def find_pairs(base: Base, adapter: Adapter) -> list[Pair]:
    """The pairs of `adapter` under their GGUF names, in the order of the rules of `base`.

    Raises UnsupportedTensor for what has no place in the model, and for what llama.cpp would leave
    out or compute otherwise; CorruptFile for another shape.
    """
    untouched = UNTOUCHED.get(base.architecture, re.compile(r"(?!)"))
    found = []
    left = set(base.low_rank)
    for rule in base.rules:
        names = [_name(part, base.low_rank) for part in rule.parts]
        if not any(names):
            continue
        if untouched.fullmatch(rule.name) or rule.name.endswith("_norm.weight"):
            raise no_gguf_adapter(adapter, rule.name, "is computed without adapters in llama.cpp")
        left -= set(names)
        found.append(_pair(rule, names, adapter, base.low_rank))
    if left:
        raise no_place(adapter, min(left))
    return found


def _name(part: Part, low_rank: Mapping[str, LowRank]) -> str:
    return next((name for name in part.names if name in low_rank), "")


def _pair(
    rule: TensorRule, names: list[str], adapter: Adapter, low_rank: Mapping[str, LowRank]
) -> Pair:
    if not all(names):
        raise no_gguf_adapter(adapter, rule.name, "is changed in part only")
    if len(rule.parts[0].names) > 1 and rule.name == "token_embd.weight":
        raise no_gguf_adapter(adapter, rule.name, "is the output too in this model")
    if rule.change or len(rule.shape) > 3 or any(part.is_transposed for part in rule.parts):
        raise no_gguf_adapter(adapter, rule.name, "is made otherwise than by moving rows")
    for name, part in zip(names, rule.parts, strict=True):
        if low_rank[name].shape != part.shape:
            raise wrong_shape(adapter, name, low_rank[name].shape, part.shape)
    matrices = tuple(_matrices(rule, [low_rank[name] for name in names]))
    ranks = {low.rank for low, _ in matrices}
    n_stacked = rule.shape[0] if len(rule.shape) == 3 else 0
    if len(ranks) > 1 or len(matrices) != max(1, n_stacked):
        raise no_gguf_adapter(adapter, rule.name, "is changed by matrices of several ranks")
    n_rows, n_cols = rule.shape[-2:]
    return Pair(rule.name, n_stacked, n_rows, n_cols, matrices)


def _matrices(
    rule: TensorRule, low_rank: Sequence[LowRank]
) -> Iterator[tuple[LowRank, tuple[Part, ...]]]:
    """The parts of each matrix of a stack; where they are of several pairs none is found."""
    parts: list[Part] = []
    n_rows = 0
    for i, part in enumerate(rule.parts):
        if parts and (low_rank[i] is not low_rank[i - 1] or part.cols != parts[0].cols):
            return
        parts.append(part)
        n_rows += part.n_rows(of_vector=False)
        if n_rows == rule.shape[-2]:
            yield low_rank[i], tuple(parts)
            parts, n_rows = [], 0
