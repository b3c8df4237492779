"""The job that tries an installation: does what is here work together, and what is it?"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Generator
from typing import ClassVar

import msgspec

from engine import __version__, starter
from engine.chat import Message
from engine.errors import EngineError
from engine.hardware import Backend, Device
from engine.inference import Generate, LoadSettings
from engine.jobs import Job, Step
from engine.sampling import SamplingParams

N_TOKENS = 24


class SelfTested(msgspec.Struct, frozen=True):
    """What is here; `answer` is the starter's, each time its likeliest token.

    `kernels` names which compilation of Snug's own was chosen for this processor.
    """

    snug: str
    python: str
    system: str
    llama_cpp: str
    kernels: str
    backends: tuple[Backend, ...]
    devices: tuple[Device, ...]
    libraries: tuple[str, ...]
    device: str
    answer: str
    seconds: float


class SelfTest(Job, frozen=True):
    """Load the starter, let it answer, and say what did so.

    Raises EngineError if llama.cpp is in the process twice: then half of it knows no backend.
    """

    Result: ClassVar = SelfTested

    n_gpu_layers: int = -1

    def run(self) -> Generator[Step, None, SelfTested]:
        from engine import _native
        from engine.llama.backends import backends, shared_libraries
        from engine.llama.devices import devices
        from engine.llama.library import library
        from engine.llama.session import Session

        start = time.monotonic()
        session = yield from Session.load(
            starter.MODEL, LoadSettings(n_ctx=512, n_threads=1, n_gpu_layers=self.n_gpu_layers)
        )
        question = Generate(
            messages=(Message("user", starter.SAMPLE_QUESTION),),
            sampling=SamplingParams(temperature=0),
            max_tokens=N_TOKENS,
        )
        try:
            answer = yield from question.run(session)
        finally:
            session.close()
        libraries = tuple(map(str, shared_libraries()))
        registries = [path for path in libraries if "ggml-base" in path]
        if len(registries) > 1:
            raise EngineError("llama.cpp was loaded twice.", details="\n".join(registries))
        return SelfTested(
            snug=__version__,
            python=platform.python_version(),
            system=f"{sys.platform} {platform.machine()} {platform.release()}",
            llama_cpp=library().version,
            kernels=_native.variant,
            backends=backends(),
            devices=devices(),
            libraries=libraries,
            device=session.info.device,
            answer=answer.text,
            seconds=time.monotonic() - start,
        )
