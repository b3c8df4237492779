"""Verbs that make a model file, or judge one: convert, calibrate, shrink, quality."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.cli.lora import convert_adapter
from engine.cli.progress import run_job
from engine.convert.lora.choice import Lora
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


def shrink(args: argparse.Namespace) -> Any:
    from engine.quantize.recipe import find_recipe
    from engine.quantize.shrink import Shrink

    source = args.source.absolute()
    if args.type:
        recipe = find_recipe(args.type).name
    else:
        recipe = begun(source, args.out, args.lora) or recommended(source, args)
    out = args.out.absolute() if args.out else default_out(source, recipe, args.lora)
    if out.suffix.lower() != ".gguf" and not os.path.lexists(out):
        raise FormatError(
            f"{out.name} does not end in .gguf, as a model's name must.",
            hint=f"Call it {out.name}.gguf.",
        )
    job = Shrink(str(source), str(out), recipe, args.threads, args.overwrite, tuple(args.lora))
    done = run_job(job, args)
    if not args.json:
        before, after = format_bytes(done.source_bytes), format_bytes(done.size_bytes)
        bits = f"{done.bits_per_weight:.2f} bits per weight"
        print(f"{done.path}: {before} -> {after} ({done.recipe}, {bits}, {done.seconds:.1f} s)")
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


def default_out(source: Path, recipe: str, loras: Sequence[Lora]) -> Path:
    stem = source.stem if source.is_file() else source.name
    adapters = [Path(lora.folder).name for lora in loras]
    return source.with_name(f"{'-'.join([stem, *adapters, recipe])}.gguf")


def begun(source: Path, out: Path | None, loras: Sequence[Lora]) -> str | None:
    """The recipe of a shrink by the same arguments that was broken off."""
    from engine.quantize.recipe import RECIPES
    from engine.quantize.shrink import begun_recipe

    outs = [out] if out else [default_out(source, recipe, loras) for recipe in RECIPES]
    found = (begun_recipe(str(source), str(out), loras) for out in outs)
    return next(filter(None, found), None)


def recommended(source: Path, args: argparse.Namespace) -> str:
    """The recipe that Snug picks for this computer, with the reason shown."""
    from engine.errors import OutOfMemory
    from engine.quantize.recommend import Recommend

    advice = run_job(Recommend(str(source)), args)
    if advice.recipe is None:
        raise OutOfMemory(
            advice.reason, hint="To shrink it all the same, name a type: --type Q2_K."
        )
    if not args.json:
        print(advice.reason)
    recipe: str = advice.recipe
    return recipe


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
