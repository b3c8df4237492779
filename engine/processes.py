"""How a process of the engine is started: by the window, the command line, or another of them."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
"""Where it works. Not the user's folder: llama.cpp would run what it finds there as a backend."""

AUTO, CPU = "auto", "cpu"
"""Choices of what to compute on; any other is the name of a device."""
DEVICE = "SNUG_DEVICE"
"""The environment variable that has the choice."""
LIBRARY_VARIABLES = (
    "GGML_BACKEND_PATH",
    "LLAMA_CPP_LIB_PATH",
    "LLAVA_CPP_LIB",
    "MTMD_CPP_LIB",
    "CUDA_PATH",
    "HIP_PATH",
)
"""They choose what llama.cpp and its binding load, and nobody sets them for Snug.

On Windows the binding fails where the folder of one of the last two is gone.
"""

_FAULTS = {
    getattr(signal, name, None)
    for name in ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP")
}
# Access violation, illegal instruction, division by zero, stack overflow, heap, fast fail; abort().
_FAULTS_OF_WINDOWS = {
    0xC0000005,
    0xC000001D,
    0xC0000094,
    0xC00000FD,
    0xC0000374,
    0xC0000409,
    3,
}


def command(*words: str) -> list[str]:
    """The absolute command line of `snug-engine`, in a checkout and in a package (one folder)."""
    if getattr(sys, "frozen", False):
        program = Path(sys.executable)
        return [str(program.with_name("snug-engine").with_suffix(program.suffix)), *words]
    return [sys.executable, "-P", "-m", "engine", *words]


def environment(device: str = AUTO) -> dict[str, str]:
    """Ours, without what would load a stranger's library, start a debugger or tell on the user.

    Where weights are kept in huge pages (Linux, glibc 2.35), writing is 2 to 3 % faster.
    """
    kept = {k: v for k, v in os.environ.items() if k not in LIBRARY_VARIABLES}
    ours = {
        "GGML_NO_BACKTRACE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        DEVICE: device,
    }
    return {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"} | kept | ours


def is_crash(exit_status: int) -> bool:
    """Whether a process died of a fault of its own: not killed, nor ended by an error of Python's.

    `exit_status` is as `subprocess` has it: negative for a signal.
    """
    if sys.platform == "win32":
        return exit_status in _FAULTS_OF_WINDOWS
    return -exit_status in _FAULTS
