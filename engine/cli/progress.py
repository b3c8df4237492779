"""Runs a job, with its progress as one line of a terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TextIO

from engine.client import Worker
from engine.jobs import Job, Notice, Pace, Progress, Step
from engine.words import format_bytes

BAR_CELLS = 28
CLEAR = "\r\x1b[K"


class ProgressBar:
    """Draws over itself on a terminal; elsewhere it names each stage once.

    Of a job with `stages` it shows how far the whole is.
    """

    def __init__(self, out: TextIO, stages: Mapping[str, float] = Job.stages) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._pace = Pace(stages=stages)
        self._is_of_whole = bool(stages)
        self._stage = ""
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._is_terminal and self._stage:
            self._out.write(CLEAR)
            self._out.flush()

    def show(self, step: Step) -> None:
        if isinstance(step, Notice) and step.text not in self._told:
            self._told.add(step.text)
            self._out.write(f"{CLEAR if self._is_terminal else ''}{step.text}\n")
        if not isinstance(step, Progress):
            return
        self._pace.update(step)
        if self._is_terminal:
            self._out.write(f"{CLEAR}{self._line(step)}")
            self._out.flush()
        elif step.stage != self._stage:
            self._out.write(f"{step.stage}\n")
        self._stage = step.stage

    def _line(self, step: Progress) -> str:
        fraction = self._pace.fraction
        if fraction is None:
            return step.stage
        full = int(fraction * BAR_CELLS)
        line = f"{step.stage} [{'#' * full}{'.' * (BAR_CELLS - full)}] {fraction:4.0%}"
        if self._is_of_whole:  # the pace is that of a stage
            return line
        if step.unit == "bytes" and self._pace.per_second:
            line += f" {format_bytes(self._pace.per_second)}/s"
        if (left := self._pace.seconds_left) is not None:
            line += f" {left:.0f} s left"
        return line


def start_worker(args: argparse.Namespace) -> Worker:
    """A worker that computes on what the command line names, else on what Settings do."""
    from engine.cli.library import settings_file

    return Worker.start(device=getattr(args, "device", "") or settings_file().value.device)


def run_job(job: Any, args: argparse.Namespace) -> Any:
    """Run a job to its end, with a progress bar unless the output is for a script.

    In a child process: a model file that makes llama.cpp abort must end in a sentence here too.
    """
    worker = start_worker(args)
    try:
        with ProgressBar(sys.stderr, job.stages) as bar:
            return worker.finish(job, None if args.json else bar.show)
    finally:
        worker.stop()
