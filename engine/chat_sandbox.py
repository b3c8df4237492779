"""The Jinja environment in which a stranger's chat template runs, as templates expect it.

They are written for transformers (`apply_chat_template`): trimmed blocks, loop controls, the
`generation` tag, `tojson` without HTML escapes, `raise_exception` and `strftime_now`.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import jinja2.compiler
import jinja2.exceptions
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

MAX_REPEATED_CHARS = 1 << 20


class Refused(Exception):
    """The template called `raise_exception`; the text is its own."""


class TookTooLong(Exception):
    """The template was still running at its deadline."""


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks the assistant's words for training; here it changes nothing."""

    tags = {"generation"}  # noqa: RUF012 (typed so by the base class)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


class _CodeGenerator(jinja2.compiler.CodeGenerator):
    """Puts a look at the clock into every loop and macro: the sandbox itself limits no time."""

    def visit_Template(
        self, node: jinja2.nodes.Template, frame: jinja2.compiler.Frame | None = None
    ) -> None:
        loops: Iterator[Any] = node.find_all((jinja2.nodes.For, jinja2.nodes.Macro))
        for block in loops:
            tick = jinja2.nodes.EnvironmentAttribute("tick")
            call = jinja2.nodes.Call(tick, [], [], None, None)
            block.body.insert(0, jinja2.nodes.ExprStmt(call).set_lineno(block.lineno))
        super().visit_Template(node, frame)


class Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """Set `deadline` (of time.monotonic) before rendering."""

    code_generator_class = _CodeGenerator
    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, jinja2.ext.loopcontrols],
        )
        self.deadline = 0.0
        self.filters["tojson"] = _tojson
        self.filters["from_json"] = json.loads
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now

    def tick(self) -> str:
        if time.monotonic() > self.deadline:
            raise TookTooLong("it took too long")
        return ""

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Refuse the two operators that make something huge of something small."""
        if operator == "**":
            raise jinja2.exceptions.SecurityError("powers are not allowed in a chat template")
        for value, times in ((left, right), (right, left)):
            if isinstance(value, (str, list, tuple)) and len(value) * times > MAX_REPEATED_CHARS:
                raise jinja2.exceptions.SecurityError("repeated too often")
        return super().call_binop(context, operator, left, right)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers: Jinja's own filter would write `<` as \\u003c."""
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: object) -> NoReturn:
    raise Refused(str(message)[:500])


def _strftime_now(pattern: str) -> str:
    return dt.datetime.now().astimezone().strftime(str(pattern)[:100])
