"""Snug's native kernels, compiled for what this processor can do; documented in `__init__.pyi`.

What is compiled on the computer that runs it is one module, `host`. A package holds one for any
processor of its kind and, for x86-64, others for its levels 3 (AVX2) and 4 (AVX-512).
"""

from __future__ import annotations

import importlib
from types import ModuleType

from engine._native import processor


def _best() -> ModuleType:
    levels = [f"x86_64_v{level}" for level in range(processor.level(), 1, -1)]
    for name in ("host", *levels):
        try:
            return importlib.import_module(f"engine._native.{name}")
        except ModuleNotFoundError:
            continue
    return importlib.import_module("engine._native.baseline")


_kernels = _best()
variant = _kernels.__name__.rpartition(".")[2]
globals().update({name: value for name, value in vars(_kernels).items() if name[0] != "_"})
