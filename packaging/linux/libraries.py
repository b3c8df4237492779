"""The libraries that a bundle leaves to the system on Linux, and that it asks for no others.

Debian's packages have names that 12, 13 and Ubuntu all know. Of the C and the C++ library a package
needs what it was made with, or newer: this computer's.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ELF = b"\x7fELF"


def c_library() -> str:
    """What a package asks for of glibc."""
    if sys.platform != "linux":
        return "libc6"
    told = os.confstr("CS_GNU_LIBC_VERSION") or ""
    return f"libc6 (>= {told.removeprefix('glibc ')})"


def cpp_library() -> str:
    """What a package asks for of libstdc++, which has GCC's version."""
    if not shutil.which("dpkg-query"):
        return "libstdc++6"
    query = ["dpkg-query", "--show", "--showformat=${Version}", "libstdc++6"]
    told = subprocess.run(query, capture_output=True, text=True, check=False).stdout
    major = re.match(r"\d+", told)  # Ubuntu has a 14-20240412
    return f"libstdc++6 (>= {major[0]})" if major else "libstdc++6"


C_LIBRARY = c_library()
NEEDED = {
    "ld-linux-aarch64.so.1": C_LIBRARY,
    "ld-linux-x86-64.so.2": C_LIBRARY,
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libX11-xcb.so.1": "libx11-xcb1",
    "libX11.so.6": "libx11-6",
    "libc.so.6": C_LIBRARY,
    "libdbus-1.so.3": "libdbus-1-3",
    "libdl.so.2": C_LIBRARY,
    "libexpat.so.1": "libexpat1",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libgcc_s.so.1": "libgcc-s1",
    "libm.so.6": C_LIBRARY,
    "libpthread.so.0": C_LIBRARY,
    "libresolv.so.2": C_LIBRARY,
    "librt.so.1": C_LIBRARY,
    "libstdc++.so.6": cpp_library(),
    "libutil.so.1": C_LIBRARY,
    "libxcb.so.1": "libxcb1",
}
"""The file that the loader looks for, and the package that brings it: without, no window."""

RECOMMENDED = {
    "libvulkan.so.1": "libvulkan1",
    "libwayland-client.so.0": "libwayland-client0",
    "libwayland-cursor.so.0": "libwayland-cursor0",
    "libwayland-egl.so.1": "libwayland-egl1",
    "a graphics driver": "mesa-vulkan-drivers",
}
"""Without these Snug does without Vulkan, and without Wayland."""


def not_found(folder: Path) -> dict[str, list[str]]:
    """Returns the libraries that are neither in `folder` nor the system's, each with who asks.

    They were not on the computer that made the bundle, and so may not be on others.
    """
    there = {path.name for path in folder.rglob("*")} | set(NEEDED) | set(RECOMMENDED)
    missing: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file() or not is_elf(path):
            continue
        command = ["readelf", "-d", str(path)]
        dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        for name in re.findall(r"\(NEEDED\).*\[(.+)\]", dump):
            if name not in there:
                missing.setdefault(name, []).append(path.name)
    return missing


def is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(ELF)) == ELF
