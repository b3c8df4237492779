"""What the starter knows: topics with their answers and the ways to ask, read from texts/*.txt.

Every file has blocks, each below its name in square brackets. A block of a topic:

[topic-id]
= the answer (several: one of them is taken)
+ what is said when asked for more
! what a right answer holds (a regular expression; capitals do not matter)
@ actions, parted by " ; ", that are asked for with "how do I ..."
~ terms, parted by " ; ", that are asked for with "what is ..."
every other line is a pattern of a question (see phrases.py)
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from phrases import Words, expand

HERE = Path(__file__).parent
HELP_FILES = ("app.txt", "shrink.txt", "words.txt", "trouble.txt")


def read_lists(name: str) -> dict[str, tuple[str, ...]]:
    """The lists of a file in texts/: "[name]" and below it a line each, or words parted by "|"."""
    lists = {}
    for block in (HERE / "texts" / name).read_text(encoding="utf-8").split("\n[")[1:]:
        title, _, body = block.partition("]\n")
        words = body.replace(" | ", "\n").splitlines()
        lists[title] = tuple(word.strip() for word in words if word.strip())
    return lists


ASKING: Words = read_lists("asking.txt")
WORDS: Words = {
    "app": ["Snug", "Snug", "this app", "the app", "the program", "it"],
    "model": ["model", "model", "language model", "LLM", "AI model"],
    "models": ["models", "models", "language models", "LLMs", "AI models"],
    "model2": ["a model", "models", "a real model", "real models", "a better model", "an LLM"],
    "bigmodel": ["bigger model", "better model", "real model", "smarter model", "larger model"],
    "shrink": ["shrink", "shrink", "quantize", "compress", "reduce", "squeeze", "downsize"],
    "name": ASKING["name"],
}


@dataclass(frozen=True)
class Topic:
    """One thing that the starter knows."""

    id: str
    answers: tuple[str, ...]
    more: str
    key: str
    actions: tuple[str, ...]
    terms: tuple[str, ...]
    patterns: tuple[str, ...]

    def question(self, rng: random.Random) -> str:
        """A way to ask for this topic, each kind of asking about as often."""
        ways = ["pattern"] * (3 if self.patterns else 0)
        ways += ["action"] * (2 if self.actions else 0) + ["term"] * (1 if self.terms else 0)
        way = rng.choice(ways)
        if way == "pattern":
            return expand(rng.choice(self.patterns), WORDS, rng)
        if way == "action":
            return expand(rng.choice(ASKING["how"]), {**WORDS, "action": self.actions}, rng)
        return expand(rng.choice(ASKING["what"]), {**WORDS, "term": self.terms}, rng)


def read_topics(*names: str) -> tuple[Topic, ...]:
    """The topics of these files in texts/, in their order."""
    topics = []
    for name in names:
        for block in (HERE / "texts" / name).read_text(encoding="utf-8").split("\n[")[1:]:
            topic_id, _, body = block.partition("]\n")
            topics.append(_topic(topic_id, body.splitlines()))
    assert len({topic.id for topic in topics}) == len(topics), "two topics of one name"
    return tuple(topics)


def _topic(topic_id: str, lines: list[str]) -> Topic:
    marked: dict[str, list[str]] = {mark: [] for mark in "=+!@~"}
    patterns = []
    for line in filter(None, lines):
        if line[:2] in ("= ", "+ ", "! ", "@ ", "~ "):
            marked[line[0]].append(line[2:])
        else:
            patterns.append(line)
    (key,) = marked["!"]
    assert marked["="], f"{topic_id} has no answer"
    return Topic(
        topic_id,
        tuple(marked["="]),
        " ".join(marked["+"]),
        key,
        tuple(" ; ".join(marked["@"]).split(" ; ")) if marked["@"] else (),
        tuple(" ; ".join(marked["~"]).split(" ; ")) if marked["~"] else (),
        tuple(patterns),
    )
