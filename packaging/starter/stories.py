"""Tiny stories from the grammar of texts/stories.txt, and the ways to ask for one."""

from __future__ import annotations

import random

from phrases import expand
from topics import read_lists

_LISTS = read_lists("stories.txt")


def asked_story(rng: random.Random) -> tuple[str, str]:
    """A wish for a story, and the story."""
    if rng.random() < 0.5:
        return expand("{asked}", _LISTS, rng), _story(rng, rng.choice(_LISTS["hero"]))
    hero = rng.choice(_LISTS["hero"])
    return expand("{asked about}", {**_LISTS, "hero": [hero]}, rng), _story(rng, hero)


def asked_another(rng: random.Random) -> tuple[str, str]:
    """A wish for one story more, and the story."""
    return expand("{another}", _LISTS, rng), _story(rng, rng.choice(_LISTS["hero"]))


def _story(rng: random.Random, hero: str) -> str:
    """A story of three to six sentences about `hero`."""
    text = expand("{beginning} {middle} {end}", _LISTS, rng)
    return text.replace("HERO", hero).replace("NAME", rng.choice(_LISTS["name"]))
