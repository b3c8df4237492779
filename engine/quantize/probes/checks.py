"""Whether an answer is right: by its text alone. The code in it is compiled and never run."""

from __future__ import annotations

import ast
import json
import re
import warnings

import msgspec

MAX_CHARS = 8000
"""Answers end after some hundred tokens; a longer text is not parsed."""

_FENCED = re.compile(r"```[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
# What a model writes when it goes on with a turn that is not its own.
_FOREIGN_TURN = re.compile(r"<\|?[a-z_]+\|?>|\[/?INST\]|^(?:user|assistant)\s*$", re.MULTILINE)


class Number(msgspec.Struct, frozen=True, tag="number"):
    """The last number of the answer is `value`: "12 + 7 = 19." too."""

    value: str

    def passes(self, text: str) -> bool:
        numbers = _NUMBER.findall(text.replace(",", ""))
        return bool(numbers) and numbers[-1] == self.value


class Says(msgspec.Struct, frozen=True, tag="says"):
    """The answer has `words` in it, in any case."""

    words: str

    def passes(self, text: str) -> bool:
        return self.words.casefold() in text.casefold()


class JsonObject(msgspec.Struct, frozen=True, tag="json"):
    """The answer, or the code block in it, is a JSON object with at least `keys`."""

    keys: tuple[str, ...] = ()

    def passes(self, text: str) -> bool:
        try:
            value = json.loads(_block(text))
        except (ValueError, RecursionError):
            return False
        return isinstance(value, dict) and bool(value) and value.keys() >= set(self.keys)


class PythonFunction(msgspec.Struct, frozen=True, tag="python"):
    """The answer, or the code block in it, compiles as Python and defines a function.

    It is called `name`, if one is given.
    """

    name: str = ""

    def passes(self, text: str) -> bool:
        code = _block(text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                compile(code, "<answer>", "exec", dont_inherit=True)
                tree = ast.parse(code)
            # Nesting too deep, NUL bytes, numbers too long: whatever a model can write.
            except (SyntaxError, ValueError, MemoryError, RecursionError, OverflowError):
                return False
        names = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        return self.name in names if self.name else bool(names)


class EndsTurn(msgspec.Struct, frozen=True, tag="turn"):
    """The answer says something, ends by itself (see `passes_check`) and opens no other turn."""

    def passes(self, text: str) -> bool:
        return bool(text.strip()) and not _FOREIGN_TURN.search(text)


Check = Number | Says | JsonObject | PythonFunction | EndsTurn


def passes_check(check: Check, text: str, *, has_ended: bool) -> bool:
    """Whether `text` is right; `has_ended`: by the model's own token and not at a limit.

    What a model thought aloud before its answer does not count.
    """
    answer = text.rpartition("</think>")[2]
    if len(answer) > MAX_CHARS or (isinstance(check, EndsTurn) and not has_ended):
        return False
    return check.passes(answer)


def _block(text: str) -> str:
    """The first code block of `text`, or else all of it."""
    fenced = _FENCED.search(text)
    return fenced[1] if fenced else text.strip()
