"""What llama.cpp can compute on here, and what it is to compute on."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import msgspec

from engine.gpu_modules import graphics
from engine.graphics_cards import cards
from engine.hardware import Computer, Device, Graphics, detect
from engine.llama.backends import backends
from engine.llama.library import library
from engine.llama.registry import registered
from engine.processes import AUTO, CPU


def devices() -> tuple[Device, ...]:
    """Return what is computed on, with the memory that is free on each right now."""
    lib = library()
    return tuple(d for d in registered(lib).values() if _is_chosen(lib.device, d))


def use_devices(params: Any) -> Any:
    """Ask in llama_model_params for the chosen devices; what is returned must live as long.

    llama.cpp chooses by itself where nothing was.
    """
    lib = library()
    if lib.device == AUTO:
        return None
    chosen = [
        address
        for address, device in registered(lib).items()
        if device.is_graphics and _is_chosen(lib.device, device)
    ]
    array = (ctypes.c_void_p * (len(chosen) + 1))(*chosen)
    params.devices = ctypes.cast(array, ctypes.c_void_p)
    return array


def computer() -> Computer:
    """This computer, with all that it could compute on, used or not."""
    lib = library()
    found = graphics(lib.device, lib.look(), cards())
    # Of a device that is loaded the memory is known as it is now, of others it is not.
    free_bytes = {d.name: d.memory_free_bytes for d in registered(lib).values()}
    possible = tuple(
        msgspec.structs.replace(device, memory_free_bytes=free_bytes.get(device.name, 0))
        for device in found.devices
    )
    return msgspec.structs.replace(
        detect(devices()),
        graphics=Graphics(possible, found.unused, lib.notice),
        cpu_variant=_cpu_variant(),
    )


def _is_chosen(choice: str, device: Device) -> bool:
    if choice == AUTO or not device.is_graphics:
        return True
    return choice != CPU and device.name.casefold() == choice.casefold()


def _cpu_variant() -> str:
    """What follows "cpu-" in the name of the file, such as "haswell"."""
    files = (backend.file for backend in backends() if backend.name == "CPU")
    return Path(next(files, "")).stem.partition("ggml-cpu-")[2]
