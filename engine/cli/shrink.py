"""The verb that makes a model smaller: in a size, by a named type, or so that it fits here."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.cli.progress import run_job
from engine.cli.unfinished import unfinished_to_size
from engine.convert.lora.choice import Lora
from engine.errors import FormatError
from engine.ggml_types import GgmlType
from engine.quantize.choice import Pin
from engine.quantize.gate import OFF, Gate
from engine.quantize.report import OURS
from engine.quantize.shrink import Shrink
from engine.quantize.shrink_to_size import ShrinkToSize, ShrunkToSize
from engine.words import format_bytes

STOCK = "stock"
_UNITS = {"": 1, "B": 1}
_UNITS |= {f"{prefix}B": 1000**n for n, prefix in enumerate("KMGT", 1)}
_UNITS |= {f"{prefix}IB": 1024**n for n, prefix in enumerate("KMGT", 1)}


def shrink(args: argparse.Namespace) -> Any:
    _refuse_what_has_no_effect(args)
    source = args.source.absolute()
    job: Shrink | ShrinkToSize
    if args.size or args.bpw:
        size = format_bytes(args.size).replace(" ", "") if args.size else f"{args.bpw:g}bpw"
        job = _to_size(args, source, _out(args, source, size), args.size, args.bpw)
    elif left := _unfinished(args, source):
        job = left
    else:
        recipe = _recipe(args, source)
        out = _out(args, source, recipe)
        if args.effort == STOCK:
            loras = tuple(args.lora)
            job = Shrink(str(source), str(out), recipe, args.threads, args.overwrite, loras)
        else:
            job = _to_size(args, source, out, recipe=recipe, keeps_types=bool(args.type))
    done = run_job(job, args)
    if not args.json:
        before, after = format_bytes(done.source_bytes), format_bytes(done.size_bytes)
        bits = f"{done.bits_per_weight:.2f} bits per weight, {done.seconds:.1f} s"
        named = f"{done.recipe}, " if done.recipe else ""
        print(f"{done.path}: {before} -> {after} ({named}{bits})")
        if isinstance(done, ShrunkToSize):
            _tell_quality(done)
    return done


def _refuse_what_has_no_effect(args: argparse.Namespace) -> None:
    """End with a usage error if something is asked for that something else rules out."""
    given = {
        "--size": args.size,
        "--bpw": args.bpw,
        "--calibration": args.calibration,
        "--statistics": args.statistics,
        "--judge": args.judge,
        "--gate": args.gate is not None,
        "--up-to": args.up_to,
        "--probes": args.probes,
        "--profile": args.profile,
        "--pin": args.pin,
    }
    for is_so, why, ruled_out in (
        (
            args.effort == STOCK,
            "--effort stock gives the stock types in their own sizes, and measures nothing",
            tuple(given),
        ),
        (
            args.statistics,
            "--statistics has what a calibration finds out",
            ("--calibration",),
        ),
        (
            args.type,
            "--type says which types the tensors get",
            ("--up-to", "--profile", "--pin"),
        ),
        (
            args.gate == OFF,
            "--gate off compares nothing",
            ("--judge", "--up-to", "--probes"),
        ),
    ):
        senseless = [option for option in ruled_out if given[option]]
        if is_so and senseless:
            args.refuse(f"{why}: leave out {' and '.join(senseless)}.")


def _tell_quality(done: ShrunkToSize) -> None:
    if done.kept != OURS:
        print(f"Kept: {done.kept}.")
    if quality := done.quality:
        same = f"{quality.same_top_fraction:.1%} of the likeliest tokens are the same"
        words = quality.verdict[:1].upper() + quality.verdict[1:]
        print(f"{words}: mean KL divergence {quality.kld_mean:.4f}, {same}.")
    for failure in done.failures:
        print(failure.words)


def size_bytes(text: str) -> int:
    """Read "4.5GB", "700 MiB" or plain bytes; raises ArgumentTypeError."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]*)?)\s*([A-Za-z]*)", text.strip())
    unit = _UNITS.get(found[2].upper()) if found else None
    n_bytes = int(float(found[1]) * unit) if found and unit else 0
    if not 0 < n_bytes < 1 << 62:
        raise argparse.ArgumentTypeError("must be a size such as 4.5GB, 700MB or 4500000000")
    return n_bytes


def pin(text: str) -> Pin:
    """Read "REGEX=TYPE"; raises ArgumentTypeError."""
    pattern, _, name = text.rpartition("=")
    try:
        re.compile(pattern)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"no regular expression: {error}") from error
    if not pattern or name.upper() not in GgmlType.__members__:
        raise argparse.ArgumentTypeError("must be like attn_v=Q6_K")
    return Pin(pattern, name.upper())


def _to_size(
    args: argparse.Namespace,
    source: Path,
    out: Path,
    n_bytes: int = 0,
    bpw: float = 0.0,
    recipe: str | None = None,
    *,
    keeps_types: bool = False,
) -> ShrinkToSize:
    return ShrinkToSize(
        source=str(source),
        out=str(out),
        size_bytes=n_bytes,
        bits_per_weight=bpw,
        recipe=recipe,
        keeps_types=keeps_types,
        most_bytes=args.up_to,
        effort=args.effort,
        profile=args.profile or "fast",
        pins=tuple(args.pin),
        probes=args.probes,
        judges=args.gate != OFF,
        gate=Gate() if args.gate is None else args.gate,
        texts=tuple(str(text.absolute()) for text in args.calibration),
        judge_text=str(args.judge.absolute()) if args.judge else "",
        n_threads=args.threads,
        overwrite=args.overwrite,
        loras=tuple(args.lora),
        statistics=str(args.statistics.absolute()) if args.statistics else "",
    )


def _unfinished(args: argparse.Namespace, source: Path) -> ShrinkToSize | None:
    """What was begun to fit this computer and broken off, with the settings that it has."""
    if args.type or args.effort == STOCK:
        return None
    out = args.out.absolute() if args.out else None
    left = unfinished_to_size(source, out, args.lora, _to_size(args, source, Path()))
    if left is None:
        return None
    if not args.json:
        how = f"{left.recipe}, with effort {left.effort}"
        print(f"Going on with {Path(left.out).name}, which was begun and not finished: {how}.")
    return msgspec.structs.replace(left, n_threads=args.threads, overwrite=args.overwrite)


def _recipe(args: argparse.Namespace, source: Path) -> str:
    from engine.quantize.recipe import find_recipe

    if args.type:
        return find_recipe(args.type).name
    left = begun(source, args.out, args.lora) if args.effort == STOCK else None
    return left or recommended(source, args)


def _out(args: argparse.Namespace, source: Path, kind: str) -> Path:
    out: Path = args.out.absolute() if args.out else default_out(source, kind, args.lora)
    if out.suffix.lower() != ".gguf" and not os.path.lexists(out):
        raise FormatError(
            f"{out.name} does not end in .gguf, as a model's name must.",
            hint=f"Call it {out.name}.gguf.",
        )
    return out


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
