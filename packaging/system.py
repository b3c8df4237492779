"""What the operating system must bring along, and the one command that installs what is missing.

Knows compilers, Python's headers and the libraries Qt loads; installs nothing but with apt-get as
root. Plain standard library: it runs before there is a virtual environment.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

VERSION = f"{sys.version_info[0]}.{sys.version_info[1]}"


class Need(NamedTuple):
    """Something of the system's, and the package that brings it, by package manager."""

    what: str
    apt: str
    dnf: str
    pacman: str
    zypper: str


PYTHON_VENV = Need(
    "Python's venv module", f"python{VERSION}-venv", "python3-pip", "python", f"python{VERSION}"
)
PYTHON_HEADERS = Need(
    "Python's C headers",
    f"python{VERSION}-dev",
    "python3-devel",
    "python",
    f"python{VERSION.replace('.', '')}-devel",
)
VULKAN_HEADERS = Need(
    "Vulkan's headers", "libvulkan-dev", "vulkan-headers", "vulkan-headers", "vulkan-devel"
)
SPIRV_HEADERS = Need(
    "SPIR-V's headers", "spirv-headers", "spirv-headers-devel", "spirv-headers", "spirv-headers"
)
GLSLC = Need("glslc", "glslc", "glslc", "shaderc", "shaderc")
NVCC = Need("CUDA's compiler", "nvidia-cuda-toolkit", "cuda-toolkit", "cuda", "cuda-toolkit")
COMPILER = Need("a C++ compiler", "g++", "gcc-c++", "gcc", "gcc-c++")
TRIAL_TOOLS = {
    "mmdebstrap": Need("mmdebstrap", "mmdebstrap", "mmdebstrap", "mmdebstrap", "mmdebstrap"),
    "Xvfb": Need("Xvfb", "xvfb", "xorg-x11-server-Xvfb", "xorg-server-xvfb", "xorg-x11-server"),
    "xdotool": Need("xdotool", "xdotool", "xdotool", "xdotool", "xdotool"),
    "import": Need("ImageMagick", "imagemagick", "ImageMagick", "imagemagick", "ImageMagick"),
    "makensis": Need("NSIS", "nsis", "mingw32-nsis", "nsis", "mingw32-cross-nsis"),
    "gcc": COMPILER,
}
SOFTWARE_VULKAN = Need(
    "Mesa's Vulkan drivers",
    "mesa-vulkan-drivers",
    "mesa-vulkan-drivers",
    "vulkan-swrast",
    "libvulkan_lvp",
)

# Libraries that Qt needs for any window, also an invisible one, and the further ones for X11.
QT_LIBRARIES = {
    "libEGL.so.1": Need("libEGL", "libegl1", "libglvnd-egl", "libglvnd", "Mesa-libEGL1"),
    "libGL.so.1": Need("libGL", "libgl1", "libglvnd-glx", "libglvnd", "Mesa-libGL1"),
    "libxkbcommon.so.0": Need(
        "libxkbcommon", "libxkbcommon0", "libxkbcommon", "libxkbcommon", "libxkbcommon0"
    ),
    "libdbus-1.so.3": Need("libdbus", "libdbus-1-3", "dbus-libs", "dbus", "libdbus-1-3"),
    "libfontconfig.so.1": Need(
        "libfontconfig", "libfontconfig1", "fontconfig", "fontconfig", "fontconfig"
    ),
    "libglib-2.0.so.0": Need("libglib", "libglib2.0-0", "glib2", "glib2", "libglib-2_0-0"),
}
X11_LIBRARIES = {
    "libxcb-cursor.so.0": Need(
        "libxcb-cursor", "libxcb-cursor0", "xcb-util-cursor", "xcb-util-cursor", "libxcb-cursor0"
    ),
    "libxkbcommon-x11.so.0": Need(
        "libxkbcommon-x11",
        "libxkbcommon-x11-0",
        "libxkbcommon-x11",
        "libxkbcommon-x11",
        "libxkbcommon-x11-0",
    ),
    "libxcb-icccm.so.4": Need(
        "libxcb-icccm", "libxcb-icccm4", "xcb-util-wm", "xcb-util-wm", "libxcb-icccm4"
    ),
    "libxcb-image.so.0": Need(
        "libxcb-image", "libxcb-image0", "xcb-util-image", "xcb-util-image", "libxcb-image0"
    ),
    "libxcb-keysyms.so.1": Need(
        "libxcb-keysyms",
        "libxcb-keysyms1",
        "xcb-util-keysyms",
        "xcb-util-keysyms",
        "libxcb-keysyms1",
    ),
    "libxcb-render-util.so.0": Need(
        "libxcb-render-util",
        "libxcb-render-util0",
        "xcb-util-renderutil",
        "xcb-util-renderutil",
        "libxcb-render-util0",
    ),
    "libxcb-shape.so.0": Need("libxcb-shape", "libxcb-shape0", "libxcb", "libxcb", "libxcb-shape0"),
    "libxcb-randr.so.0": Need("libxcb-randr", "libxcb-randr0", "libxcb", "libxcb", "libxcb-randr0"),
}

OLDEST_VULKAN_HEADERS = 275
INCLUDE = Path("/usr/include")
MAKESELF = Need("makeself", "makeself", "makeself", "makeself", "makeself")

INSTALL = {
    "apt": "apt install",
    "dnf": "dnf install",
    "pacman": "pacman -S --needed",
    "zypper": "zypper install",
}


