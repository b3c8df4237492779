"""Verbs that make a model file, or judge them: convert, calibrate, quality, ladder."""

from __future__ import annotations

import argparse
from typing import Any

import msgspec

from engine.cli.lora import convert_adapter
from engine.cli.progress import run_job
from engine.errors import FormatError
from engine.files import read_error
from engine.words import format_bytes


def convert(args: argparse.Namespace) -> Any:
    from engine.convert.job import Convert
    from engine.convert.lora.config import is_adapter

    if is_adapter(args.checkpoint):
        return convert_adapter(args)
    if args.base:
        raise FormatError(
            f"{args.checkpoint.name} is no adapter: --base is for these only.",
            hint="To merge an adapter into a checkpoint, give it with --lora.",
        )
    checkpoint, out = str(args.checkpoint.absolute()), str(args.out.absolute())
    done = run_job(Convert(checkpoint, out, args.type, args.overwrite, tuple(args.lora)), args)
    if not args.json:
        print(
            f"{done.path}: {format_bytes(done.size_bytes)}, {done.n_tensors} tensors, {done.type}"
        )
    return done


def recommend(args: argparse.Namespace) -> Any:
    from engine.hardware import Computer
    from engine.quantize.recommend import Recommend

    computer = None
    if args.machine:
        try:
            computer = msgspec.json.decode(args.machine.read_bytes(), type=Computer)
        except OSError as error:
            raise read_error(error, args.machine) from error
        except msgspec.DecodeError as error:
            raise FormatError(
                f"{args.machine.name} does not describe a computer.",
                hint="Write it as `snug-engine devices --json` does.",
                details=str(error),
            ) from error
    advice = run_job(Recommend(str(args.source.absolute()), args.ctx, computer), args)
    if not args.json:
        print(f"{advice.reason} {advice.neighbours}".rstrip())
        for choice in advice.choices:
            size, need = format_bytes(choice.size_bytes), format_bytes(choice.memory.total_bytes)
            bits = f"{choice.bits_per_weight:.2f} bits"
            print(f"{choice.recipe:8} {size:>8}  {bits:>10}  needs {need:>8}  {choice.where}")
    return advice


def calibrate(args: argparse.Namespace) -> Any:
    from engine.calibrate.job import Calibrate

    job = Calibrate(
        str(args.model.absolute()),
        str(args.out.absolute()),
        tuple(str(text.absolute()) for text in args.text),
        args.chunks,
        args.context,
        args.threads,
        overwrite=args.overwrite,
    )
    done = run_job(job, args)
    if not args.json:
        size, peak = format_bytes(done.size_bytes), format_bytes(done.peak_bytes)
        how = "there already" if done.is_reused else f"{done.seconds:.1f} s, {peak} of memory"
        print(f"{done.path}: {size}, {done.n_tensors} tensors, {done.n_tokens:,} tokens ({how})")
        for tensor, experts in done.few_tokens.items():
            print(f"{tensor}: few tokens went to {len(experts)} experts")
    return done


def quality(args: argparse.Namespace) -> Any:
    from engine.quantize.gate import check
    from engine.quantize.quality import Quality
    from engine.quantize.report import quality_text

    model, reference, text = (str(p.absolute()) for p in (args.model, args.reference, args.text))
    job = Quality(model, reference, text, args.chunks, args.context, args.kv, args.probes)
    report = run_job(job, args)
    failures = check(report, args.gate)
    if not args.json:
        print(quality_text(report))
        for failure in failures:
            print(failure.words)
    told: dict[str, Any] = msgspec.to_builtins(report)
    return told | {"failures": msgspec.to_builtins(failures)}


def ladder(args: argparse.Namespace) -> Any:
    from engine.quantize.ladder import Ladder
    from engine.quantize.report import comparison

    job = Ladder(
        source=str(args.source.absolute()),
        text=str(args.text.absolute()),
        methods=args.methods,
        recipe=args.type,
        effort=args.effort,
        texts=tuple(str(text.absolute()) for text in args.calibration),
        chunks=args.chunks,
        folder=str(args.folder.absolute()) if args.folder else "",
        n_threads=args.threads,
    )
    found = run_job(job, args)
    if not args.json:
        rows = [
            (f"{rung.words}, {rung.types}", rung.size_bytes, rung.quality) for rung in found.rungs
        ]
        best = next(rung for rung in found.rungs if rung.method == found.best)
        rows += [
            (f"{best.words}, KV {cache.kv_type}", best.size_bytes, cache)
            for cache in found.kv_caches[1:]
        ]
        print(comparison(rows))
    return found
