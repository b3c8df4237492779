"""Vulkan's headers, new enough for llama.cpp: the system's, or Debian 13's where those are too old.

Headers only: what is compiled with them runs with the Vulkan loader of any system.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import setup

SYSTEMS = Path("/usr/include")
OLDEST = (1, 3, 275)
SOURCE = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {} trixie main\n"
PACKAGES = ("libvulkan-dev", "spirv-headers")


def new_enough(build: Path) -> Path | None:
    """Returns the folder of the headers, fetched into `build` if need be; None for the system's.

    Raises setup.Failed where the system's are too old and apt-get cannot fetch newer ones.
    """
    if version(SYSTEMS) >= OLDEST:
        return None
    home = build / "vulkan-headers"
    headers = home / "usr" / "include"
    if version(headers) < OLDEST:
        fetch(home)
    return headers


def version(headers: Path) -> tuple[int, ...]:
    """Returns the version of Vulkan's headers in the folder `headers`; empty if there are none."""
    core = headers / "vulkan" / "vulkan_core.h"
    if not core.exists():
        return ()
    text = core.read_text("utf-8", errors="replace")
    complete = re.search(r"VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION\(0, (\d+), (\d+)", text)
    patch = re.search(r"#define VK_HEADER_VERSION (\d+)", text)
    return tuple(int(part) for part in (*complete.groups(), patch[1])) if complete and patch else ()


def mirror() -> str:
    """Returns where this system has its packages of Debian from; raises setup.Failed."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    command += ["Label: Debian", "Component: main", "Created-By: Packages"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    if not told:
        raise setup.Failed(
            "This system has no packages of Debian: name the folder of Vulkan's headers with"
            " --vulkan-headers, or leave Vulkan out with --backends cpu."
        )
    return told[0]


def fetch(home: Path) -> None:
    """Fetches Debian 13's packages of headers and unpacks them in `home`; installs nothing."""
    if not shutil.which("apt-get"):
        told = ".".join(map(str, OLDEST))
        raise setup.Failed(
            f"llama.cpp needs Vulkan's headers {told} or newer: name their folder with"
            " --vulkan-headers, or leave Vulkan out with --backends cpu."
        )
    print("Fetching newer headers of Vulkan.", flush=True)
    shutil.rmtree(home, ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial"):
        (home / "apt" / folder).mkdir(parents=True)
    sources = home / "apt" / "sources.list"
    sources.write_text(SOURCE.format(mirror()))
    apt = ["apt-get", "-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=-"]
    apt += ["-o", f"Dir::State::lists={home / 'apt' / 'lists'}"]
    apt += ["-o", f"Dir::Cache={home / 'apt' / 'cache'}", "-o", "APT::Sandbox::User="]
    for command in (["update"], ["download", *PACKAGES]):
        done = subprocess.run(
            [*apt, *command], cwd=home, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise setup.Failed(f"Newer headers of Vulkan could not be fetched:\n{done.stderr}")
    for package in home.glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", str(package), str(home)], check=True)
        package.unlink()
    shutil.rmtree(home / "apt")
