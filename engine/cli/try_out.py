"""The steps of the verb `try`: Snug's main job from end to end, as commands anyone can repeat."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from engine import starter
from engine.cli.shrink import recommended

# The first pages say enough: the whole text would take ten times as long.
_QUICKLY = ("--effort", "fast")
_PAGES = ("--chunks", "4", "--context", "512")


def try_out(args: argparse.Namespace) -> Any:
    from engine.cli.parser import build_parser
    from engine.files import make_folder
    from engine.inspect import describe

    source = args.source.absolute()
    recipe = None if describe(source).quantized else recommended(source, args)
    if recipe:
        make_folder(args.folder)
    results = {}
    for command in commands(source, recipe, args.folder.absolute()):
        step = build_parser().parse_args(command)
        step.json, step.device = args.json, args.device
        if not args.json:
            print(f"\n$ snug-engine {shlex.join(command)}", flush=True)
        results[command[0]] = step.verb(step)
    return results


def commands(source: Path, recipe: str | None, folder: Path) -> list[list[str]]:
    """Shrink `source` with `recipe` into `folder`, compare the two, chat with the result.

    With no `recipe` only the chat. A checkpoint is not compared: nothing can run it as it is. Where
    nobody types, the chat is one question.
    """
    model, steps = source, []
    if recipe:
        name = source.stem if source.is_file() else source.name
        model = folder / f"{name}-{recipe}.gguf"
        steps += [
            ["shrink", str(source), "--type", recipe, *_QUICKLY, "-o", str(model), "--overwrite"]
        ]
    if recipe and source.is_file():
        on_text = ["--reference", str(source), "--text", str(starter.TEXT), *_PAGES]
        steps += [["quality", str(model), *on_text]]
    question = [] if sys.stdin.isatty() else ["-p", starter.SAMPLE_QUESTION]
    return [*steps, ["chat", str(model), *question]]
