"""A command line and its worker, killed as a power cut would."""

from __future__ import annotations

import contextlib
import random
import subprocess
import time
from collections.abc import Callable, Sequence

import psutil


def kill_when(command: Sequence[str], is_due: Callable[[], bool], within_s: float) -> None:
    """Run `command`; kill it and its worker when it `is_due`, or up to `within_s` later."""
    process = psutil.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None and not is_due():
        time.sleep(0.002)
    time.sleep(random.uniform(0, within_s))
    family: list[psutil.Process] = [process]
    with contextlib.suppress(psutil.NoSuchProcess):  # it has ended
        family += process.children(recursive=True)
    for member in reversed(family):  # the worker first: it would hear that it is left alone
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(family, 30)
