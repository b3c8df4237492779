"""The rules that declarations are written with: linear layers, norms, experts, layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod
from typing import TYPE_CHECKING

import msgspec

from engine.convert.architecture import Order, Part, Shapes, TensorRule
from engine.convert.transformer import EMBEDDING, OUTPUT, Transformer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Change = Callable[["NDArray[np.float32]"], "NDArray[np.float32]"]

BUFFERS = (
    r".*\.rotary_emb\.(inv_freq|cos_cached|sin_cached)",
    r".*\.attention\.bias",
    r".*\.masked_bias",
)
"""What old checkpoints store of what is computed."""


def plus_one(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Gemma and its kin store norms around 0, llama.cpp around 1."""
    return values + 1


def scaled(factor: float) -> Change:
    """What multiplies all numbers by `factor`."""
    import numpy as np

    return lambda values: values * np.float32(factor)


def interleaved(n_rows: int, n_heads: int) -> Order:
    """The order of the rows of a query or key projection.

    Hugging Face rotates the first half of a head against its second half, llama.cpp's "norm" rope
    rotates neighbours: row 2i of a head is its row i, row 2i + 1 its row i + head_dim / 2.
    Source: llama.cpp conversion/llama.py, permute.
    """
    return Order((n_heads, 2, n_rows // n_heads // 2), (0, 2, 1))


def tensor(ours: str, theirs: str, *shape: int, change: Change | None = None) -> TensorRule:
    """A tensor as it is stored, of `shape` with rows first."""
    return TensorRule(ours, shape, (Part((theirs,), shape),), change)


def embedding(h: Transformer) -> Iterator[TensorRule]:
    """The embedding, and the output matrix if it is another one."""
    # Tied checkpoints may store the shared matrix under either name.
    names = (EMBEDDING, OUTPUT) if h.is_tied else (EMBEDDING,)
    shape = (h.n_vocab, h.n_embd)
    yield TensorRule("token_embd.weight", shape, (Part(names, shape),))
    if not h.is_tied:
        yield tensor("output.weight", OUTPUT, *shape)


def tied_copies(h: Transformer) -> tuple[str, ...]:
    """What may be left out of a tied checkpoint: the second copy of the matrix."""
    return (r"model\.embed_tokens\.weight", r"lm_head\.weight") if h.is_tied else ()


class Layer(msgspec.Struct, frozen=True):
    """The names of layer `index` in the GGUF and in the checkpoint."""

    index: int
    prefix: str = "model.layers."

    @property
    def ours(self) -> str:
        return f"blk.{self.index}."

    @property
    def theirs(self) -> str:
        return f"{self.prefix}{self.index}."

    def tensor(
        self, ours: str, theirs: str, *shape: int, change: Change | None = None
    ) -> TensorRule:
        """A tensor as it is stored; both names are whole, but for the layer's."""
        return tensor(self.ours + ours, self.theirs + theirs, *shape, change=change)

    def norm(
        self, ours: str, theirs: str, n: int, *, is_required: bool = True
    ) -> Iterator[TensorRule]:
        """A norm's weight, and its bias if there is one."""
        for kind in ("weight", "bias"):
            part = Part((f"{self.theirs}{theirs}.{kind}",), (n,))
            needed = is_required and kind == "weight"
            yield TensorRule(f"{self.ours}{ours}.{kind}", (n,), (part,), is_required=needed)

    def qk_norms(self, n_q: int, n_k: int, *, change: Change | None = None) -> Iterator[TensorRule]:
        """The norms of queries and of keys."""
        yield self.tensor("attn_q_norm.weight", "self_attn.q_norm.weight", n_q, change=change)
        yield self.tensor("attn_k_norm.weight", "self_attn.k_norm.weight", n_k, change=change)

    def linear(
        self,
        ours: str,
        theirs: str,
        n_out: int,
        n_in: int,
        *,
        order: Order | None = None,
        change: Change | None = None,
    ) -> Iterator[TensorRule]:
        """A matrix, and its bias if there is one; `order` is that of the rows."""
        for kind, shape in (("weight", (n_out, n_in)), ("bias", (n_out,))):
            part = Part((f"{self.theirs}{theirs}.{kind}",), shape, order=order)
            name = f"{self.ours}{ours}.{kind}"
            yield TensorRule(name, shape, (part,), change, is_required=kind == "weight")

    def experts(self, ours: str, theirs: str, n_experts: int, n_out: int, n_in: int) -> TensorRule:
        """One matrix of every expert, stacked; `theirs` has {} where the expert's number goes."""
        names = [f"{self.theirs}{theirs.format(i)}.weight" for i in range(n_experts)]
        parts = tuple(Part((name,), (n_out, n_in)) for name in names)
        return TensorRule(f"{self.ours}{ours}.weight", (n_experts, n_out, n_in), parts)

    def slice(self, ours: str, theirs: str, stored: tuple[int, ...], rows: range) -> TensorRule:
        """Some rows of a tensor that holds several; both names are whole, but for the layer's.

        Of a stack of matrices the same `rows` of each.
        """
        if len(stored) < 3:
            shape = (len(rows), *stored[1:])
            return TensorRule(
                self.ours + ours, shape, (Part((self.theirs + theirs,), stored, rows),)
            )
        n_matrices, n_rows = prod(stored[:-2]), stored[-2]
        starts = range(0, n_matrices * n_rows, n_rows)
        parts = tuple(
            Part((self.theirs + theirs,), stored, range(s + rows.start, s + rows.stop, rows.step))
            for s in starts
        )
        return TensorRule(self.ours + ours, (*stored[:-2], len(rows), stored[-1]), parts)


def attention(
    layer: Layer, h: Transformer, *, is_interleaved: bool = False, q_change: Change | None = None
) -> Iterator[TensorRule]:
    """Query, key, value and output projections; `is_interleaved` for llama.cpp's "norm" rope."""
    order_q = interleaved(h.n_q, h.n_heads) if is_interleaved else None
    order_k = interleaved(h.n_kv, h.n_kv_heads) if is_interleaved else None
    stem = "self_attn."
    yield from layer.linear(
        "attn_q", f"{stem}q_proj", h.n_q, h.n_embd, order=order_q, change=q_change
    )
    yield from layer.linear("attn_k", f"{stem}k_proj", h.n_kv, h.n_embd, order=order_k)
    yield from layer.linear("attn_v", f"{stem}v_proj", h.n_kv, h.n_embd)
    yield from layer.linear("attn_output", f"{stem}o_proj", h.n_embd, h.n_q)


def gated_ffn(
    layer: Layer, n_embd: int, n_ff: int, *, theirs: str = "mlp.", suffix: str = ""
) -> Iterator[TensorRule]:
    """Gate, up and down projections; `suffix` as in ffn_gate_shexp."""
    yield from layer.linear(f"ffn_gate{suffix}", f"{theirs}gate_proj", n_ff, n_embd)
    yield from layer.linear(f"ffn_up{suffix}", f"{theirs}up_proj", n_ff, n_embd)
    yield from layer.linear(f"ffn_down{suffix}", f"{theirs}down_proj", n_embd, n_ff)


def experts_ffn(
    layer: Layer,
    shapes: Shapes,
    n_experts: int,
    n_embd: int,
    n_ff: int,
    *,
    theirs: str = "mlp.experts.{}.",
    names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"),
) -> Iterator[TensorRule]:
    """Gate, up and down projections of every expert, stacked.

    Some checkpoints hold them stacked already, gate and up projection in one matrix.
    """
    both, stacked_down = "mlp.experts.gate_up_proj", "mlp.experts.down_proj"
    if layer.theirs + both in shapes:
        stored = (n_experts, 2 * n_ff, n_embd)
        yield layer.slice("ffn_gate_exps.weight", both, stored, range(n_ff))
        yield layer.slice("ffn_up_exps.weight", both, stored, range(n_ff, 2 * n_ff))
        yield layer.tensor("ffn_down_exps.weight", stacked_down, n_experts, n_embd, n_ff)
        return
    gate, up, down = names
    yield layer.experts("ffn_gate_exps", theirs + gate, n_experts, n_ff, n_embd)
    yield layer.experts("ffn_up_exps", theirs + up, n_experts, n_ff, n_embd)
    yield layer.experts("ffn_down_exps", theirs + down, n_experts, n_embd, n_ff)
