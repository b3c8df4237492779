"""A clean Debian in a folder, to install a package in."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

USER = "ann"
USER_ID = 1000
# What installing anything changes, and removing it does not change back.
CHANGES_ANYWAY = ("./var/", "./etc/", "./run/", "./tmp/", "./proc/", "./dev/", "./usr/share/mime/")


class Tree(NamedTuple):
    """A Debian with a user; `root` is its folder."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "home" / USER

    def run(self, *command: str, **environment: str) -> str:
        """Runs a command as root, and returns what it prints."""
        plain = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(
            ["chroot", str(self.root), *command],
            env={**plain, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def as_user(self, *command: str, home: str = f"/home/{USER}") -> list[str]:
        """The command that runs `command` as the user."""
        enter = ["chroot", f"--userspec={USER_ID}:{USER_ID}", str(self.root)]
        plain = ["PATH=/usr/bin:/bin", f"HOME={home}", f"USER={USER}", "LANG=C.UTF-8"]
        return [*enter, "/usr/bin/env", "-i", *plain, *command]

    def files(self) -> set[str]:
        """Every path in it but those that change with anything that is installed."""
        find = ["find", ".", "-xdev", "-path", "./home", "-prune", "-o", "-print"]
        done = subprocess.run(find, cwd=self.root, capture_output=True, text=True, check=True)
        return {path for path in done.stdout.splitlines() if not path.startswith(CHANGES_ANYWAY)}


@contextmanager
def tree(release: str, folder: Path) -> Iterator[Tree]:
    """Makes a minimal Debian `release` in `folder`, and takes it away after the block."""
    assert os.geteuid() == 0, "making a Debian in a folder needs root"
    root = folder / release
    subprocess.run(["mmdebstrap", "--quiet", "--variant=minbase", release, str(root)], check=True)
    mounts: Mapping[str, list[str]] = {
        "proc": ["-t", "proc", "proc"],
        "dev": ["--bind", "/dev"],
        "dev/shm": ["-t", "tmpfs", "-o", "mode=1777", "tmpfs"],
    }
    with contextlib.ExitStack() as undo:
        undo.callback(subprocess.run, ["rm", "-rf", "--one-file-system", str(root)], check=True)
        for place, options in mounts.items():
            subprocess.run(["mount", *options, str(root / place)], check=True)
            undo.callback(subprocess.run, ["umount", "-l", str(root / place)], check=True)
        made = Tree(root)
        made.run("useradd", "--create-home", "--uid", str(USER_ID), USER)
        yield made
