"""Small tasks with one right answer: sums, JSON, code, and names that are told and asked for."""

from __future__ import annotations

import json
import random

from phrases import expand
from topics import read_lists

_LISTS = {**read_lists("off_topic.txt"), **read_lists("tasks.txt")}
_CODE = (
    ("adds two numbers", "def add(a, b):\n    return a + b"),
    ("subtracts two numbers", "def subtract(a, b):\n    return a - b"),
    ("multiplies two numbers", "def multiply(a, b):\n    return a * b"),
    ("returns the larger of two numbers", "def larger(a, b):\n    return a if a > b else b"),
    ("returns the smaller of two numbers", "def smaller(a, b):\n    return a if a < b else b"),
    ("says hello", 'def hello(name):\n    print(f"Hello, {name}!")'),
    ("squares a number", "def square(x):\n    return x * x"),
    ("doubles a number", "def double(x):\n    return 2 * x"),
    ("reverses a text", "def reverse(text):\n    return text[::-1]"),
    ("counts the words of a text", "def count_words(text):\n    return len(text.split())"),
    ("sums a list", "def total(numbers):\n    return sum(numbers)"),
    ("finds the largest number of a list", "def largest(numbers):\n    return max(numbers)"),
    ("finds the smallest number of a list", "def smallest(numbers):\n    return min(numbers)"),
    ("tells whether a number is even", "def is_even(n):\n    return n % 2 == 0"),
    ("tells whether a number is odd", "def is_odd(n):\n    return n % 2 == 1"),
    ("computes the mean of a list", "def mean(numbers):\n    return sum(numbers) / len(numbers)"),
    ("reads a file", "def read(path):\n    with open(path) as file:\n        return file.read()"),
    ("counts from one to ten", "for i in range(1, 11):\n    print(i)"),
    ("sorts a list", "def sort(numbers):\n    return sorted(numbers)"),
    ("joins a list of words", 'def join(words):\n    return " ".join(words)'),
)  # fmt: skip


def told_name(rng: random.Random) -> tuple[str, str]:
    """A sentence that tells a name, and the name: half are made up, to learn copying."""
    name = expand(rng.choice(("{name}", "{made_up}")), _LISTS, rng).capitalize()
    told = expand("{tell name}", {**_LISTS, "name": [name]}, rng)
    if rng.random() < 0.3:
        told += expand("(.|!|,) (nice to meet you|how are you|I am new here)", {}, rng)
    return told, name


def asked_name(rng: random.Random) -> str:
    return expand("{ask name}", _LISTS, rng)


def asked_sum(rng: random.Random) -> tuple[str, str, int]:
    """A sum or difference of numbers up to 20: question, answer and the result."""
    a, b = rng.randrange(21), rng.randrange(21)
    if rng.random() < 0.4:
        a, b = max(a, b), min(a, b)
        sign, word, result = "-", "minus", a - b
    else:
        sign, word, result = "+", "plus", a + b
    asked = rng.choice((f"{a} {sign} {b}", f"{a} {word} {b}", f"{a}{sign}{b}"))
    question = _ask("sum", asked, rng)
    return question, f"{a} {sign} {b} = {result}.", result


def asked_next_sum(rng: random.Random, so_far: int) -> tuple[str, str, int]:
    """A question that goes on from the last result."""
    b = rng.randrange(1, 11)
    question = expand("(and |now |)(plus|add|then add) " + str(b), {}, rng)
    return question, f"{so_far} + {b} = {so_far + b}.", so_far + b


def asked_json(rng: random.Random) -> tuple[str, str]:
    values: dict[str, str | int] = {
        "name": rng.choice(_LISTS["name"]),
        "age": rng.randrange(1, 100),
        "city": rng.choice(_LISTS["city"]),
        "colour": rng.choice(_LISTS["colour"]),
        "count": rng.randrange(1, 100),
    }
    keys = rng.sample(sorted(values), rng.choice((1, 2, 2, 3)))
    facts = [f"{key} {values[key]}" for key in keys]
    text = facts[0] if len(facts) == 1 else ", ".join(facts[:-1]) + " and " + facts[-1]
    question = _ask("json", text, rng)
    return question, json.dumps({key: values[key] for key in keys})


def asked_echo(rng: random.Random) -> tuple[str, str]:
    """A wish to repeat words without sense: nothing teaches copying as well."""
    kinds = ("{name}", "{made_up}", "{made_up}", "{animal}", "{city}", "{colour}")
    words = [expand(rng.choice(kinds), _LISTS, rng) for _ in range(rng.randrange(1, 9))]
    text = " ".join(words)
    return _ask("echo", text, rng), text


def asked_code(rng: random.Random) -> tuple[str, str]:
    what, code = rng.choice(_CODE)
    question = _ask("code", what, rng)
    return question, f"```python\n{code}\n```"


def _ask(which: str, what: str, rng: random.Random) -> str:
    """A pattern of that list with `what` in its place."""
    return expand("{" + which + "}", {**_LISTS, "it": [what]}, rng)
