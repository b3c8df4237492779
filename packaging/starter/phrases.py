"""Sentences from patterns: `(a|b|)` is one of its parts, `{name}` a word of that list."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence

Words = Mapping[str, Sequence[str]]


def expand(pattern: str, words: Words, rng: random.Random) -> str:
    """One sentence of `pattern`; raises KeyError for an unknown list."""
    text, rest = _alternatives(pattern, words, rng)
    assert not rest, f"a bracket too many: {pattern}"
    return re.sub(r" {2,}", " ", text).strip()


def _alternatives(pattern: str, words: Words, rng: random.Random) -> tuple[str, str]:
    """Read parts up to the closing bracket or the end: (one of them expanded, what follows)."""
    parts = [""]
    while pattern:
        char, pattern = pattern[0], pattern[1:]
        if char == "(":
            text, pattern = _alternatives(pattern, words, rng)
            parts[-1] += text
        elif char == ")":
            return rng.choice(parts), pattern
        elif char == "|":
            parts.append("")
        elif char == "{":
            name, _, pattern = pattern.partition("}")
            parts[-1] += expand(rng.choice(words[name]), words, rng)
        else:
            parts[-1] += char
    return rng.choice(parts), ""


def as_people_type(sentence: str, asking: Words, rng: random.Random) -> str:
    """The sentence with an opening, its capital and question mark or without, at times a slip."""
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        sentence = _say_otherwise(sentence, asking["synonyms"], rng)
    if rng.random() < 0.25:
        sentence = f"{rng.choice(asking['opening'])} {sentence}"
    if rng.random() < 0.10:
        closing = rng.choice(asking["closing"])
        sentence += closing if closing.startswith(",") else f" {closing}"
    if rng.random() < 0.15:
        sentence = _drop_a_word(sentence, asking["little word"], rng)
    if rng.random() < 0.15:
        sentence = _drop_a_word(sentence, sentence.lower().split(), rng)
    if rng.random() < 0.10:
        sentence = _insert_a_word(sentence, asking["filler"], rng)
    if rng.random() < 0.12:
        sentence = _mistype(sentence, rng)
    if rng.random() < 0.65:
        sentence = sentence[:1].upper() + sentence[1:]
    elif rng.random() < 0.5:
        sentence = sentence.lower()
    ending = rng.random()
    return sentence + ("?" if ending < 0.6 else "." if ending < 0.7 else "")


def _say_otherwise(sentence: str, synonyms: Sequence[str], rng: random.Random) -> str:
    """Put a word of the same meaning in the place of one; a line of `synonyms` is a set."""
    padded = f" {sentence} "
    sets = [line.split(", ") for line in synonyms]
    found = [(word, words) for words in sets for word in words if f" {word} " in padded]
    if not found:
        return sentence
    word, words = rng.choice(found)
    return padded.replace(f" {word} ", f" {rng.choice(words)} ", 1).strip()


def _drop_a_word(sentence: str, little_words: Sequence[str], rng: random.Random) -> str:
    words = sentence.split(" ")
    little = [i for i, word in enumerate(words) if word.lower() in little_words]
    if len(words) > 4 and little:
        del words[rng.choice(little)]
    return " ".join(words)


def _insert_a_word(sentence: str, fillers: Sequence[str], rng: random.Random) -> str:
    words = sentence.split(" ")
    words.insert(rng.randrange(1, len(words) + 1), rng.choice(fillers))
    return " ".join(words)


def _mistype(sentence: str, rng: random.Random) -> str:
    """Leave a letter out, double one, or swap two."""
    places = [i for i in range(1, len(sentence) - 1) if sentence[i - 1 : i + 2].isalpha()]
    if not places:
        return sentence
    i = rng.choice(places)
    slip = rng.choice(("", sentence[i] * 2, sentence[i + 1] + sentence[i]))
    after = i + 2 if slip and slip[0] == sentence[i + 1] and len(slip) == 2 else i + 1
    return sentence[:i] + slip + sentence[after:]
