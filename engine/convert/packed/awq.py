"""AWQ as AutoAWQ's GEMM kernel wants it; 4 bits.

For W [out, in]: qweight I32 [in, out / 8], qzeros I32 [n_groups, out / 8], scales [n_groups, out];
a word holds eight neighbouring columns in the order of `bits.AWQ`.
W[o, i] = scales[g, o] * (q[i, o] - zero[g, o]) with g = i // group_size.
Source: AutoAWQ awq/utils/packing_utils.py, awq/modules/linear/gemm.py.
"""

from __future__ import annotations

import numpy as np

from engine.checkpoint import StoredTensor
from engine.convert.packed.bits import AWQ, Codes, split_columns
from engine.convert.packed.quantization import Quantization
from engine.convert.packed.refused import refusal
from engine.convert.packed.shelf import FLOATS, WORDS, Shelf
from engine.convert.packed.weight import (
    Floats,
    Groups,
    PackedWeight,
    fits_blocks,
    integer_lattice,
    ordered_groups,
)


class AwqWeight(PackedWeight):
    def __init__(
        self,
        name: str,
        shelf: Shelf,
        parts: tuple[StoredTensor, StoredTensor, StoredTensor],
        groups: Groups,
        *,
        is_symmetric: bool,
    ) -> None:
        self._qweight, self._qzeros, self._scales = parts
        n_in, n_out = self._qweight.shape[0], self._scales.shape[1]
        lattice = integer_lattice(4, 8 if is_symmetric else None) if fits_blocks(groups) else None
        super().__init__(name, (n_out, n_in), lattice)
        self._shelf, self._groups = shelf, groups

    def groups(self) -> Groups:
        return self._groups

    def codes(self, first: int, last: int) -> Codes:
        return split_columns(self._shelf.array(self._qweight), AWQ, first, last)

    def scales(self, first: int, last: int) -> Floats:
        return self._shelf.columns(self._scales, first, last).T

    def zeros(self, first: int, last: int) -> Floats:
        return split_columns(self._shelf.array(self._qzeros), AWQ, first, last).astype(np.float32)


def unpack_awq(shelf: Shelf, quantization: Quantization) -> list[PackedWeight]:
    """Raises CorruptFile for tensors that do not fit, UnsupportedTensor for other kernels."""
    kernel = quantization.text("version", "checkpoint_format", "format", default="gemm")
    if kernel != "gemm":
        raise refusal(quantization.name, f"AWQ for the kernel {kernel}")
    n_bits = quantization.integer("bits", "w_bit", default=4)
    if n_bits != 4:
        raise refusal(quantization.name, f"AWQ with {n_bits} bits")
    group_size = quantization.integer("group_size", "q_group_size", default=-1)
    is_said_symmetric = bool(quantization.flag("sym")) or quantization.flag("zero_point") is False
    found: list[PackedWeight] = []
    for base in shelf.bases(".qweight"):
        scales = shelf.take(f"{base}.scales", FLOATS, (None, None))
        n_groups, n_out = scales.shape
        if n_out % 8:
            raise quantization.disagrees(f"{base[:120]} has {n_out} rows, not a multiple of 8")
        qweight = shelf.take(f"{base}.qweight", WORDS, (None, n_out // 8))
        qzeros = shelf.take(f"{base}.qzeros", WORDS, (n_groups, n_out // 8))
        n_in = qweight.shape[0]
        group_cols = group_size if group_size > 0 else n_in
        if -(-n_in // group_cols) != n_groups:
            raise quantization.disagrees(f"{base[:120]} has {n_groups} groups in {n_in} columns")
        is_symmetric = is_said_symmetric
        if not shelf.believes_config:
            is_symmetric = shelf.is_filled_with(qzeros, 8, 4)
        found.append(
            AwqWeight(
                f"{base}.weight",
                shelf,
                (qweight, qzeros, scales),
                ordered_groups(n_in, group_cols),
                is_symmetric=is_symmetric,
            )
        )
    return found
