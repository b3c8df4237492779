"""Packed checkpoints that Snug does not unpack, by name, and what to download instead."""

from __future__ import annotations

from collections.abc import Iterable

from engine.convert.packed.quantization import ORIGINAL_HINT
from engine.errors import UnsupportedTensor

# method in the config -> how its authors write it
NAMES = {
    "aqlm": "AQLM",
    "eetq": "EETQ",
    "exl2": "EXL2",
    "exl3": "EXL3",
    "fp_quant": "FP-Quant",
    "gguf": "GGUF",
    "higgs": "HIGGS",
    "marlin": "Marlin",
    "mlx": "MLX",
    "paroquant": "ParoQuant",
    "qqq": "QQQ",
    "quanto": "Quanto",
    "quark": "Quark",
    "quip": "QuIP#",
    "sinq": "SINQ",
    "spqr": "SpQR",
    "torchao": "torchao",
    "vptq": "VPTQ",
}

# The end of a tensor's name -> the method that leaves such tensors, also without a word in a config
SIGNS = {
    ".q_weight": "exl2",
    ".trellis": "exl3",
    ".codebooks": "aqlm",
    ".qweight": "gptq or awq",
    ".weight_packed": "compressed-tensors",
    ".W_q": "hqq",
    ".SCB": "bitsandbytes",
}

HINTS = {
    "mlx": "MLX is for Apple computers only. " + ORIGINAL_HINT,
    "gguf": "Choose the .gguf file itself.",
}


def refusal(name: str, method: str) -> UnsupportedTensor:
    """The refusal of the checkpoint `name`, packed with `method`."""
    known = NAMES.get(method, method[:40] or "packed")
    return UnsupportedTensor(
        f"{name} is already quantized ({known}), which Snug cannot convert.",
        hint=HINTS.get(method, ORIGINAL_HINT + " Or look for a GGUF of it."),
    )


def unannounced(name: str, tensors: Iterable[str]) -> UnsupportedTensor | None:
    """The refusal of a checkpoint with packed tensors of which no file says how they are packed."""
    for tensor in tensors:
        for end, method in SIGNS.items():
            if tensor.endswith(end):
                return UnsupportedTensor(
                    f"{name} holds packed tensors ({tensor[:80]}, as {NAMES.get(method, method)}"
                    " writes them), but no file of it says how they were packed.",
                    hint="Download the checkpoint again, with all its .json files.",
                )
    return None
