"""The options that name LoRA adapters, and the verb that turns one into a GGUF of its own."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine.cli.library import settings_file
from engine.cli.progress import run_job
from engine.convert.lora.choice import Lora
from engine.errors import FormatError
from engine.words import format_bytes


def add_lora_options(verb: argparse.ArgumentParser, scale: Callable[[str], float]) -> None:
    """`--lora FOLDER`, as often as one likes, and `--lora-scale` for the one before it."""
    verb.add_argument(
        "--lora",
        type=lambda folder: Lora(str(Path(folder).absolute())),
        action="append",
        default=[],
        metavar="FOLDER",
        help="merge this adapter (PEFT) into the checkpoint; can be given more than once",
    )
    verb.add_argument(
        "--lora-scale",
        type=scale,
        action=_ScaleOfLast,
        metavar="NUMBER",
        help="how strongly the --lora before it counts; default: 1, as it was trained",
    )


class _ScaleOfLast(argparse.Action):
    """Puts the number into the last `--lora`."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if not namespace.lora:
            parser.error(f"{option_string} has to come after the --lora that it is for")
        assert isinstance(values, float)
        namespace.lora[-1] = Lora(namespace.lora[-1].folder, values)


def convert_adapter(args: argparse.Namespace) -> Any:
    """Write the adapter in args.checkpoint as a GGUF, for the base model in args.base or here."""
    from engine.convert.lora.base import find_base
    from engine.convert.lora.job import ConvertAdapter
    from engine.other_apps import places

    if args.lora:
        raise FormatError(
            f"{args.checkpoint.name} is an adapter itself: none can be merged into it.",
            hint="Give the checkpoint first, and each adapter with --lora.",
        )
    adapter = args.checkpoint.absolute()
    models_folder = Path(settings_file().value.models_folder)
    base = args.base.absolute() if args.base else find_base(adapter, models_folder, places())
    float_type = "f32" if args.type == "auto" else args.type
    job = ConvertAdapter(
        str(adapter), str(base), str(args.out.absolute()), float_type, args.overwrite
    )
    done = run_job(job, args)
    if not args.json:
        size = format_bytes(done.size_bytes)
        print(f"{done.path}: {size}, an adapter of {done.n_tensors} tensors for {base.name}")
    return done
