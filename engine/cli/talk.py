"""Verbs that run a model: chat, bench."""

from __future__ import annotations

import argparse
import io
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from engine.cli.progress import ProgressBar, run_job, start_worker
from engine.client import Worker
from engine.errors import InferenceError
from engine.jobs import Step

if TYPE_CHECKING:
    from engine.chat import Message
    from engine.inference import ModelInfo


def chat(args: argparse.Namespace) -> Any:
    from engine.inference import Load, LoadSettings

    settings = LoadSettings(n_ctx=args.context, n_threads=args.threads, anyway=args.anyway)
    worker = start_worker(args)
    try:
        with ProgressBar(sys.stderr) as bar:
            load = Load(str(args.model.absolute()), settings)
            info = worker.finish(load, None if args.json else bar.show)
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(errors="surrogateescape")  # refused in words, not a traceback
        if args.prompt is not None or not sys.stdin.isatty():
            prompt = args.prompt if args.prompt is not None else sys.stdin.read()
            if not prompt.strip():
                raise InferenceError("There is nothing to answer.", hint="Ask with -p, or a file.")
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

    if not (args.n_prompt or args.n_generate):
        raise InferenceError("There is nothing to measure.", hint="Ask for -p or -n above 0.")
    job = Bench(
        str(args.model.absolute()), args.n_prompt, args.n_generate, args.threads, args.repetitions
    )
    result = run_job(job, args)
    if not args.json:
        print(f"pp{result.n_prompt}  {result.pp_tokens_per_second:9.2f} tokens/s")
        print(f"tg{result.n_generate}  {result.tg_tokens_per_second:9.2f} tokens/s")
    return result
