"""NVIDIA ModelOpt: NVFP4 and FP8, often both in one checkpoint."""

from __future__ import annotations

from engine.convert.packed.fp4 import packed_nvfp4
from engine.convert.packed.fp8 import unpack_fp8
from engine.convert.packed.quantization import Quantization
from engine.convert.packed.refused import refusal
from engine.convert.packed.shelf import Shelf
from engine.convert.packed.weight import PackedWeight


def unpack_modelopt(shelf: Shelf, quantization: Quantization) -> list[PackedWeight]:
    """Raises CorruptFile for what does not fit, UnsupportedTensor for other packings."""
    found: list[PackedWeight] = []
    for base in list(shelf.bases(".weight_scale_2")):
        name = f"{base}.weight"
        if not shelf.has(name) or shelf.look(name).dtype != "U8":
            algorithm = quantization.text("quant_algo", default="")
            raise refusal(quantization.name, f"ModelOpt {algorithm.upper()}".strip())
        blocks = shelf.take(name, ("U8",), (None, None))
        found.append(packed_nvfp4(shelf, name, blocks, f"{name}_scale_2", is_divisor=False))
    return found + unpack_fp8(shelf, quantization)
