"""Verbs about models and where they run: devices, inspect, fit, selftest."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from engine.cli.library import settings_file
from engine.cli.progress import run_job
from engine.words import format_bytes

if TYPE_CHECKING:
    from engine.hardware import Computer


def devices(args: argparse.Namespace) -> Any:
    from engine.detect import Detect

    computer: Computer = run_job(Detect(args.try_again), args)
    if not args.json:
        print(computer.sentence())
        cpu = computer.cpu
        print(f"Processor  {cpu.model}, {cpu.physical_cores} cores, {cpu.logical_cores} threads")
        print(f"           {' '.join(cpu.instruction_sets)}")
        if computer.cpu_variant:
            print(f"           computes with the variant {computer.cpu_variant}")
        total, free = computer.memory_total_bytes, computer.memory_available_bytes
        print(f"Memory     {total / 2**30:.1f} GiB, {free / 2**30:.1f} GiB available")
        _print_graphics(computer)
    return computer


def _print_graphics(computer: Computer) -> None:
    used = {device.name for device in computer.devices}
    for device in computer.graphics.devices:
        state = "" if device.name in used else " (not used)"
        print(f"{device.name:10} {device.description}{state}")
        print(f"           {device.about()}")
    for unused in computer.graphics.unused:
        print(f"{unused.name:10} {unused.reason}")
    if computer.graphics.notice:
        print(computer.graphics.notice)
    if any(unused.is_quarantined for unused in computer.graphics.unused):
        print("To try again what crashed or hung: snug-engine devices --try-again")


def selftest(args: argparse.Namespace) -> Any:
    from engine.selftest import SelfTest

    tested = run_job(SelfTest(), args)
    if not args.json:
        print(msgspec.json.format(msgspec.json.encode(tested)).decode())
    return tested


def inspect(args: argparse.Namespace) -> Any:
    from engine.inspect import describe

    summary = describe(args.model)
    if not args.json:
        for name, value in msgspec.structs.asdict(summary).items():
            said = f"{value:.2f}" if isinstance(value, float) else value
            print(f"{name:18} {said if said != '' else 'not stated'}")
    return summary


def fit(args: argparse.Namespace) -> Any:
    from engine.fit.job import Fit

    model = str(Path(args.model).absolute()) if Path(args.model).exists() else args.model
    found = run_job(Fit(model, args.ctx, args.kv, settings_file().value.is_offline), args)
    if not args.json:
        print(found.sentence)
        for need in (need for need in found.devices if need.weights_bytes):
            weights, cache = format_bytes(need.weights_bytes), format_bytes(need.kv_bytes)
            buffers = format_bytes(need.compute_bytes + need.runtime_bytes)
            usable = format_bytes(found.usable_bytes[need.device])
            print(
                f"{need.device:8} weights {weights}, context {cache}, buffers {buffers}"
                f" = {format_bytes(need.total_bytes)} of {usable}"
            )
    return found
