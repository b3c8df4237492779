"""This computer: memory, processor, and the devices that ggml listed.

Knows nothing of models. The memory is what this process may use: a control group's limit (a
container, a systemd unit) counts like the size of the machine.
"""

from __future__ import annotations

import ctypes
import math
import platform
import subprocess
import sys
from pathlib import Path
from typing import Literal

import msgspec

from engine.words import format_bytes

DeviceKind = Literal["cpu", "gpu", "igpu", "accelerator"]

# Flags that matter to ggml's kernels, as the systems spell them -> as people spell them.
_INSTRUCTION_SETS = {
    "sse4_2": "SSE4.2",
    "avx": "AVX",
    "f16c": "F16C",
    "fma": "FMA",
    "avx2": "AVX2",
    "avx_vnni": "AVX-VNNI",
    "avx512f": "AVX512",
    "avx512_vbmi": "AVX512-VBMI",
    "avx512vbmi": "AVX512-VBMI",
    "avx512_vnni": "AVX512-VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_int8": "AMX-INT8",
    "asimd": "NEON",
    "asimddp": "DOTPROD",
    "i8mm": "I8MM",
    "sve": "SVE",
    "sme": "SME",
}
# IsProcessorFeaturePresent, processthreadsapi.h.
_WINDOWS_FEATURES = {38: "SSE4.2", 39: "AVX", 40: "AVX2", 41: "AVX512", 19: "NEON", 43: "DOTPROD"}
# hw.optional.arm.* of Apple silicon.
_MACOS_FEATURES = {
    "hw.optional.arm.FEAT_DotProd": "DOTPROD",
    "hw.optional.arm.FEAT_I8MM": "I8MM",
    "hw.optional.arm.FEAT_SME": "SME",
    "hw.optional.avx2_0": "AVX2",
    "hw.optional.avx512f": "AVX512",
}


class Cpu(msgspec.Struct, frozen=True):
    """The processor; `instruction_sets` lists only those that ggml has kernels for."""

    model: str
    physical_cores: int
    logical_cores: int
    instruction_sets: tuple[str, ...]


class Device(msgspec.Struct, frozen=True):
    """One entry of ggml's device list; memory in bytes, 0 where ggml does not say.

    `shares_main_memory`: what it holds is taken from main memory, as on a Mac. `backend` computes
    on it; `driver` is empty where nothing is told of it.
    """

    name: str
    description: str
    kind: DeviceKind
    memory_total_bytes: int
    memory_free_bytes: int
    shares_main_memory: bool = False
    backend: str = ""
    driver: str = ""

    @property
    def is_graphics(self) -> bool:
        return self.kind in ("gpu", "igpu")

    @property
    def short_name(self) -> str:
        """Without its maker: "RTX 3060"."""
        name = self.description or self.name
        for maker in ("NVIDIA GeForce ", "NVIDIA ", "AMD Radeon ", "Intel(R) "):
            name = name.removeprefix(maker)
        return name

    def about(self) -> str:
        """Its backend, memory and driver, as far as they are known."""
        parts = [self.backend] if self.backend else []
        if self.memory_total_bytes:
            parts.append(f"{format_bytes(self.memory_total_bytes)} memory")
        if self.memory_free_bytes:
            parts.append(f"{format_bytes(self.memory_free_bytes)} free")
        if self.driver:
            parts.append(f"driver {self.driver}")
        return ", ".join(parts)


class Backend(msgspec.Struct, frozen=True):
    """One of ggml's backends, and the file with its code."""

    name: str
    file: str


class Unused(msgspec.Struct, frozen=True):
    """A backend that nothing is computed on, and why not, as a sentence.

    `is_quarantined`: it crashed or hung, and is not tried again until someone says so.
    """

    name: str
    reason: str
    is_quarantined: bool = False
    details: str = ""


class Graphics(msgspec.Struct, frozen=True):
    """What models could be computed on beside the processor, used or not.

    `notice` tells what the user would not expect of what is used, and is empty if there is nothing.
    """

    devices: tuple[Device, ...] = ()
    unused: tuple[Unused, ...] = ()
    notice: str = ""


class Computer(msgspec.Struct, frozen=True):
    """What there is to run a model on; `memory_available_bytes` can be taken without swapping.

    `devices` are those that models are computed on now. `cpu_variant` names which of llama.cpp's
    modules for processors is used, where there are several.
    """

    memory_total_bytes: int
    memory_available_bytes: int
    cpu: Cpu
    devices: tuple[Device, ...] = ()
    graphics: Graphics = Graphics()
    cpu_variant: str = ""

    @property
    def gpus(self) -> tuple[Device, ...]:
        """The devices with a memory of their own, the one with most free memory first."""
        gpus = [d for d in self.devices if d.kind == "gpu" and d.memory_total_bytes > 0]
        return tuple(sorted(gpus, key=lambda device: -device.memory_free_bytes))

    def sentence(self) -> str:
        """This computer in a few words, such as "16 GB memory, RTX 3060 12 GB"."""
        parts = [f"{_installed_gb(self.memory_total_bytes)} GB memory"]
        parts += [f"{g.short_name} {_installed_gb(g.memory_total_bytes)} GB" for g in self.gpus]
        if len(parts) == 1:
            parts.append(f"{self.cpu.model}, {self.cpu.physical_cores} cores")
        return ", ".join(parts)


