"""The graphics cards that the system names, without loading a driver's library.

So it can be said why a card is not used, and told when something about them has changed. Linux and
Windows; a Mac needs no such words.
"""

from __future__ import annotations

import logging
import os
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

log = logging.getLogger(__name__)

NVIDIA, AMD, INTEL = 0x10DE, 0x1002, 0x8086
"""Whose cards compute. What a server or a virtual machine shows its screen with does not."""
OLDEST_NVIDIA = 535
"""The driver that Snug's CUDA module needs; on older ones Vulkan lacks things too."""

# Folders with the files by which Vulkan's loader finds drivers.
VULKAN = tuple(Path(root, "vulkan", "icd.d") for root in ("/etc", "/usr/share", "/usr/local/share"))
# What hides devices from drivers, or names other ones.
_VARIABLES = re.compile(r"GGML_VK_|CUDA_VISIBLE|HIP_VISIBLE|ROCR_VISIBLE|VK_|NVIDIA_VISIBLE")
# The class of display adapters, in Windows's registry.
_DISPLAY = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"


class Card(msgspec.Struct, frozen=True):
    """`vendor` is PCI's number; `driver` a name or a version, empty where there is none."""

    vendor: int
    driver: str = ""
    name: str = ""


def cards() -> tuple[Card, ...]:
    if sys.platform == "win32":
        try:
            return _cards_of_windows()
        except OSError as error:
            log.warning("the registry names no cards: %s", error)
            return ()
    return cards_of_linux(Path("/sys"), Path("/proc"))


def cards_of_linux(sys_folder: Path, proc: Path) -> tuple[Card, ...]:
    """The display adapters on the PCI bus; NVIDIA's driver with its version."""
    found = []
    for folder in sorted(sys_folder.glob("bus/pci/devices/*")):
        try:
            if not (folder / "class").read_text().startswith("0x03"):
                continue
            vendor = int((folder / "vendor").read_text(), 16)
            driver = (folder / "driver").resolve().name
        except (OSError, ValueError):  # unplugged meanwhile
            continue
        driver = "" if driver == "driver" else driver
        if driver == "nvidia":
            driver = _nvidia_version(proc / "driver" / "nvidia" / "version") or driver
        found.append(Card(vendor, driver))
    return tuple(found)


def _nvidia_version(path: Path) -> str:
    try:
        found = re.search(r"\s(\d{3,}\.\d[\d.]*)\s", path.read_text(errors="replace"))
    except OSError:
        return ""
    return found[1] if found else ""


def _cards_of_windows() -> tuple[Card, ...]:
    import winreg

    found = []
    with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _DISPLAY) as adapters:  # type: ignore[attr-defined,unused-ignore]
        for number in range(winreg.QueryInfoKey(adapters)[0]):  # type: ignore[attr-defined,unused-ignore]
            try:
                key = winreg.OpenKey(adapters, winreg.EnumKey(adapters, number))  # type: ignore[attr-defined,unused-ignore]
                with key:
                    device, version, name = (
                        str(winreg.QueryValueEx(key, value)[0])  # type: ignore[attr-defined,unused-ignore]
                        for value in ("MatchingDeviceId", "DriverVersion", "DriverDesc")
                    )
            except OSError:  # "Properties", which only the system may read
                continue
            if vendor := re.search(r"ven_([0-9a-f]{4})", device.lower()):
                found.append(Card(int(vendor[1], 16), windows_version(vendor[1], version), name))
    return tuple(found)


def windows_version(vendor: str, version: str) -> str:
    """NVIDIA's own number is in the last five digits of Windows's: 31.0.15.3598 is 535.98."""
    digits = version.replace(".", "")[-5:]
    return f"{digits[:3]}.{digits[3:]}" if vendor == "10de" and len(digits) == 5 else version


def why_no_nvidia(found: tuple[Card, ...]) -> str:
    """Why an NVIDIA card that is there cannot be computed on, as far as its driver says; or ""."""
    ours = [card for card in found if card.vendor == NVIDIA]
    if not ours:
        return ""
    version = next((card.driver for card in ours if re.match(r"\d{3,}\.\d", card.driver)), "")
    if not version:
        return f"NVIDIA GPU found, but not its driver: {OLDEST_NVIDIA} or newer."
    if int(version.split(".")[0]) < OLDEST_NVIDIA:
        return f"NVIDIA GPU found, but its driver is too old ({version}): {OLDEST_NVIDIA} or newer."
    return ""


def fingerprint(vulkan: Sequence[Path] = VULKAN) -> tuple[str, ...]:
    """Words of which one changes when a card, a driver or what it obeys does."""
    files = [file for folder in vulkan for file in sorted(folder.glob("*.json"))]
    return (
        platform.release(),
        platform.version(),
        *map(str, cards()),
        *map(_stamp, files),
        *(f"{name}={os.environ[name]}" for name in sorted(os.environ) if _VARIABLES.match(name)),
    )


def _stamp(file: Path) -> str:
    try:
        return f"{file} {file.stat().st_mtime_ns}"
    except OSError:  # a link to what is gone, as a driver that was removed by hand leaves
        return str(file)
