"""The questions that the starter is judged on, and never learns from: held_out/.

They were written by someone who saw the answers, not the patterns of the training text.

    help.tsv        topic and question
    off_topic.txt   questions that it should not know
    turns.tsv       kind, first message, second message, what the second answer must hold:
                    a regular expression, "@topic" for more of a topic, "=topic" for it once more
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from topics import HELP_FILES, read_topics

FOLDER = Path(__file__).parent / "held_out"
DOES_NOT_KNOW = "don't know"


@dataclass(frozen=True)
class Question:
    """What is said to the model, turn by turn, and what its last answer must hold."""

    kind: str
    said: tuple[str, ...]
    key: str


def questions() -> tuple[Question, ...]:
    """Every held-out question."""
    topics = {topic.id: topic for topic in read_topics(*HELP_FILES)}
    found = [Question("help", (text,), topics[of].key) for of, text in _lines("help.tsv")]
    found += [Question("off topic", (text,), DOES_NOT_KNOW) for (text,) in _lines("off_topic.txt")]
    for kind, first, second, expected in _lines("turns.tsv"):
        if expected.startswith("@"):
            key = re.escape(topics[expected[1:]].more)
        else:
            key = topics[expected[1:]].key if expected.startswith("=") else expected
        found.append(Question(kind, (first, second), key))
    return tuple(found)


def forbidden() -> frozenset[str]:
    """The first message of every held-out question, plain: no dialogue may hold one."""
    return frozenset(plain(question.said[0]) for question in questions() if question.kind != "name")


def plain(text: str) -> str:
    """`text` without capitals and marks, for comparing."""
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).strip()


def _lines(name: str) -> Iterator[list[str]]:
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        yield line.split("\t")
