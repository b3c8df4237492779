"""The command line: every verb of the engine, for people and (`--json`) for scripts.

Exit codes: 0 done, 1 it could not be done (one sentence on stderr), 2 wrong usage, 130 stopped.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from engine import __version__
from engine.cli_progress import ProgressBar, format_bytes
from engine.client import Worker
from engine.errors import EngineError, InferenceError
from engine.jobs import Step

if TYPE_CHECKING:
    from engine.chat import Message
    from engine.inference import ModelInfo


def main(argv: list[str] | None = None) -> int:
    _open_closed_streams()
    args = build_parser().parse_args(argv)
    try:
        result = args.verb(args)
        if args.json:
            print(msgspec.json.encode(result).decode())
        return 0
    except EngineError as error:
        print(f"snug-engine: {error.message} {error.hint}".rstrip(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except OSError as error:  # a full disk under our output, a working folder that is gone
        print(f"snug-engine: {error.strerror or error}.", file=sys.stderr)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def _open_closed_streams() -> None:
    """Whoever starts this with a closed stream hears and says nothing on it."""
    nothing = Path(os.devnull)
    sys.stdin = sys.stdin or nothing.open(encoding="utf-8")
    sys.stdout = sys.stdout or nothing.open("w", encoding="utf-8")
    sys.stderr = sys.stderr or nothing.open("w", encoding="utf-8")


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

    verb("devices", devices, "Show this computer: memory, processor, graphics.")

    sub = verb("inspect", inspect, "Say what a GGUF file or a checkpoint folder is.")
    sub.add_argument("model", type=Path)

    sub = verb("convert", convert, "Turn a Hugging Face checkpoint folder into a GGUF file.")
    sub.add_argument("checkpoint", type=Path)
    sub.add_argument("out", type=Path)
    sub.add_argument("--type", type=str.lower, choices=("f32", "f16", "bf16"), default="f16")
    sub.add_argument("--overwrite", action="store_true", help="replace a file of that name")

    sub = verb("shrink", shrink, "Quantize a checkpoint folder or a 16/32-bit GGUF file.")
    sub.add_argument("source", type=Path)
    sub.add_argument("-o", "--out", type=Path, help="default: beside SOURCE, named after it")
    sub.add_argument("--type", help="Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q3_K_M, Q2_K; default: what fits")
    sub.add_argument("-t", "--threads", type=_count, default=0)
    sub.add_argument("--overwrite", action="store_true", help="replace a file of that name")

    sub = verb("chat", chat, "Talk with a model; without a chat template it continues the text.")
    sub.add_argument("model", type=Path)
    sub.add_argument("-p", "--prompt", help="ask this, print the answer and end")
    sub.add_argument("--system", default="", help="system prompt")
    sub.add_argument("--temp", type=_temperature, default=None, help="0 = always the likeliest")
    sub.add_argument("--seed", type=_seed, default=None)
    sub.add_argument("-n", "--max-tokens", type=_count, default=0, help="0 = until the end")
    sub.add_argument("-c", "--context", type=_count, default=0, help="0 = what fits")
    sub.add_argument("-t", "--threads", type=_count, default=0)

    sub = verb("bench", bench, "Measure reading (pp) and writing (tg) speed, as llama-bench does.")
    sub.add_argument("model", type=Path)
    sub.add_argument("-p", "--n-prompt", type=_count, default=512)
    sub.add_argument("-n", "--n-generate", type=_count, default=128)
    sub.add_argument("-t", "--threads", type=_count, default=0)
    sub.add_argument("-r", "--repetitions", type=_positive, default=3)

    sub = verb("quality", quality, "Compare a model with the one it was made from, on a text.")
    sub.add_argument("model", type=Path)
    sub.add_argument("--reference", type=Path, required=True)
    sub.add_argument("--text", type=Path, required=True)
    sub.add_argument("--chunks", type=_count, default=0, help="0 = the whole text")
    sub.add_argument("-c", "--context", type=_count, default=512)
    return parser


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


def inspect(args: argparse.Namespace) -> Any:
    from engine.inspect import describe

    summary = describe(args.model)
    if not args.json:
        for name, value in msgspec.structs.asdict(summary).items():
            said = f"{value:.2f}" if isinstance(value, float) else value
            print(f"{name:18} {said if said != '' else 'not stated'}")
    return summary


def convert(args: argparse.Namespace) -> Any:
    from engine.convert.job import Convert

    job = Convert(
        str(args.checkpoint.absolute()), str(args.out.absolute()), args.type, args.overwrite
    )
    done = _run(job, args)
    if not args.json:
        print(
            f"{done.path}: {format_bytes(done.size_bytes)}, {done.n_tensors} tensors, {done.type}"
        )
    return done


def shrink(args: argparse.Namespace) -> Any:
    from engine.quantize.recipe import find_recipe
    from engine.quantize.shrink import Shrink

    source = args.source.absolute()
    recipe = find_recipe(args.type).name if args.type else _recommended(source, args)
    default_out = source.with_name(
        f"{source.stem if source.is_file() else source.name}-{recipe}.gguf"
    )
    out = args.out.absolute() if args.out else default_out
    done = _run(Shrink(str(source), str(out), recipe, args.threads, args.overwrite), args)
    if not args.json:
        before, after = format_bytes(done.source_bytes), format_bytes(done.size_bytes)
        bits = f"{done.bits_per_weight:.2f} bits per weight"
        print(f"{done.path}: {before} -> {after} ({done.recipe}, {bits}, {done.seconds:.1f} s)")
    return done


def _recommended(source: Path, args: argparse.Namespace) -> str:
    """The recipe that Snug picks for this computer, with the reason shown."""
    from engine.errors import OutOfMemory
    from engine.quantize.recommend import Recommend

    advice = _run(Recommend(str(source)), args)
    if advice.recipe is None:
        raise OutOfMemory(
            advice.reason, hint="To shrink it all the same, name a type: --type Q2_K."
        )
    if not args.json:
        print(advice.reason)
    recipe: str = advice.recipe
    return recipe


def chat(args: argparse.Namespace) -> Any:
    from engine.inference import Load, LoadSettings

    settings = LoadSettings(n_ctx=args.context, n_threads=args.threads)
    worker = Worker.start()
    try:
        with ProgressBar(sys.stderr) as bar:
            load = Load(str(args.model.absolute()), settings)
            info = worker.finish(load, None if args.json else bar.show)
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")  # refused in words, not a traceback
        if args.prompt is not None or not sys.stdin.isatty():
            prompt = args.prompt if args.prompt is not None else sys.stdin.read()
            return _answer(worker, _opening(args), prompt, args)
        return _converse(worker, info, args)
    finally:
        worker.stop()


def _converse(worker: Worker, info: ModelInfo, args: argparse.Namespace) -> Any:
    """Question and answer until the end of input; Ctrl+C stops an answer."""
    from engine.chat import Message

    messages, answer = _opening(args), None
    print(f"{info.name}, {info.n_ctx} tokens of context. Ctrl+C stops an answer, Ctrl+D ends.")
    while True:
        try:
            prompt = input("\n> ")
        except EOFError:
            print()
            return answer
        if not prompt.strip():
            continue
        try:
            answer = _answer(worker, messages, prompt, args)
        except KeyboardInterrupt:
            print(" [stopped]")
            continue
        except InferenceError as error:
            print(f"{error.message} {error.hint}", file=sys.stderr)
            continue
        messages += (Message("user", prompt), Message("assistant", answer.text))


def _opening(args: argparse.Namespace) -> tuple[Message, ...]:
    from engine.chat import Message

    return (Message("system", args.system),) if args.system else ()


def _answer(
    worker: Worker,
    earlier: tuple[Message, ...],
    prompt: str,
    args: argparse.Namespace,
) -> Any:
    from engine.chat import Message
    from engine.inference import Generate
    from engine.jobs import Piece
    from engine.sampling import SamplingParams

    sampling = SamplingParams(seed=args.seed)
    if args.temp is not None:
        sampling = msgspec.structs.replace(sampling, temperature=args.temp)
    messages = (*earlier, Message("user", prompt))
    job = Generate(messages=messages, sampling=sampling, max_tokens=args.max_tokens)

    def show(step: Step) -> None:
        if isinstance(step, Piece) and not args.json:
            print(step.text, end="", flush=True)

    answer = worker.finish(job, show)
    if not args.json:
        print()
        speed = f"{answer.generation_tokens_per_second:.1f} tokens/s"
        context = f"context {answer.n_ctx_used} of {answer.n_ctx}"
        print(f"[{speed}, {context}, {answer.finish_reason}]", file=sys.stderr)
    return answer


def bench(args: argparse.Namespace) -> Any:
    from engine.inference import Bench

    job = Bench(
        str(args.model.absolute()), args.n_prompt, args.n_generate, args.threads, args.repetitions
    )
    result = _run(job, args)
    if not args.json:
        print(f"pp{result.n_prompt}  {result.pp_tokens_per_second:9.2f} tokens/s")
        print(f"tg{result.n_generate}  {result.tg_tokens_per_second:9.2f} tokens/s")
    return result


def quality(args: argparse.Namespace) -> Any:
    from engine.quantize.quality import Quality

    model, reference, text = (str(p.absolute()) for p in (args.model, args.reference, args.text))
    report = _run(Quality(model, reference, text, args.chunks, args.context), args)
    if not args.json:
        for name, value in msgspec.structs.asdict(report).items():
            print(f"{name:22} {value:.6g}" if isinstance(value, float) else f"{name:22} {value}")
    return report


def _run(job: Any, args: argparse.Namespace) -> Any:
    """Run a job to its end, with a progress bar unless the output is for a script.

    In a child process: a model file that makes llama.cpp abort must end in a sentence here too.
    """
    worker = Worker.start()
    try:
        with ProgressBar(sys.stderr) as bar:
            return worker.finish(job, None if args.json else bar.show)
    finally:
        worker.stop()


def _count(text: str) -> int:
    return int(_number(text, int, 0, 2**31 - 1))


def _positive(text: str) -> int:
    return int(_number(text, int, 1, 2**31 - 1))


def _seed(text: str) -> int:
    return int(_number(text, int, 0, 2**32 - 1))


def _temperature(text: str) -> float:
    return _number(text, float, 0, 10)


def _number(text: str, kind: type[int | float], least: int, most: int) -> float:
    try:
        number = kind(text)
    except ValueError:
        number = math.nan
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"must be a number from {least} to {most}")
    return number
