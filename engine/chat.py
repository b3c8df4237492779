"""Messages, and the text that a model's own chat template makes of them.

A template is a program from a stranger: it runs in Jinja's sandbox, with a limit on its size, its
time and what it writes. Pure: knows nothing of tokens. Jinja is imported when one is rendered.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import msgspec

from engine.errors import TemplateError

MAX_TEMPLATE_CHARS = 1 << 20
MAX_PROMPT_CHARS = 32 << 20
MAX_RENDER_S = 2.0
_OUR_HINT = "Choose another model, or tell its maker."


class Message(msgspec.Struct, frozen=True):
    """One turn; `role` is "system", "user" or "assistant"."""

    role: str
    content: str


class ChatTemplate:
    """A model's chat template, compiled once. For one thread at a time."""

    def __init__(self, source: str) -> None:
        """Raises TemplateError for one that cannot be compiled."""
        import jinja2

        from engine.chat_sandbox import Sandbox

        if len(source) > MAX_TEMPLATE_CHARS:
            raise TemplateError("This model's chat template is absurdly long.", hint=_OUR_HINT)
        self._sandbox = Sandbox()
        try:
            self._template = self._sandbox.from_string(source)
        except (jinja2.TemplateError, RecursionError) as e:
            raise TemplateError(
                "This model's chat template has a mistake.", hint=_OUR_HINT, details=str(e)
            ) from e

    def render(
        self,
        messages: Sequence[Message],
        bos_token: str,
        eos_token: str,
        add_generation_prompt: bool = True,
    ) -> str:
        """Return the prompt for `messages`, ending where the model's answer begins.

        A template that refuses a system message is asked again with it in front of the first
        user message, and one that insists on a list of tools gets an empty one.
        Raises TemplateError.
        """
        turns = [{"role": m.role, "content": m.content} for m in messages]
        variables = {
            "bos_token": bos_token,
            "eos_token": eos_token,
            "add_generation_prompt": add_generation_prompt,
            "documents": None,
        }
        self._sandbox.deadline = time.monotonic() + MAX_RENDER_S
        errors = []
        no_tools: tuple[list[Any] | None, ...] = (None, [])
        for tools in no_tools:
            for attempt in (turns, _without_system_message(turns)):
                try:
                    return self._render(messages=attempt, tools=tools, **variables)
                except TemplateError as error:
                    errors.append(error)
        raise errors[0]

    def _render(self, **variables: Any) -> str:
        from engine.chat_sandbox import Refused

        parts, n_chars = [], 0
        try:
            for part in self._template.generate(**variables):
                parts.append(part)
                n_chars += len(part)
                if n_chars > MAX_PROMPT_CHARS:
                    raise TemplateError("This model's chat template never ends.", hint=_OUR_HINT)
        except TemplateError:
            raise
        except Refused as e:
            raise TemplateError(
                f"This model's chat template refused the conversation: {e}",
                hint="Start a new chat without what it refuses.",
            ) from e
        except Exception as e:  # whatever a stranger's program can do wrong
            raise TemplateError(
                "This model's chat template failed.",
                hint=_OUR_HINT,
                details=f"{type(e).__name__}: {e}",
            ) from e
        return "".join(parts)


def render(
    template: str,
    messages: Sequence[Message],
    bos_token: str,
    eos_token: str,
    add_generation_prompt: bool = True,
) -> str:
    """Compile `template` and render `messages` with it; see ChatTemplate."""
    return ChatTemplate(template).render(messages, bos_token, eos_token, add_generation_prompt)


def plain_text(messages: Sequence[Message]) -> str:
    """Return the conversation as one text to continue, for a model without a chat template.

    An answer continues what stands before it; anything else starts a new line.
    """
    text = ""
    for message in messages:
        if text and message.role != "assistant":
            text += "\n"
        text += message.content
    return text


def _without_system_message(turns: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return `turns` with a leading system message moved into the user's after it."""
    if [turn["role"] for turn in turns[:2]] != ["system", "user"]:
        return turns
    content = f"{turns[0]['content']}\n\n{turns[1]['content']}"
    return [{"role": "user", "content": content}, *turns[2:]]
