"""The job that judges one model here, or on the hub before anything of it is downloaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import ClassVar

import msgspec

from engine.errors import FormatError
from engine.fit.run import KvType, Need, Run
from engine.fit.verdict import Asked, Kind, Verdict, judge_estimate
from engine.jobs import Job, Progress
from engine.scratch import scratch_folder
from engine.words import format_count


class Fitted(msgspec.Struct, frozen=True):
    """What `model` would take, and the verdict on it; sums over all devices first.

    `tokens_per_second` is an expectation, None where the graphics card decides.
    """

    model: str
    verdict: Kind
    words: str
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    devices: tuple[Need, ...]
    usable_bytes: dict[str, int]
    run: Run
    tokens_per_second: float | None

    def as_verdict(self) -> Verdict:
        return Verdict(self.verdict, self.words, self.run, self.devices, self.usable_bytes)

    @property
    def sentence(self) -> str:
        """The verdict, and how fast it would write if it runs."""
        if not self.tokens_per_second or self.verdict == "not":
            return self.words
        speed = format_count(self.tokens_per_second)
        return f"{self.words.removesuffix('.')}, about {speed} tokens per second."


class Fit(Job, frozen=True):
    """Judge the GGUF `model`: a path, or OWNER/NAME:TYPE (or :FILE) on the hub.

    `n_ctx` 0 and `kv_type` None leave these to Snug; `is_capped` keeps the context to what the
    model was trained for. `released` are bytes by device that become free before it is loaded.
    Raises what opening it raises, of the hub also NetworkError and AccessDenied, and FormatError
    for a checkpoint: only a GGUF runs as it is.
    """

    Result: ClassVar = Fitted

    model: str
    n_ctx: int = 0
    kv_type: KvType | None = None
    is_offline: bool = False
    is_capped: bool = False
    released: dict[str, int] = {}  # noqa: RUF012 - frozen, and msgspec copies it

    def run(self) -> Generator[Progress, None, Fitted]:
        name, _, wanted = self.model.partition(":")
        is_of_hub = name.count("/") == 1 and (wanted or not name.lower().endswith(".gguf"))
        if Path(self.model).exists() or not is_of_hub:
            return (yield from self._judge(Path(self.model)))
        with scratch_folder() as folder:
            path = yield from self._outline(folder)
            return (yield from self._judge(path))

    def _outline(self, folder: Path) -> Generator[Progress, None, Path]:
        from engine.hub.download import choose
        from engine.hub.hub import Hub
        from engine.hub.outline import fetch_outline
        from engine.hub.token import load_token

        yield Progress("Asking the hub", 0, None, "steps")
        hub = Hub(load_token(), is_offline=self.is_offline)
        name, _, wanted = self.model.partition(":")
        repo = hub.repo(name)
        return (yield from fetch_outline(hub, repo, choose(repo, wanted), folder))

    def _judge(self, path: Path) -> Generator[Progress, None, Fitted]:
        from engine.fit.estimate import Estimate
        from engine.fit.speed import tokens_per_second
        from engine.ggml_types import GgmlType
        from engine.hardware import detect
        from engine.llama.devices import devices
        from engine.llama.kernels import weight_bandwidth
        from engine.llama.memory import probes_of
        from engine.llama.threads import default_n_threads
        from engine.splits import open_gguf

        yield Progress("Reading the header", 0, None, "steps")
        if path.is_dir():
            raise FormatError(
                "A checkpoint does not run as it is.", hint="Ask for a recommendation instead."
            )
        file = open_gguf(path)
        estimate = Estimate.of(file.metadata, file.tensors)
        computer = detect(devices())
        yield Progress("Asking llama.cpp", 0, None, "steps")
        with probes_of(file, estimate) as probes:
            verdict = judge_estimate(
                estimate,
                computer,
                Asked(self.n_ctx, self.kv_type, is_capped=self.is_capped),
                self.released,
                lambda run: probes.needs(run, computer.gpus),
            )
        types = Counter[GgmlType]()
        for tensor in file.tensors:
            types[tensor.type] += tensor.n_bytes
        bandwidth = weight_bandwidth(types, default_n_threads())
        return Fitted(
            model=self.model,
            verdict=verdict.kind,
            words=verdict.words,
            weights_bytes=sum(need.weights_bytes for need in verdict.needs),
            kv_bytes=sum(need.kv_bytes for need in verdict.needs),
            compute_bytes=sum(need.compute_bytes for need in verdict.needs),
            devices=verdict.needs,
            usable_bytes=verdict.usable,
            run=verdict.run,
            tokens_per_second=tokens_per_second(
                estimate, verdict.needs, verdict.run.n_ctx, bandwidth
            ),
        )
