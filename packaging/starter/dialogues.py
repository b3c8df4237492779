"""Conversations to learn from: an endless stream of turns, drawn from a seeded generator."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import stories
import tasks
from held_out import forbidden, plain
from phrases import as_people_type, expand
from topics import ASKING, HELP_FILES, Topic, read_lists, read_topics

DO_NOT_KNOW = (
    "I don't know that. I am a tiny starter model and only know Snug; a real model can help you."
)
NOTHING_MORE = "That is all I know about it."


@dataclass(frozen=True)
class Turn:
    """One message of a conversation."""

    role: str
    text: str


class Dialogues:
    """Draws conversations; the same seed draws the same ones."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._help = read_topics(*HELP_FILES)
        self._small_talk = read_topics("smalltalk.txt")
        self._off_topic = read_lists("off_topic.txt")
        self._forbidden = forbidden()

    def conversation(self) -> Iterator[Turn]:
        """Turns without end, from the first on; the reader takes as many as have room."""
        rng = self._rng
        if rng.random() < 0.08:
            yield Turn("system", rng.choice(ASKING["system"]))
        while True:
            draw = rng.random()
            if draw < 0.64:
                yield from self._about(rng.choice(self._help))
            elif draw < 0.76:
                yield from self._about(rng.choice(self._small_talk))
            elif draw < 0.88:
                yield from _exchange(self._ask(self._strange_question), DO_NOT_KNOW)
            elif draw < 0.92:
                yield from self._stories()
            elif draw < 0.96:
                yield from self._plain(tasks.asked_sum(rng))
            elif draw < 0.98:
                yield from self._plain(tasks.asked_json(rng))
            else:
                yield from self._plain(tasks.asked_code(rng))

    def _about(self, topic: Topic) -> Iterator[Turn]:
        """A question and its answer; at times the answer again, or more of it."""
        rng = self._rng
        answer = rng.choice(topic.answers)
        yield from _exchange(self._ask(lambda: topic.question(rng)), answer)
        if rng.random() < 0.12:
            yield from _exchange(self._asking("again"), answer)
        if topic.more and rng.random() < 0.30:
            yield from _exchange(self._asking("more"), topic.more)
            if rng.random() < 0.15:
                yield from _exchange(self._asking("more"), NOTHING_MORE)

    def _asking(self, which: str) -> str:
        return self._type(expand("{" + which + "}", ASKING, self._rng))

    def _strange_question(self) -> str:
        return expand("({questions}|{questions}|{other questions})", self._off_topic, self._rng)

    def _stories(self) -> Iterator[Turn]:
        yield from self._plain(stories.asked_story(self._rng))
        if self._rng.random() < 0.3:
            yield from self._plain(stories.asked_another(self._rng))

    def _ask(self, draw: Callable[[], str]) -> str:
        """A question that is not held out, neither as drawn nor as typed."""
        while True:
            sentence = draw()
            typed = self._type(sentence)
            if not self._forbidden & {plain(sentence), plain(typed)}:
                return typed

    def _type(self, sentence: str) -> str:
        return as_people_type(sentence, ASKING, self._rng)

    def _plain(self, asked_and_answered: tuple[str, str]) -> Iterator[Turn]:
        asked, answer = asked_and_answered
        yield from _exchange(self._capital(asked), answer)

    def _capital(self, sentence: str) -> str:
        """As people type it, without slips: names and numbers count."""
        return sentence[:1].upper() + sentence[1:] if self._rng.random() < 0.5 else sentence


def _exchange(question: str, answer: str) -> Iterator[Turn]:
    yield Turn("user", question)
    yield Turn("assistant", answer)
