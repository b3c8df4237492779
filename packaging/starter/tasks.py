"""Small tasks with one right answer: sums, JSON and code."""

from __future__ import annotations

import json
import random

from phrases import expand
from topics import read_lists

_LISTS = read_lists("tasks.txt")
# So small a model does not learn to copy what it reads: it knows a few objects by heart.
_JSON: tuple[tuple[str, dict[str, str | int]], ...] = (
    ("a cat", {"animal": "cat", "legs": 4}),
    ("a dog", {"animal": "dog", "legs": 4}),
    ("a bird", {"animal": "bird", "legs": 2}),
    ("a fish", {"animal": "fish", "legs": 0}),
    ("a spider", {"animal": "spider", "legs": 8}),
    ("an apple", {"fruit": "apple", "colour": "red"}),
    ("a banana", {"fruit": "banana", "colour": "yellow"}),
    ("a pear", {"fruit": "pear", "colour": "green"}),
    ("a person", {"name": "Ann", "age": 30}),
    ("a user", {"name": "Bob", "admin": "no"}),
    ("a book", {"title": "Tiny Stories", "pages": 12}),
    ("a city", {"city": "Paris", "country": "France"}),
    ("a point", {"x": 1, "y": 2}),
    ("a colour", {"red": 255, "green": 128, "blue": 0}),
    ("a date", {"year": 2026, "month": 11, "day": 21}),
    ("a model", {"name": "starter", "parameters": 7300000}),
)
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


def asked_sum(rng: random.Random) -> tuple[str, str]:
    """A sum or difference of numbers up to 12, and its result."""
    a, b = rng.randrange(13), rng.randrange(13)
    if rng.random() < 0.4:
        a, b = max(a, b), min(a, b)
        sign, word, result = "-", "minus", a - b
    else:
        sign, word, result = "+", "plus", a + b
    asked = rng.choice((f"{a} {sign} {b}", f"{a} {word} {b}", f"{a}{sign}{b}"))
    return _ask("sum", asked, rng), f"{a} {sign} {b} = {result}."


def asked_json(rng: random.Random) -> tuple[str, str]:
    what, facts = rng.choice(_JSON)
    return _ask("json", what, rng), json.dumps(facts)


def asked_code(rng: random.Random) -> tuple[str, str]:
    what, code = rng.choice(_CODE)
    question = _ask("code", what, rng)
    return question, f"```python\n{code}\n```"


def _ask(which: str, what: str, rng: random.Random) -> str:
    """A pattern of that list with `what` in its place."""
    return expand("{" + which + "}", {**_LISTS, "it": [what]}, rng)
