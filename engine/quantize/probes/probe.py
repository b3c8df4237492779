"""What is asked: each probe a frozen value, read from resources/probes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import msgspec

from engine.chat import Message
from engine.quantize.probes.checks import Check

Kind = Literal["arithmetic", "json", "code", "recall", "turn"]

_FOLDER = Path(__file__).resolve().parents[3] / "resources" / "probes"


class Probe(msgspec.Struct, frozen=True):
    """A question, how its answer is checked, and how many tokens it may take.

    A model without a chat template gets `text` to continue instead of `messages`, up to the next
    question; where it is None the probe is for chat models only.
    """

    kind: Kind
    name: str
    messages: tuple[Message, ...]
    text: str | None
    check: Check
    max_tokens: int


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One question of a file; `place` is where in its background the fact stands, 0 to 1."""

    ask: str
    check: Check
    system: str = ""
    earlier: tuple[str, ...] = ()
    fact: str = ""
    place: float = 0.0
    n_words: int = 0


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The questions of one kind; `examples` comes before each for a model without a template."""

    max_tokens: int
    probe: tuple[_Asked, ...]
    examples: str | None = None
    background: str = ""


def load_probes() -> tuple[Probe, ...]:
    """All probes, always in the same order."""
    probes: list[Probe] = []
    for kind in get_args(Kind):
        file = msgspec.toml.decode((_FOLDER / f"{kind}.toml").read_bytes(), type=_File)
        probes += [_probe(kind, number, asked, file) for number, asked in enumerate(file.probe, 1)]
    return tuple(probes)


def _probe(kind: Kind, number: int, asked: _Asked, file: _File) -> Probe:
    question = asked.ask
    if asked.fact:
        question = f"{_hidden(asked, file.background.split())}\n\n{asked.ask}"
    # Earlier turns: the user's and the model's in turns.
    roles = ("user", "assistant")
    turns = [Message(roles[i % 2], text) for i, text in enumerate(asked.earlier)]
    opening = [Message("system", asked.system)] if asked.system else []
    text = None
    if file.examples is not None:
        text = f"{file.examples}Question: {question}\nAnswer:"
    return Probe(
        kind=kind,
        name=f"{kind} {number}",
        messages=(*opening, *turns, Message("user", question)),
        text=text,
        check=asked.check,
        max_tokens=file.max_tokens,
    )


def _hidden(asked: _Asked, background: list[str]) -> str:
    """The fact within `n_words` of the background, which begins anew where it ends."""
    words = [background[i % len(background)] for i in range(asked.n_words)]
    at = round(asked.place * len(words))
    return " ".join([*words[:at], asked.fact, *words[at:]])
