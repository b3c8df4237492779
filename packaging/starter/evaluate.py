"""Asks a starter model the held-out questions, by greedy decoding, and counts the right answers.

    python packaging/starter/evaluate.py resources/starter/starter.gguf [--json] [--wrong]

What is asked, and why it is fair, is told in held_out.py.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from held_out import Question, questions

from engine.chat import Message
from engine.client import Worker
from engine.inference import Answer, Generate, Load, LoadSettings
from engine.sampling import SamplingParams

MAX_TOKENS = 160


@dataclass(frozen=True)
class Score:
    """How many of `asked` were right, and how many answers ended by themselves."""

    asked: int
    right: int
    ended: int

    @property
    def share(self) -> float:
        return self.right / self.asked


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask the held-out questions.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--wrong", action="store_true", help="show the answers that are wrong")
    args = parser.parse_args()
    show = _show if args.wrong else _hide
    scores = evaluate(args.model, questions(), show)
    if args.json:
        print(json.dumps({kind: asdict(score) for kind, score in scores.items()}))
        return
    for kind, score in scores.items():
        ended = f"{score.ended} ended by themselves"
        print(f"{kind:10} {score.right:3} of {score.asked:3} right ({score.share:.0%}), {ended}")


def evaluate(
    model: Path, asked: Sequence[Question], tell: Callable[[Question, str], None]
) -> dict[str, Score]:
    """Ask every question in a fresh conversation; `tell` gets the wrong ones. Score by kind."""
    worker = Worker.start()
    try:
        worker.finish(Load(str(model.absolute()), LoadSettings(n_ctx=1024)))
        results: dict[str, list[tuple[bool, bool]]] = {}
        for question in asked:
            answer = _ask(worker, question.said)
            is_right = re.search(question.key, answer.text, re.IGNORECASE) is not None
            has_ended = answer.finish_reason == "stop"
            results.setdefault(question.kind, []).append((is_right, has_ended))
            if not is_right:
                tell(question, answer.text)
    finally:
        worker.stop()
    return {
        kind: Score(len(found), sum(r for r, _ in found), sum(e for _, e in found))
        for kind, found in results.items()
    }


def _ask(worker: Worker, said: Sequence[str]) -> Answer:
    """Say one turn after the other; returns the last answer."""
    messages: tuple[Message, ...] = ()
    for text in said:
        messages += (Message("user", text),)
        job = Generate(messages, sampling=SamplingParams(temperature=0), max_tokens=MAX_TOKENS)
        answer: Answer = worker.finish(job)
        messages += (Message("assistant", answer.text),)
    return answer


def _show(question: Question, answer: str) -> None:
    print(f"[{question.kind}] {' / '.join(question.said)}\n    {answer}")


def _hide(question: Question, answer: str) -> None:
    pass


if __name__ == "__main__":
    main()
