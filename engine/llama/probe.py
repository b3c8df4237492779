"""The process that tries one module: it loads it, says what there is to compute on, and ends.

It may crash or hang. Whoever started it waits, and knows why from the way in which it ended.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from pathlib import Path

import msgspec

from engine import vulkan_drivers
from engine.gpu_modules import Found, name_of
from engine.graphics_cards import NVIDIA, cards, why_no_nvidia
from engine.hardware import Device
from engine.llama.library import Library
from engine.llama.registry import registered

AFTERWARDS_S = 5.0
"""Nobody may be there any more to end this process."""


def main(path: str, patience_s: str) -> int:
    # Drivers may write to stdout too.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    # A thread that needs no lock of Python's, which a module may hold for ever.
    faulthandler.dump_traceback_later(float(patience_s) + AFTERWARDS_S, exit=True, file=sys.stderr)
    with out:
        out.write(msgspec.json.encode(try_module(Path(path))))
    # Not `return`: what a driver does at the end of a process says nothing of its work.
    os._exit(0)


def try_module(module: Path) -> Found:
    name = name_of(module)
    try:
        lib = Library(only_module=module)
    except OSError as error:
        return Found(problem=_why_none(name) or f"{name} has no driver here.", details=str(error))
    devices = tuple(d for d in registered(lib).values() if d.is_graphics)
    if not devices:
        details = "\n".join(lib.log_lines)
        problem = _why_none(name) or f"{name} found nothing to compute on."
        return Found(problem=problem, details=details)
    drivers = _drivers(name)
    return Found(tuple(_described(device, name, drivers) for device in devices))


def _why_none(name: str) -> str:
    return why_no_nvidia(cards()) if name == "CUDA" else ""


def _drivers(name: str) -> dict[str, str]:
    """The drivers by what the device is called, of all devices under the empty name."""
    if name == "Vulkan":
        return vulkan_drivers.drivers()
    if name == "CUDA":
        versions = [card.driver for card in cards() if card.vendor == NVIDIA]
        return {"": f"NVIDIA {versions[0]}" if versions else ""}
    return {}


def _described(device: Device, name: str, drivers: dict[str, str]) -> Device:
    driver = drivers.get(device.description, drivers.get("", ""))
    return msgspec.structs.replace(device, backend=name, driver=driver)
