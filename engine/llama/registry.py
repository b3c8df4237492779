"""What ggml has in its registry: the devices of every backend that is loaded."""

from __future__ import annotations

import ctypes
import platform
import sys
from typing import TYPE_CHECKING

from engine.hardware import Device, DeviceKind

if TYPE_CHECKING:
    from engine.llama.library import Library

# GGML_BACKEND_DEVICE_TYPE_* of ggml-backend.h.
_KINDS: dict[int, DeviceKind] = {0: "cpu", 1: "gpu", 2: "igpu", 3: "accelerator"}


def registered(lib: Library) -> dict[int, Device]:
    """The devices by their address, with the memory that is free on each right now."""
    function, pointer = lib.function, ctypes.c_void_p
    count = function("ggml_backend_dev_count", ctypes.c_size_t)
    get = function("ggml_backend_dev_get", pointer, ctypes.c_size_t)
    name = function("ggml_backend_dev_name", ctypes.c_char_p, pointer)
    description = function("ggml_backend_dev_description", ctypes.c_char_p, pointer)
    kind = function("ggml_backend_dev_type", ctypes.c_int, pointer)
    backend = function("ggml_backend_dev_backend_reg", pointer, pointer)
    backend_name = function("ggml_backend_reg_name", ctypes.c_char_p, pointer)
    size_pointer = ctypes.POINTER(ctypes.c_size_t)
    memory = function("ggml_backend_dev_memory", None, pointer, size_pointer, size_pointer)
    found = {}
    for address in map(get, range(count())):
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        memory(address, ctypes.byref(free), ctypes.byref(total))
        found[address] = Device(
            name=name(address).decode("utf-8", "replace"),
            description=description(address).decode("utf-8", "replace"),
            kind=_KINDS.get(kind(address), "accelerator"),
            memory_total_bytes=total.value,
            memory_free_bytes=free.value,
            shares_main_memory=sys.platform == "darwin" and platform.machine() == "arm64",
            backend=backend_name(backend(address)).decode("utf-8", "replace"),
        )
    return found
