"""Conversations for pictures, and a worker that says its lines at a steady pace."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, QTimer

from app.store import AnswerStats, Status, Store
from engine.client import Cancelled, Failed, Outcome, Stepped, Succeeded
from engine.errors import EngineError
from engine.hub.here import Here
from engine.hub.repo import Found, HubFile, Repo
from engine.hub.search import Described
from engine.inference import Load, ModelInfo
from engine.jobs import Piece, Progress

MODEL_NAME = "Llama 3.1 8B Instruct"
DAY_S = 86_400

QUESTION = "How do I find all dates like 2025-03-14 in a text with Python?"
ANSWER = """\
Use a regular expression with three groups, then let `datetime` reject what only looks like a date.

```python
import re
from datetime import date

DATE = re.compile(r"\\b(\\d{4})-(\\d{2})-(\\d{2})\\b")

def find_dates(text: str) -> list[date]:
    found = []
    for match in DATE.finditer(text):
        try:
            found.append(date(*map(int, match.groups())))
        except ValueError:  # 2025-02-30
            continue
    return found
```

What each part does:

1. `\\b` keeps longer runs of digits out.
2. The **three groups** become year, month and day.
3. `date(...)` raises *ValueError* for a day that does not exist.
"""
SECOND_QUESTION = "Which separators should I allow?"
SECOND_ANSWER = """\
It depends on where the text comes from. These are the usual ones:

| Separator | Example | Where |
|---|---|---|
| hyphen | 2025-03-14 | ISO 8601, logs, file names |
| full stop | 14.03.2025 | Germany, Poland |
| slash | 03/14/2025 | United States |

> A slash is ambiguous: 03/04/2025 is March in one country and April in another.

