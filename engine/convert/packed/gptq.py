"""GPTQ: AutoGPTQ, GPTQModel, AutoRound; 2, 3, 4 and 8 bits.

For y = x W^T with W [out, in], of `n_bits` to a code and groups of input columns:
qweight I32 [in * n_bits / 32, out], packed downwards; qzeros I32 [n_groups, out * n_bits / 32],
packed along the row; scales [n_groups, out]; g_idx I32 [in], the group of each input column.
W[o, i] = scales[g, o] * (q[i, o] - zero[g, o]) with g = g_idx[i]. The format "gptq" (v1) stores
zero - 1, modulo 2^n_bits; "gptq_v2" stores zero. With 3 bits codes lie across words.
Source: AutoGPTQ auto_gptq/nn_modules/qlinear, GPTQModel gptqmodel/nn_modules/qlinear.
"""

from __future__ import annotations

import numpy as np

from engine.checkpoint import StoredTensor
from engine.convert.packed.bits import Codes, dense, unpack, unpack_columns
from engine.convert.packed.quantization import Quantization
from engine.convert.packed.refused import refusal
from engine.convert.packed.shelf import FLOATS, WORDS, Shelf, misfit
from engine.convert.packed.weight import (
    Floats,
    Groups,
    Lattice,
    PackedWeight,
    fits_blocks,
    integer_lattice,
    ordered_groups,
)

BITS = (2, 3, 4, 8)


class GptqWeight(PackedWeight):
    def __init__(
        self,
        name: str,
        shelf: Shelf,
        parts: tuple[StoredTensor, StoredTensor, StoredTensor],
        n_bits: int,
        lattice: Lattice | None,
        groups: Groups,
        *,
        stores_zero_less_one: bool,
    ) -> None:
        qweight, self._qzeros, self._scales = parts
        n_in, n_out = qweight.shape[0] * 32 // n_bits, qweight.shape[1]
        super().__init__(name, (n_out, n_in), lattice)
        self._shelf, self._qweight, self._groups = shelf, qweight, groups
        self._layout = dense(n_bits)
        self._zero_step = int(stores_zero_less_one)

    def groups(self) -> Groups:
        return self._groups

    def codes(self, first: int, last: int) -> Codes:
        words = self._shelf.array(self._qweight)
        return unpack_columns(words, self._layout, first, last, self.shape[1])

    def scales(self, first: int, last: int) -> Floats:
        # Only the wanted columns are decoded: [n_groups, out] -> [n, n_groups].
        return self._shelf.columns(self._scales, first, last).T

    def zeros(self, first: int, last: int) -> Floats:
        stored = self._shelf.array(self._qzeros).view(np.uint8)
        # Eight codes are n_bits bytes.
        begin, end = first // 8, -(-last // 8)
        packed = stored[:, begin * self._layout.n_bits : end * self._layout.n_bits]
        zeros = unpack(packed, self._layout, packed.shape[1] * 8 // self._layout.n_bits)
        zeros = zeros[:, first - begin * 8 : last - begin * 8] + np.uint8(self._zero_step)
        zeros &= (1 << self._layout.n_bits) - 1
        return zeros.T.astype(np.float32)


def unpack_gptq(shelf: Shelf, quantization: Quantization) -> list[PackedWeight]:
    """Raises CorruptFile for tensors that do not fit, UnsupportedTensor for other formats."""
    layout = quantization.text("checkpoint_format", "format", default="gptq")
    if quantization.flag("is_marlin_format"):
        layout = "marlin"
    if layout not in ("gptq", "gptq_v2"):
        raise refusal(quantization.name, f"GPTQ in the format {layout}")
    return [
        _weight(shelf, quantization, base, is_v1=layout == "gptq")
        for base in shelf.bases(".qweight")
    ]


def _weight(shelf: Shelf, quantization: Quantization, base: str, *, is_v1: bool) -> PackedWeight:
    scales = shelf.take(f"{base}.scales", FLOATS, (None, None))
    n_groups, n_out = scales.shape
    qzeros = shelf.take(f"{base}.qzeros", WORDS, (n_groups, None))
    qweight = shelf.take(f"{base}.qweight", WORDS, (None, n_out))
    n_bits, rest = divmod(qzeros.shape[1] * 32, n_out)
    if rest or n_bits not in BITS or qweight.shape[0] * 32 % n_bits:
        raise misfit(qzeros, f"does not fit the {n_out} columns of {base}.scales")
    # GPTQModel may give some weights other bits than the rest.
    is_told = n_bits == quantization.integer("bits", default=4)
    if not is_told and not quantization.settings.get("dynamic"):
        raise quantization.disagrees(f"its tensors have {n_bits} bits")
    n_in = qweight.shape[0] * 32 // n_bits
    groups = _groups(shelf, quantization, base, n_in, n_groups)
    _drop_empty_bias(shelf, base, n_out)
    middle = 1 << (n_bits - 1)
    is_symmetric = quantization.flag("sym")
    if is_symmetric is None or not shelf.believes_config:
        is_symmetric = shelf.is_filled_with(qzeros, middle - is_v1, n_bits)
    lattice = integer_lattice(n_bits, middle if is_symmetric else None)
    return GptqWeight(
        f"{base}.weight",
        shelf,
        (qweight, qzeros, scales),
        n_bits,
        lattice if fits_blocks(groups) else None,
        groups,
        stores_zero_less_one=is_v1,
    )


def _drop_empty_bias(shelf: Shelf, base: str, n_out: int) -> None:
    """AutoGPTQ gives every matrix a bias; llama.cpp has no place for most of them."""
    if shelf.has(f"{base}.bias"):
        bias = shelf.look(f"{base}.bias")
        if bias.shape == (n_out,) and bias.dtype in FLOATS and not shelf.array(bias).any():
            shelf.take(bias.name, FLOATS)


def _groups(
    shelf: Shelf, quantization: Quantization, base: str, n_in: int, n_groups: int
) -> Groups:
    """The group of each input column; in act-order they are scattered."""
    group_size = quantization.integer("group_size", default=-1)
    group_cols = group_size if group_size > 0 else n_in
    if -(-n_in // group_cols) != n_groups:
        raise quantization.disagrees(f"{base[:120]} has {n_groups} groups in {n_in} columns")
    ordered = ordered_groups(n_in, group_cols)
    if not shelf.has(f"{base}.g_idx"):
        return ordered
    stored = shelf.take(f"{base}.g_idx", WORDS, (n_in,))
    if shelf.believes_config and quantization.flag("desc_act") is False:
        return ordered
    groups = shelf.groups(stored, n_groups)
    return ordered if np.array_equal(groups, ordered) else groups
