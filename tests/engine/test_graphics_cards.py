"""Cards as the system names them, and what is said of a driver that is missing or too old."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.graphics_cards import (
    NVIDIA,
    Card,
    cards_of_linux,
    fingerprint,
    why_no_nvidia,
    windows_version,
)

CLOSED = """\
NVRM version: NVIDIA UNIX x86_64 Kernel Module  525.147.05  Wed Oct 25 20:27:35 UTC 2023
GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)
"""
OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35.03  Release Build  (dvs)\n"


def system(folder: Path, driver: str, version: str = "") -> tuple[Path, Path]:
    """/sys and /proc of a computer with a card of NVIDIA's and a disk, in `folder`."""
    for name, words in (("0000:01:00.0", "0x030000"), ("0000:02:00.0", "0x010802")):
        device = folder / "sys" / "bus" / "pci" / "devices" / name
        device.mkdir(parents=True)
        (device / "class").write_text(f"{words}\n")
        (device / "vendor").write_text("0x10de\n")
        if driver:
            loaded = folder / "sys" / "bus" / "pci" / "drivers" / driver
            loaded.mkdir(parents=True, exist_ok=True)
            (device / "driver").symlink_to(loaded)
    if version:
        (folder / "proc" / "driver" / "nvidia").mkdir(parents=True)
        (folder / "proc" / "driver" / "nvidia" / "version").write_text(version)
    return folder / "sys", folder / "proc"


@pytest.mark.parametrize(
    ("driver", "version", "told", "why"),
    [
        ("", "", "", "NVIDIA GPU found, but not its driver: 535 or newer."),
        ("nouveau", "", "nouveau", "NVIDIA GPU found, but not its driver: 535 or newer."),
        (
            "nvidia",
            CLOSED,
            "525.147.05",
            "NVIDIA GPU found, but its driver is too old (525.147.05): 535 or newer.",
        ),
        ("nvidia", OPEN, "560.35.03", ""),
    ],
)
def test_a_driver_is_found_by_its_version(
    tmp_path: Path, driver: str, version: str, told: str, why: str
) -> None:
    found = cards_of_linux(*system(tmp_path, driver, version))
    assert found == (Card(NVIDIA, told),)
    assert why_no_nvidia(found) == why


def test_nothing_is_said_without_a_card_of_theirs(tmp_path: Path) -> None:
    assert cards_of_linux(tmp_path, tmp_path) == ()
    assert why_no_nvidia((Card(0x1002, "amdgpu"),)) == ""


def test_windows_s_version_is_nvidia_s() -> None:
    assert windows_version("10de", "31.0.15.3598") == "535.98"
    assert windows_version("1002", "31.0.21023.2010") == "31.0.21023.2010"


def test_what_hides_a_device_changes_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint()
    assert fingerprint() == before
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert fingerprint() != before


def test_a_link_to_a_driver_that_is_gone_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "good.json").write_text("{}")
    driver = tmp_path / "driver"
    (tmp_path / "removed.json").symlink_to(driver)
    before = fingerprint([tmp_path])
    driver.write_text("{}")
    assert fingerprint([tmp_path]) != before  # it is back
