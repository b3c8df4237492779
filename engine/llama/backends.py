"""Which backends ggml has in this process, and the files they came from."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

from engine.hardware import Backend
from engine.llama.library import library


class _DlInfo(ctypes.Structure):
    """`Dl_info` of dlfcn.h."""

    _fields_ = (
        ("dli_fname", ctypes.c_char_p),
        ("dli_fbase", ctypes.c_void_p),
        ("dli_sname", ctypes.c_char_p),
        ("dli_saddr", ctypes.c_void_p),
    )


def backends() -> tuple[Backend, ...]:
    """Return the backends in the order in which llama.cpp prefers them."""
    function, pointer = library().function, ctypes.c_void_p
    count = function("ggml_backend_reg_count", ctypes.c_size_t)
    get = function("ggml_backend_reg_get", pointer, ctypes.c_size_t)
    name = function("ggml_backend_reg_name", ctypes.c_char_p, pointer)
    return tuple(
        Backend(name(backend).decode("utf-8", "replace"), file_of(backend))
        for backend in map(get, range(count()))
    )


def cpu_function(name: str, restype: Any, *argtypes: Any) -> Any:
    """Return the C function `name` of the CPU backend, which may be a module of its own."""
    (file,) = (backend.file for backend in backends() if backend.name == "CPU")
    # A second time for the file that is loaded already, so the same library.
    return ctypes.CFUNCTYPE(restype, *argtypes)((name, ctypes.CDLL(file)))


def file_of(address: int) -> str:
    """The shared library that holds what is at `address`, which is some library's."""
    if sys.platform == "win32":
        return _module_at(address)
    info = _DlInfo()
    dladdr = ctypes.CDLL(None).dladdr
    dladdr.argtypes = (ctypes.c_void_p, ctypes.POINTER(_DlInfo))
    if not dladdr(address, ctypes.byref(info)) or not info.dli_fname:
        return ""
    return os.fsdecode(info.dli_fname)


def _module_at(address: int) -> str:
    """As `file_of`, by GetModuleHandleExW (FROM_ADDRESS, UNCHANGED_REFCOUNT) on Windows."""
    kernel32 = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined,unused-ignore]
    handle, path = ctypes.c_void_p(), ctypes.create_unicode_buffer(32768)
    if not kernel32.GetModuleHandleExW(6, ctypes.c_void_p(address), ctypes.byref(handle)):
        return ""
    kernel32.GetModuleFileNameW(handle, path, len(path))
    return path.value


def shared_libraries() -> tuple[Path, ...]:
    """Every shared library in this process, where the system tells (Linux, Windows)."""
    import psutil

    if sys.platform == "darwin":
        dyld = ctypes.CDLL(None)
        dyld._dyld_get_image_name.restype = ctypes.c_char_p
        names = map(dyld._dyld_get_image_name, range(dyld._dyld_image_count()))
        return tuple(sorted({Path(os.fsdecode(name)) for name in names if name}))
    paths = {Path(mapped.path) for mapped in psutil.Process().memory_maps()}
    return tuple(sorted(p for p in paths if ".so" in p.suffixes or p.suffix in (".dll", ".pyd")))
