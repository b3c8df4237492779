"""Verbs about models and where they run: devices, inspect, fit, selftest."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import msgspec

from engine.cli.library import settings_file
from engine.cli.progress import run_job
from engine.words import format_bytes


def devices(args: argparse.Namespace) -> Any:
    from engine import hardware
    from engine.llama import ggml

    computer = hardware.detect(ggml.devices())
    if not args.json:
        print(computer.sentence())
        cpu = computer.cpu
        print(f"Processor  {cpu.model}, {cpu.physical_cores} cores, {cpu.logical_cores} threads")
        print(f"           {' '.join(cpu.instruction_sets)}")
        total, free = computer.memory_total_bytes, computer.memory_available_bytes
        print(f"Memory     {total / 2**30:.1f} GiB, {free / 2**30:.1f} GiB available")
        for device in (d for d in computer.devices if d.kind != "cpu"):
            sizes = f"{format_bytes(device.memory_total_bytes)}, "
            sizes += f"{format_bytes(device.memory_free_bytes)} free"
            print(f"Device     {device.name} ({device.kind}): {device.description}, {sizes}")
    return computer


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
