"""The answer that is being written, and the conversation above it as the engine is told of it."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from app.store import AnswerStats, Message, Role
from engine import chat


class Stream(msgspec.Struct):
    """An answer, as far as it has come."""

    message: Message
    started_at: float
    text: str = ""
    first_piece_at: float | None = None
    n_tokens: int = 0
    prompt_tokens: int = 0
    prompt_tokens_reused: int = 0
    is_flushed: bool = True

    @property
    def tokens_per_second(self) -> float:
        if self.first_piece_at is None or self.n_tokens < 2:
            return 0.0
        return (self.n_tokens - 1) / max(1e-6, time.monotonic() - self.first_piece_at)

    def stats(self, n_ctx: int) -> AnswerStats:
        """The figures of an answer that was cut short, as seen from here."""
        first = self.first_piece_at
        return AnswerStats(
            prompt_tokens=self.prompt_tokens,
            prompt_tokens_evaluated=self.prompt_tokens - self.prompt_tokens_reused,
            prompt_tokens_per_second=0.0,
            time_to_first_token_seconds=(first - self.started_at) if first else 0.0,
            generation_tokens=self.n_tokens,
            generation_tokens_per_second=self.tokens_per_second,
            finish_reason="cancelled",
            n_ctx=n_ctx,
            n_ctx_used=self.prompt_tokens + self.n_tokens,
            seed=0,
        )


def messages_of(path: Sequence[Message]) -> tuple[chat.Message, ...]:
    """What the engine is told of a conversation.

    An answer that came to nothing is left out, and prompts that then meet become one: many
    templates insist that the roles take turns.
    """
    messages: list[chat.Message] = []
    for message in path:
        if message.role == Role.ASSISTANT and not message.content:
            continue
        if messages and messages[-1].role == message.role:
            joined = f"{messages[-1].content}\n\n{message.content}"
            messages[-1] = chat.Message(message.role.value, joined)
        else:
            messages.append(chat.Message(message.role.value, message.content))
    return tuple(messages)