class Missing(Exception):
    """The system lacks something; the text is one sentence with the command that installs it."""


def missing_for_python() -> list[Need]:
    """Returns what a virtual environment needs and this Python does not have."""
    return [] if importlib.util.find_spec("ensurepip") else [PYTHON_VENV]


def missing_for_compiling() -> list[Need]:
    """Returns what llama.cpp and the native module need to compile."""
    needs = []
    if sys.platform == "darwin":
        # /usr/bin/c++ is always there; without the tools it only opens a dialog.
        if subprocess.run(["xcode-select", "-p"], capture_output=True, check=False).returncode:
            needs.append(COMPILER)
    elif not any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++")):
        needs.append(COMPILER)
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        needs.append(PYTHON_HEADERS)
    return needs


def missing_for_backend(name: str) -> list[Need]:
    """Returns what llama.cpp's backend `name` needs to compile beside the processor's.

    Raises Missing where the system's package is too old.
    """
    if name == "cuda" and not (shutil.which("nvcc") or os.environ.get("CUDACXX")):
        return [NVCC]
    if name != "vulkan" or os.environ.get("VULKAN_SDK"):
        return []
    require_new_headers(INCLUDE / "vulkan" / "vulkan_core.h")
    return _missing_for_vulkan()


def _missing_for_vulkan() -> list[Need]:
    there = {
        VULKAN_HEADERS: (INCLUDE / "vulkan" / "vulkan.hpp").exists(),
        SPIRV_HEADERS: (INCLUDE / "spirv").exists(),
        GLSLC: bool(shutil.which("glslc")),
    }
    return [need for need, is_there in there.items() if not is_there]


def require_new_headers(file: Path) -> None:
    """Raises Missing if Vulkan's headers are there and older than llama.cpp's code."""
    text = file.read_text("utf-8") if file.exists() else ""
    found = re.search(r"^#define VK_HEADER_VERSION (\d+)$", text, re.MULTILINE)
    if found and int(found[1]) < OLDEST_VULKAN_HEADERS:
        raise Missing(
            f"Vulkan's headers here are of version 1.3.{found[1]}, and 1.3.{OLDEST_VULKAN_HEADERS}"
            " or newer is needed: install the Vulkan SDK, and set VULKAN_SDK to its folder."
        )


def missing_for_qt() -> list[Need]:
    """Returns the libraries that Qt will not find, by loading each of them."""
    if not sys.platform.startswith("linux"):
        return []
    libraries = dict(QT_LIBRARIES)
    if os.environ.get("DISPLAY") and "QT_QPA_PLATFORM" not in os.environ:
        libraries.update(X11_LIBRARIES)
    return [need for name, need in libraries.items() if not _can_load(name)]


def missing_for_bundle(backends: str) -> list[Need]:
    """Returns what making a bundle needs: what it takes along of the system, and for Vulkan more.

    Bundles without X11's libraries are made without a complaint, and open no window elsewhere.
    """
    needs = missing_for_compiling()
    if sys.platform.startswith("linux"):
        libraries = {**QT_LIBRARIES, **X11_LIBRARIES}
        needs += [need for name, need in libraries.items() if not _can_load(name)]
        if backends == "vulkan":
            needs += _missing_for_vulkan()
    return needs


def missing_for_installers() -> list[Need]:
    """Returns what making Linux's packages of a bundle needs."""
    return [] if shutil.which("makeself") else [MAKESELF]


def missing_for_trials() -> list[Need]:
    """Returns what trying the packages needs."""
    needs = [need for tool, need in TRIAL_TOOLS.items() if not shutil.which(tool)]
    if not list(Path("/usr/share/vulkan/icd.d").glob("lvp_*.json")):
        needs.append(SOFTWARE_VULKAN)
    return needs


def provide(needs: list[Need], log: Path) -> None:
    """Installs `needs` where that is our business (root on Debian); raises Missing elsewhere."""
    if not needs:
        return
    manager = package_manager()
    if manager == "apt" and os.geteuid() == 0:
        _apt_install(needs, log)
    else:
        raise Missing(how_to_install(needs, manager))


def package_manager() -> str | None:
    """Returns the key of INSTALL that this system uses, or None."""
    programs = {"apt": "apt-get", "dnf": "dnf", "pacman": "pacman", "zypper": "zypper"}
    return next((name for name, program in programs.items() if shutil.which(program)), None)


def how_to_install(needs: list[Need], manager: str | None) -> str:
    """Returns one sentence: what is missing and the exact command that brings it."""
    what = _listed([need.what for need in needs])
    if sys.platform == "darwin":
        command = "xcode-select --install" if COMPILER in needs else "brew install python"
        return f"Snug needs {what}; install it with: {command}"
    if manager is None:
        return f"Snug needs {what}; install it with the package manager of this system."
    packages = _packages(needs, manager)
    return f"Snug needs {what}; install with: sudo {INSTALL[manager]} {' '.join(packages)}"


def _apt_install(needs: list[Need], log: Path) -> None:
    packages = _packages(needs, "apt")
    print(f"Installing {_listed(packages)} with apt-get.", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        for command in (["apt-get", "update"], install):
            done = subprocess.run(
                command, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False
            )
    if done.returncode:
        raise Missing(f"{how_to_install(needs, 'apt')} (apt-get failed here, see {log})")


def _packages(needs: list[Need], manager: str) -> list[str]:
    return sorted({str(getattr(need, manager)) for need in needs})


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _can_load(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True
