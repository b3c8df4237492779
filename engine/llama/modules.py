"""Loads llama.cpp's backends where each is a module of its own (GGML_BACKEND_DL).

By the system's loader, and not by ggml's: what keeps a module from loading is then told, and a
folder of any name can be loaded from on Windows.
"""

from __future__ import annotations

import _ctypes
import ctypes
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from engine.gpu_modules import file_of_module

if TYPE_CHECKING:
    from engine.llama.library import Library

API_VERSION = 2  # GGML_BACKEND_API_VERSION of ggml-backend-impl.h


def load_module(lib: Library, path: Path) -> None:
    """Load the backend at `path` and register it with ggml. Raises OSError if there is none."""
    module = ctypes.CDLL(str(path))
    try:
        score = module.ggml_backend_score
    except (AttributeError, UnicodeDecodeError):  # it runs wherever it loads
        pass  # what the system says of that names the folder, which may be any bytes
    else:
        if not score():
            raise OSError(f"{path.name} is not for this processor")
    init = module.ggml_backend_init
    init.restype = ctypes.c_void_p
    backend = init()
    if not backend:
        raise OSError(f"{path.name} found nothing to work with")
    if ctypes.c_int.from_address(backend).value != API_VERSION:
        raise OSError(f"{path.name} is of another version of llama.cpp")
    lib.function("ggml_backend_register", None, ctypes.c_void_p)(backend)


def load_processor_modules(lib: Library, folder: Path) -> None:
    """Load what computes on the processor: the best variant for it, and helpers if there are any.

    Raises ImportError if nothing in `folder` does.
    """
    helper = file_of_module(folder, "blas")
    if helper.is_file():
        load_module(lib, helper)
    only, variant = file_of_module(folder, "cpu"), file_of_module(folder, "cpu-*").name
    scores = {path: _score(path) for path in sorted(folder.glob(variant))}
    best = max(scores, key=lambda path: scores[path], default=only)
    if not scores.get(best):
        best = only
    if not best.is_file():
        raise ImportError(f"llama.cpp has no backend in {folder}")
    load_module(lib, best)


def _score(path: Path) -> int:
    """How well a variant suits this processor; 0: not at all. It is unloaded again."""
    try:
        module = ctypes.CDLL(str(path))
    except OSError:
        return 0
    try:
        return int(module.ggml_backend_score())
    finally:
        if sys.platform == "win32":
            _ctypes.FreeLibrary(module._handle)
        else:
            _ctypes.dlclose(module._handle)
