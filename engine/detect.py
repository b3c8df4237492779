"""The job that looks at this computer, with what llama.cpp can compute on."""

from __future__ import annotations

from collections.abc import Generator
from typing import ClassVar

from engine.hardware import Computer, detect
from engine.jobs import Job, Step


class Detect(Job, frozen=True):
    """The window asks a worker: it loads no llama.cpp itself."""

    Result: ClassVar = Computer

    def run(self) -> Generator[Step, None, Computer]:
        from engine.llama.ggml import devices

        yield from ()
        return detect(devices())
