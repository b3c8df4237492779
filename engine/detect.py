"""The job that looks at this computer, with what llama.cpp can compute on."""

from __future__ import annotations

from collections.abc import Generator
from typing import ClassVar

from engine import gpu_modules
from engine.hardware import Computer
from engine.jobs import Job, Step


class Detect(Job, frozen=True):
    """The window asks a worker: it loads no llama.cpp itself.

    `tries_again`: also what crashed or hung when it was tried before.
    """

    Result: ClassVar = Computer

    tries_again: bool = False

    def run(self) -> Generator[Step, None, Computer]:
        from engine.llama.devices import computer

        yield from ()
        if self.tries_again:
            gpu_modules.forget()
        return computer()
