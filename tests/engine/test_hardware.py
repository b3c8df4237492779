"""What is read of this computer and of a container's limits."""

from __future__ import annotations

from pathlib import Path

import psutil

from engine.hardware import Computer, Cpu, Device, _cgroup_limits, detect

CPU = Cpu("EPYC", physical_cores=8, logical_cores=16, instruction_sets=("AVX2",))


def test_this_computer_has_memory_and_cores() -> None:
    computer = detect()
    assert 0 < computer.memory_available_bytes <= computer.memory_total_bytes
    assert computer.memory_total_bytes <= psutil.virtual_memory().total
    assert 1 <= computer.cpu.physical_cores <= computer.cpu.logical_cores
    assert computer.cpu.model


def test_sentence_names_graphics_cards_before_the_processor() -> None:
    card = Device("CUDA0", "NVIDIA GeForce RTX 3060", "gpu", 12 * 2**30, 11 * 2**30)
    computer = Computer(16_500_000_000, 9_000_000_000, CPU, (card,))
    assert computer.sentence() == "16 GB memory, RTX 3060 12 GB"
    without = Computer(16 * 2**30, 9_000_000_000, CPU)
    assert without.sentence() == "16 GB memory, EPYC, 8 cores"


def test_gpus_are_those_with_their_own_memory_freest_first() -> None:
    devices = (
        Device("CPU", "EPYC", "cpu", 2**34, 2**33),
        Device("Vulkan1", "A", "gpu", 2**33, 2**31),
        Device("Vulkan0", "iGPU", "igpu", 2**34, 2**33),
        Device("Vulkan2", "B", "gpu", 2**33, 2**32),
    )
    computer = Computer(2**34, 2**33, CPU, devices)
    assert [gpu.description for gpu in computer.gpus] == ["B", "A"]


def write_group(folder: Path, limit: str, usage: int, cache: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cache}\n")


def test_limits_of_all_groups_above_count(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("0::/a.slice/b.scope\n")
    root = tmp_path / "fs"
    write_group(root / "a.slice" / "b.scope", "max", 10, 0)
    write_group(root / "a.slice", "4000", 3000, 500)
    assert _cgroup_limits(membership, root) == [(4000, 1500)]


def test_container_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("0::/\n")
    write_group(tmp_path / "fs", "8000", 9000, 0)
    assert _cgroup_limits(membership, tmp_path / "fs") == [(8000, 0)]


def test_version_1_and_its_way_to_say_no_limit(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("5:cpu,cpuacct:/\n4:memory:/docker/x\n1:name=systemd:/\n")
    root = tmp_path / "fs"
    for folder, limit in (("docker/x", 6000), ("docker", 9223372036854771712)):
        group = root / "memory" / folder
        group.mkdir(parents=True, exist_ok=True)
        (group / "memory.limit_in_bytes").write_text(f"{limit}\n")
        (group / "memory.usage_in_bytes").write_text("1000\n")
        (group / "memory.stat").write_text("total_inactive_file 200\n")
    assert _cgroup_limits(membership, root) == [(6000, 5200)]


def test_without_control_groups_there_is_no_limit(tmp_path: Path) -> None:
    assert _cgroup_limits(tmp_path / "none", tmp_path) == []
