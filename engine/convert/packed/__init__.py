"""Checkpoints that another quantizer has packed: every weight as if it were a plain one.

Where a GGUF type holds the same lattice, codes and scales are moved, not rounded again; else the
values are decoded exactly. One module knows one method; `refused` names those that nobody knows.
Light to import: numpy is needed only once there is something to unpack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.checkpoint import FLOAT_TYPES, Checkpoint
from engine.convert.packed.quantization import Quantization, read_quantization
from engine.convert.packed.refused import refusal, unannounced
from engine.convert.weights import StoredWeight, Weight

if TYPE_CHECKING:
    from engine.convert.packed.shelf import Shelf
    from engine.convert.packed.weight import PackedWeight

    Unpack = Callable[[Shelf, Quantization], list[PackedWeight]]


def weights_of(checkpoint: Checkpoint, *, believes_config: bool = False) -> dict[str, Weight]:
    """Every weight of `checkpoint` by the name that it has in a plain one.

    Reads config, headers, and the small tensors that decide which type holds a weight: its zero
    points and the order of its groups. With `believes_config` these are taken to be as the config
    says, which is enough to describe a model and too little to read from it. What is no part of a
    packed weight is a StoredWeight; a merged upload may hold nothing else, whatever its config
    still says.

    Raises UnsupportedTensor for a method or a layout that Snug does not know, and CorruptFile for
    tensors that do not fit each other or the config.
    """
    tensors = checkpoint.tensors
    quantization = read_quantization(checkpoint.name, checkpoint.folder, checkpoint.config)
    if quantization is None:
        if error := unannounced(checkpoint.name, tensors):
            raise error
        return {name: StoredWeight(checkpoint, tensor) for name, tensor in tensors.items()}
    method = _method(quantization)
    unpack = _unpacker(method)
    if unpack is None:
        raise refusal(checkpoint.name, method)
    from engine.convert.packed.shelf import Shelf

    shelf = Shelf(checkpoint, believes_config=believes_config)
    packed = unpack(shelf, quantization)
    if not packed and any(tensor.dtype not in FLOAT_TYPES for tensor in tensors.values()):
        raise quantization.disagrees("none of its tensors is")
    found: dict[str, Weight] = {weight.name: weight for weight in packed}
    for name, tensor in tensors.items():
        if name not in shelf.taken:
            if name in found:
                raise quantization.disagrees(f"{name[:120]} is there twice, packed and not")
            found[name] = StoredWeight(checkpoint, tensor)
    return found


def _unpacker(method: str) -> Unpack | None:
    from engine.convert.packed.awq import unpack_awq
    from engine.convert.packed.bitnet import unpack_bitnet
    from engine.convert.packed.bitsandbytes import unpack_bitsandbytes
    from engine.convert.packed.compressed_tensors import unpack_compressed_tensors
    from engine.convert.packed.fp4 import unpack_mxfp4
    from engine.convert.packed.fp8 import unpack_fp8
    from engine.convert.packed.gptq import unpack_gptq
    from engine.convert.packed.hqq import unpack_hqq
    from engine.convert.packed.modelopt import unpack_modelopt

    known: dict[str, Unpack] = {
        "awq": unpack_awq,
        "bitnet": unpack_bitnet,
        "bitsandbytes": unpack_bitsandbytes,
        "compressed-tensors": unpack_compressed_tensors,
        "fbgemm_fp8": unpack_fp8,
        "fp8": unpack_fp8,
        "gptq": unpack_gptq,
        "hqq": unpack_hqq,
        "modelopt": unpack_modelopt,
        "mxfp4": unpack_mxfp4,
    }
    return known.get(method)


def _method(quantization: Quantization) -> str:
    """AutoRound packs in the ways of others, which it names as in auto_round:auto_gptq."""
    if quantization.method not in ("auto-round", "intel/auto-round"):
        return quantization.method
    packing = quantization.text("packing_format")
    return {
        "auto_round:auto_gptq": "gptq",
        "auto_gptq": "gptq",
        "auto_round:auto_awq": "awq",
        "auto_awq": "awq",
    }.get(packing, f"AutoRound {packing}".strip())