def detect(devices: tuple[Device, ...] = ()) -> Computer:
    """Look at this computer; `devices` is ggml's list (`engine.llama.ggml.devices()`) if known."""
    import psutil  # slow to load, and the window knows `Device` before it needs a figure

    memory = psutil.virtual_memory()
    total_bytes, available_bytes = memory.total, memory.available
    for limit_bytes, free_bytes in _cgroup_limits(
        Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")
    ):
        total_bytes = min(total_bytes, limit_bytes)
        available_bytes = min(available_bytes, free_bytes)
    logical_cores = psutil.cpu_count(logical=True) or 1
    cpu = Cpu(
        model=_cpu_model(),
        physical_cores=psutil.cpu_count(logical=False) or logical_cores,
        logical_cores=logical_cores,
        instruction_sets=_instruction_sets(),
    )
    return Computer(total_bytes, available_bytes, cpu, devices)


def _installed_gb(size_bytes: int) -> int:
    """The size as it is sold: 15.4 GiB are "16 GB" of which the firmware kept some."""
    size_gib = size_bytes / 2**30
    if abs(size_gib - round(size_gib)) < 0.05 or size_gib < 2:
        return max(1, round(size_gib))
    return 2 * math.ceil(size_gib / 2)


def _cgroup_limits(membership: Path, root: Path) -> list[tuple[int, int]]:
    """Return (limit, free) in bytes for every control group above this process that has a limit.

    `membership` is /proc/self/cgroup, `root` the mount point; version 2 and version 1 are read.
    Page cache that can be dropped (inactive_file) counts as free.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # not Linux
        return []
    limits = []
    for line in lines:
        hierarchy, controllers, path = line.split(":", 2)
        if hierarchy == "0":
            base, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        # A container often sees its own group as the root of the mount, hence the base itself.
        inside = Path(path.lstrip("/"))
        for folder in (base / inside, *(base / parent for parent in inside.parents), base):
            limit = _read_limit(folder, *names)
            if limit and limit not in limits:
                limits.append(limit)
    return limits


def _read_limit(
    folder: Path, limit_name: str, usage_name: str, cache_name: str
) -> tuple[int, int] | None:
    try:
        limit_text = (folder / limit_name).read_text().strip()
        usage_bytes = int((folder / usage_name).read_text())
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except OSError:  # no memory controller at this level
        return None
    # Version 1 writes "no limit" as the largest multiple of the page size.
    if limit_text == "max" or int(limit_text) >= 2**62:
        return None
    limit_bytes = int(limit_text)
    used_bytes = usage_bytes - int(stat.get(cache_name, 0))
    return limit_bytes, max(0, limit_bytes - max(0, used_bytes))


def _cpu_model() -> str:
    name = ""
    if sys.platform == "linux":
        name = _cpuinfo().get("model name", "")
    elif sys.platform == "darwin":
        name = _sysctl("machdep.cpu.brand_string")
    words = (name or platform.processor() or platform.machine()).split()
    return " ".join(word for word in words if word not in ("CPU", "Processor"))


def _instruction_sets() -> tuple[str, ...]:
    if sys.platform == "linux":
        info = _cpuinfo()
        flags = set((info.get("flags") or info.get("Features") or "").split())
        return tuple(dict.fromkeys(s for flag, s in _INSTRUCTION_SETS.items() if flag in flags))
    if sys.platform == "darwin":
        found = [name for key, name in _MACOS_FEATURES.items() if _sysctl(key) == "1"]
        return (("NEON",) if platform.machine() == "arm64" else ()) + tuple(found)
    if sys.platform == "win32":
        has_feature = ctypes.windll.kernel32.IsProcessorFeaturePresent
        return tuple(name for number, name in _WINDOWS_FEATURES.items() if has_feature(number))
    return ()


def _cpuinfo() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo."""
    try:
        block = Path("/proc/cpuinfo").read_text().split("\n\n")[0]
    except OSError:  # /proc may be hidden; the model and the flags are only informative
        return {}
    pairs = (line.split(":", 1) for line in block.splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def _sysctl(key: str) -> str:
    command = ["/usr/sbin/sysctl", "-n", key]
    # A key that this Mac does not have is an answer too: an empty one.
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    return done.stdout.strip()