Start with the hyphen and add others only when your text has them.
"""
LONG_ANSWER = (
    "The Douro valley is about an hour and a half from Porto by train, and the ride along the"
    " river is half of the pleasure. Get off at **Pinhão**, where the station is covered with"
    " blue tiles of the harvest.\n\n"
    "For a single day I would plan it like this:\n\n"
    "- **Morning:** the first train from São Bento, on the right-hand side for the view.\n"
    "- **Noon:** lunch by the river, then a walk up to one of the terraced vineyards.\n"
    "- **Afternoon:** a tasting, and the late train back before"
)
OLDER = (
    ("Trip to Porto in spring", 0),
    ("Explain KV cache like I am twelve", 1),
    ("Rewrite this cover letter", 1),
    ("Regex for dates", 3),
    ("What to cook with fennel", 5),
    ("Shell script that renames photos", 12),
)


def fill(store: Store, path: Path) -> int:
    """Store a few days of conversations; returns the id of the one with code and a table."""
    for title, days in OLDER:
        prompt = store.start_conversation(title)
        answer = store.begin_answer(prompt, MODEL_NAME)
        store.end_answer(answer.id, "A short answer.", Status.COMPLETE, _stats(62))
        _age(path, prompt.conversation_id, days)
    prompt = store.start_conversation(QUESTION)
    answer = store.begin_answer(prompt, MODEL_NAME)
    answer = store.end_answer(answer.id, ANSWER, Status.COMPLETE, _stats(231))
    prompt = store.add_prompt(prompt.conversation_id, answer.id, SECOND_QUESTION)
    answer = store.begin_answer(prompt, MODEL_NAME)
    store.end_answer(answer.id, SECOND_ANSWER, Status.COMPLETE, _stats(148))
    return prompt.conversation_id


def _stats(n_tokens: int) -> AnswerStats:
    return AnswerStats(
        prompt_tokens=412,
        prompt_tokens_evaluated=38,
        prompt_tokens_per_second=310.0,
        time_to_first_token_seconds=0.4,
        generation_tokens=n_tokens,
        generation_tokens_per_second=21.4,
        finish_reason="stop",
        n_ctx=16_384,
        n_ctx_used=412 + n_tokens,
        seed=7,
    )


def _age(path: Path, conversation_id: int, days: int) -> None:
    """Move a conversation into the past; the store itself only knows now."""
    with sqlite3.connect(path) as db:
        db.execute(
            "UPDATE conversations SET created_at = created_at - ?, updated_at = updated_at - ?"
            " WHERE id = ?",
            (days * DAY_S, days * DAY_S, conversation_id),
        )
    db.close()


class Actor(QObject):
    """Stands in for a worker: loads as far as it is told and speaks a word every few milliseconds.

    `load_fraction` below 1 stays loading; `error` is how every answer ends.
    """

    def __init__(
        self, path: Path, text: str, load_fraction: float = 1.0, error: EngineError | None = None
    ) -> None:
        super().__init__()
        self._path = path
        self._words = text.split(" ")
        self._load_fraction = load_fraction
        self._error = error
        self._n_said = 0
        self._listener: Callable[[Stepped | Outcome], None] = lambda _event: None
        self._on_exit: Callable[[EngineError | None], None] = lambda _reason: None
        self._speaking = QTimer(self, interval=30)
        self._speaking.timeout.connect(self._say)
        # An error is told as the end of a worker: by then its process is gone.
        self.is_alive = error is None

    def run(self, job: Any, listener: Callable[[Stepped | Outcome], None]) -> Actor:
        self._listener = listener
        if isinstance(job, Load):
            self._load()
        elif self._error:
            listener(Failed(self._error))
        else:
            listener(Stepped(Progress("Reading the prompt", 1964, 1964, "tokens")))
            self._speaking.start()
        return self

    def _load(self) -> None:
        if self._load_fraction < 1:
            done = round(self._load_fraction * 4_900_000_000)
            self._listener(Stepped(Progress("Loading the model", done, 4_900_000_000, "bytes")))
            return
        info = ModelInfo(
            path=str(self._path),
            name=MODEL_NAME,
            architecture="llama",
            type="Q4_K_M",
            n_params=8_030_261_248,
            size_bytes=4_920_000_000,
            n_ctx=16_384,
            n_ctx_train=131_072,
            n_vocab=128_256,
            has_chat_template=True,
            n_threads=8,
            device="CPU",
            load_seconds=2.1,
        )
        self._listener(Succeeded(info))

    def _say(self) -> None:
        if self._n_said < len(self._words):
            word = self._words[self._n_said] + " "
            self._n_said += 1
            self._listener(Stepped(Piece(word, self._n_said)))

    def cancel(self) -> None:
        self._speaking.stop()
        self._listener(Cancelled())

    def stop(self, *, wait: bool = True) -> None:
        self._speaking.stop()
        self._on_exit(None)

    def enter(self, on_exit: Callable[[EngineError | None], None]) -> Actor:
        """Take the place of `Worker.start`."""
        self._on_exit = on_exit
        self._n_said = 0
        return self


def described_8b() -> Described:
    """What the hub tells of a model with many types."""
    sizes = {"Q4_K_M": 5.03e9, "Q5_0": 5.72e9, "Q5_K_M": 5.85e9, "Q6_K": 6.73e9, "Q8_0": 8.71e9}
    name = "Qwen3-8B"
    files = tuple(HubFile(f"{name}-{label}.gguf", int(size), "") for label, size in sizes.items())
    repo_id = f"Qwen/{name}-GGUF"
    found = Found(repo_id, 120_000, 900, "2026-05-08", "apache-2.0", False, ("gguf",), 0)
    card = (
        "# Qwen3-8B-GGUF\n\nSeamless switching between **thinking mode** (for logic, math and"
        " coding) and non-thinking mode. Context of 32,768 tokens.\n\n- 36 layers\n- 8.2 billion"
        " parameters\n"
    )
    here = {files[0].name: Here(f"/models/{files[0].name}")}
    return Described(Repo(found, "0" * 40, files), card, f"https://huggingface.co/{repo_id}", here)
