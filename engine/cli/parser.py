"""The verbs, their arguments, and what these may be."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from engine import __version__, starter
from engine.cli.hub import download, search
from engine.cli.library import (
    library_add,
    library_disk,
    library_duplicates,
    library_list,
    library_move,
    library_remove,
    library_verify,
)
from engine.cli.lora import add_lora_options
from engine.cli.make import calibrate, convert, ladder, quality, recommend
from engine.cli.models import devices, fit, inspect, selftest
from engine.cli.shrink import STOCK, pin, shrink, size_bytes
from engine.cli.talk import bench, chat
from engine.cli.try_out import try_out
from engine.fit.run import KvType
from engine.hub.hub import Sort
from engine.hub.repo import Format
from engine.quantize.candidates import Profile
from engine.quantize.effort import EffortName
from engine.quantize.gate import Gate, parse_gate

_GATE = "what it must reach: kld=0.05,p999=2,same_top=0.88,ppl_ratio=1.05,probes_lost=0.1, or off"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="snug-engine", description="Convert, shrink, measure and run language models here."
    )
    parser.add_argument("--version", action="version", version=f"snug-engine {__version__}")
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, run: Callable[[argparse.Namespace], Any], about: str) -> Any:
        sub = verbs.add_parser(name, help=about, description=about)
        sub.add_argument("--json", action="store_true", help="print one JSON object at the end")
        sub.set_defaults(verb=run)
        return sub

    sub = verb("try", try_out, "Shrink a model for this computer, say what it cost, and chat.")
    sub.add_argument("source", type=Path, nargs="?", default=starter.MODEL)
    sub.add_argument("--folder", type=Path, default=Path(), help="for the shrunk model")
    _add_device(sub)

    sub = verb("devices", devices, "Show this computer: memory, processor, graphics.")
    sub.add_argument(
        "--try-again", action="store_true", help="also what crashed or hung when it was tried"
    )
    _add_device(sub)

    sub = verb("selftest", selftest, "Try this installation: what is here, and what it answers.")
    _add_device(sub)

    sub = verb("inspect", inspect, "Say what a GGUF file or a checkpoint folder is.")
    sub.add_argument("model", type=Path)

    sub = verb("fit", fit, "Say whether a model runs here, and what it takes.")
    sub.add_argument("model", help="a GGUF file, or OWNER/NAME:TYPE (or :FILE) on the hub")
    sub.add_argument("--ctx", type=_count, default=0, help="tokens of context; 0 = what fits")
    sub.add_argument("--kv", choices=get_args(KvType), help="type of the KV cache")
    _add_device(sub)

    sub = verb("recommend", recommend, "Say which type to shrink a model to, and why.")
    sub.add_argument("source", type=Path)
    sub.add_argument("--ctx", type=_count, default=0, help="tokens of context to have room for")
    sub.add_argument(
        "--machine", type=Path, metavar="FILE", help="another computer, as `devices --json` has it"
    )
    _add_device(sub)

    _add_hub_verbs(verb)
    _add_library_verbs(verbs)

    sub = verb("convert", convert, "Turn a checkpoint folder, or a LoRA adapter, into a GGUF file.")
    sub.add_argument("checkpoint", type=Path, help="a folder; or that of an adapter")
    sub.add_argument("out", type=Path)
    sub.add_argument(
        "--type",
        type=str.lower,
        choices=("auto", "f32", "f16", "bf16"),
        default="auto",
        help="auto: as it is stored, in 16 bits at most; an adapter: f32",
    )
    sub.add_argument("--overwrite", action="store_true", help="replace a file of that name")
    add_lora_options(sub, _scale)
    sub.add_argument("--base", type=Path, metavar="FOLDER", help="the base model of an adapter")

    _add_shrink_verb(verb)

    sub = verb("chat", chat, "Talk with a model; without a chat template it continues the text.")
    sub.add_argument("model", type=Path)
    sub.add_argument("-p", "--prompt", help="ask this, print the answer and end")
    sub.add_argument("--system", default="", help="system prompt")
    sub.add_argument("--temp", type=_temperature, default=None, help="0 = always the likeliest")
    sub.add_argument("--seed", type=_seed, default=None)
    sub.add_argument("-n", "--max-tokens", type=_count, default=0, help="0 = until the end")
    sub.add_argument("-c", "--context", "--ctx", type=_count, default=0, help="0 = what fits")
    sub.add_argument("--anyway", action="store_true", help="load it although it seems not to fit")
    sub.add_argument("-t", "--threads", type=_count, default=0)
    _add_device(sub)

    _add_measuring_verbs(verb)
    return parser


def _add_shrink_verb(verb: Callable[..., Any]) -> None:
    sub = verb("shrink", shrink, "Quantize a checkpoint folder or a 16/32-bit GGUF file.")
    sub.add_argument("source", type=Path)
    sub.add_argument("-o", "--out", type=Path, help="default: beside SOURCE, named after it")
    how = sub.add_mutually_exclusive_group()
    how.add_argument("--size", type=size_bytes, default=0, help="of the whole file, such as 4.5GB")
    how.add_argument("--bpw", type=_bits, default=0.0, help="bits per weight, such as 4.25")
    how.add_argument("--type", help="Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q3_K_M, Q2_K: its types and size")
    how.add_argument("--fit", action="store_true", help="what fits this computer; the default")
    sub.add_argument(
        "--effort",
        choices=(STOCK, *get_args(EffortName)),
        default="balanced",
        help="default: balanced; stock: as llama-quantize rounds without an importance matrix",
    )
    sub.add_argument(
        "--calibration",
        type=Path,
        nargs="+",
        default=(),
        metavar="FILE",
        help="text, or conversations as .jsonl; default: what comes with Snug",
    )
    sub.add_argument(
        "--statistics",
        type=Path,
        metavar="FILE",
        help="of the verb calibrate, or an imatrix of llama-imatrix: instead of reading texts",
    )
    sub.add_argument(
        "--judge",
        type=Path,
        metavar="FILE",
        help="text to compare both on, none to calibrate with; default: what comes with Snug",
    )
    sub.add_argument("--gate", type=_gate, metavar="LIMITS", help=_GATE)
    sub.add_argument(
        "--up-to", type=size_bytes, default=0, metavar="SIZE", help="if it fails the gate"
    )
    sub.add_argument("--probes", action="store_true", help="ask it small tasks, too")
    sub.add_argument(
        "--profile", choices=get_args(Profile), help="types to use: fast ones (default) or any"
    )
    sub.add_argument(
        "--pin", type=pin, action="append", default=[], metavar="REGEX=TYPE", help="of tensors"
    )
    sub.add_argument("-t", "--threads", type=_count, default=0)
    _add_device(sub)
    sub.add_argument("--overwrite", action="store_true", help="replace a file of that name")
    add_lora_options(sub, _scale)
    sub.set_defaults(refuse=sub.error)


def _add_measuring_verbs(verb: Callable[..., Any]) -> None:
    sub = verb("bench", bench, "Measure reading (pp) and writing (tg) speed, as llama-bench does.")
    sub.add_argument("model", type=Path)
    sub.add_argument("-p", "--n-prompt", type=_count, default=512)
    sub.add_argument("-n", "--n-generate", type=_count, default=128)
    sub.add_argument("-t", "--threads", type=_count, default=0)
    _add_device(sub)
    sub.add_argument("-r", "--repetitions", type=_positive, default=3)

    sub = verb("calibrate", calibrate, "Let a model read, and keep what shrinking it well needs.")
    sub.add_argument("model", type=Path, help="a GGUF file of 16 or 32 bits")
    sub.add_argument("-o", "--out", type=Path, required=True)
    sub.add_argument(
        "--text", type=Path, nargs="+", default=[], metavar="FILE", help="default: Snug's own"
    )
    sub.add_argument("--chunks", type=_count, default=0, help="0 = the whole text")
    sub.add_argument("-c", "--context", "--ctx", type=_count, default=512)
    sub.add_argument("-t", "--threads", type=_count, default=0)
    _add_device(sub)
    sub.add_argument("--overwrite", action="store_true", help="replace a file of that name")

    sub = verb("quality", quality, "Compare a model with the one it was made from, on a text.")
    sub.add_argument("model", type=Path)
    sub.add_argument("--reference", type=Path, required=True)
    sub.add_argument("--text", type=Path, required=True)
    sub.add_argument("--chunks", type=_count, default=0, help="0 = the whole text")
    sub.add_argument("-c", "--context", "--ctx", type=_count, default=512)
    sub.add_argument("--kv", choices=get_args(KvType), default="f16", help="the KV cache's type")
    sub.add_argument("--probes", action="store_true", help="ask both small questions, too")
    sub.add_argument("--gate", type=_gate, default="off", metavar="LIMITS", help=_GATE)
    _add_device(sub)

    sub = verb("ladder", ladder, "Shrink a model with each named method, and compare them.")
    sub.add_argument("source", type=Path, help="a checkpoint folder or a 16/32-bit GGUF file")
    sub.add_argument("--text", type=Path, required=True, help="to judge on")
    sub.add_argument("--calibration", type=Path, nargs="+", default=(), metavar="FILE")
    sub.add_argument("--methods", type=_names, default=(), metavar="A,B", help="default: all")
    sub.add_argument("--type", default="Q4_K_M", help="whose types and size they are compared at")
    sub.add_argument("--effort", choices=get_args(EffortName), default="balanced")
    sub.add_argument("--chunks", type=_count, default=0, help="to judge on; 0 = the whole text")
    sub.add_argument("--folder", type=Path, help="to work in; default: that of temporary files")
    sub.add_argument("-t", "--threads", type=_count, default=0)
    _add_device(sub)


def _add_device(sub: Any) -> None:
    sub.add_argument(
        "--device",
        default="",
        metavar="auto|cpu|NAME",
        help="to compute on; default: as in Settings; names: see the verb devices",
    )


def _add_hub_verbs(verb: Callable[..., Any]) -> None:
    sub = verb("search", search, "Look for models on the Hugging Face Hub (or HF_ENDPOINT).")
    sub.add_argument("text")
    sub.add_argument("--sort", choices=get_args(Sort), default="trending")
    sub.add_argument("--format", choices=get_args(Format))
    sub.add_argument("--license", default="", help="such as apache-2.0")
    sub.add_argument("--limit", type=_positive, default=20)
    sub.add_argument("--fits", action="store_true", help="only what fits here at four bits")

    sub = verb("download", download, "Fetch a model: resumable, verified, all its parts.")
    sub.add_argument("repo", metavar="OWNER/NAME")
    sub.add_argument("file", nargs="?", default="", help="a file, a type such as Q4_K_M, or none")
    sub.add_argument("--to", type=Path, metavar="FOLDER", help="default: Snug's models folder")
    sub.add_argument("--revision", default="", help="a branch, tag or commit")
    sub.add_argument("--limit-rate", type=_count, default=0, metavar="BYTES", help="per second")


def _add_library_verbs(verbs: Any) -> None:
    about = "The models that the window lists, and the list of those added from elsewhere."
    parts = verbs.add_parser("library", help=about, description=about).add_subparsers(
        required=True, metavar="list|disk|add|remove|verify|duplicates|move"
    )

    def part(name: str, run: Callable[[argparse.Namespace], Any], what: str) -> Any:
        sub = parts.add_parser(name, help=what, description=what)
        sub.add_argument("--json", action="store_true", help="print one JSON value at the end")
        sub.set_defaults(verb=run)
        return sub

    part("list", library_list, "List all of them.")
    part("disk", library_disk, "What Snug's models take, what is free, what is unfinished.")
    part("duplicates", library_duplicates, "Find models that lie here twice; none is deleted.")
    for name, run, what in (
        ("add", library_add, "List a GGUF file, a checkpoint, or all models of a folder."),
        ("remove", library_remove, "Forget what was added; no file is deleted."),
        ("verify", library_verify, "Hash downloaded files again."),
    ):
        part(name, run, what).add_argument("paths", type=Path, nargs="+", metavar="PATH")
    sub = part("move", library_move, "Move the models folder, with the models in it.")
    sub.add_argument("folder", type=Path, metavar="FOLDER")


def _count(text: str) -> int:
    return int(_number(text, int, 0, 2**31 - 1))


def _positive(text: str) -> int:
    return int(_number(text, int, 1, 2**31 - 1))


def _seed(text: str) -> int:
    return int(_number(text, int, 0, 2**32 - 1))


def _temperature(text: str) -> float:
    return _number(text, float, 0, 10)


def _bits(text: str) -> float:
    return _number(text, float, 1, 32)


def _scale(text: str) -> float:
    return _number(text, float, -100, 100)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _gate(text: str) -> Gate:
    try:
        return parse_gate(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _number(text: str, kind: type[int | float], least: int, most: int) -> float:
    try:
        number = kind(text)
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"must be a number from {least} to {most}")
    return number
