"""The texts that a model is calibrated on, as chunks of its tokens.

A file of the suffix .jsonl holds conversations, one a line: `{"messages": [{"role": ..., "content":
...}, ...]}`. They are written as the model's own chat template has it. One of .tokens
is a JSON list of this model's tokens. All else is plain text.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import msgspec

from engine.chat import ChatTemplate, Message, plain_text
from engine.errors import FormatError, InferenceError, TemplateError
from engine.files import read_error
from engine.gguf_header import MAGIC
from engine.llama.model import Vocabulary

log = logging.getLogger(__name__)

BUNDLED = Path(__file__).resolve().parents[2] / "resources" / "calibration"
CONVERSATIONS = ".jsonl"
TOKENS = ".tokens"


class Conversation(msgspec.Struct, frozen=True):
    messages: tuple[Message, ...]


def bundled_texts() -> tuple[str, ...]:
    """The texts that come with Snug."""
    return tuple(str(path) for path in sorted(BUNDLED.iterdir()) if path.suffix != ".md")


def read_bytes(path: Path) -> bytes:
    """The content of a text; raises NotFound, StorageError, FormatError for what is none."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise read_error(error, path) from error
    if data.startswith(MAGIC):
        raise FormatError(
            f"{path.name} is a GGUF file and no text.",
            hint="Choose a text. Statistics, or an importance matrix, are given with --statistics.",
        )
    if b"\0" in data:
        raise FormatError(
            f"{path.name} is no text: it holds what no text has.",
            hint="Choose a text, and one in UTF-8. Statistics are given with --statistics.",
        )
    return data


def split(
    texts: Sequence[Path],
    vocabulary: Vocabulary,
    template: str | None,
    n_ctx: int,
    n_wanted: int = 0,
) -> list[list[int]]:
    """Return `n_wanted` chunks of `n_ctx` tokens, 0 = all; those of several texts alternate.

    They do so in proportion: the first few chunks are of all texts. Only what a model wrote itself
    (.tokens) comes whole, however long the others are, as long as it is less than half. Chunks of
    one plain text are llama-imatrix's. What is left of each text makes chunks together. Raises
    NotFound, StorageError, FormatError for a line that is no conversation, InferenceError for texts
    that are too short.
    """
    chunks: list[tuple[float, list[int]]] = []
    rest: list[int] = []
    read = [(path, _tokens(path, vocabulary, template)) for path in texts]
    n_of = {path: len(tokens) // n_ctx for path, tokens in read}
    n_own = sum(n for path, n in n_of.items() if path.suffix.lower() == TOKENS)
    n_others = sum(n_of.values()) - n_own
    own_places = 1.0  # in which part of all chunks they lie
    if 2 * n_own < n_wanted < n_own + n_others:
        own_places = (n_wanted - n_own) / n_others
    for path, tokens in read:
        n = n_of[path]
        places = (own_places if path.suffix.lower() == TOKENS else 1.0) / max(1, n)
        chunks += [((i + 0.5) * places, tokens[i * n_ctx : (i + 1) * n_ctx]) for i in range(n)]
        rest += tokens[n * n_ctx :]
    if len(texts) > 1:
        chunks += [(1, rest[i : i + n_ctx]) for i in range(0, len(rest) - n_ctx + 1, n_ctx)]
    if not chunks:
        raise InferenceError(
            f"The text is too short to calibrate with: {len(rest):,} tokens, and one chunk takes "
            f"{n_ctx:,}.",
            hint="Choose a longer text, or the one that comes with Snug.",
        )
    chunks.sort(key=lambda chunk: chunk[0])
    return [chunk for _, chunk in chunks[: n_wanted or None]]


def _tokens(path: Path, vocabulary: Vocabulary, template: str | None) -> list[int]:
    data = read_bytes(path)
    if path.suffix.lower() == TOKENS:
        return _as_tokens(data, vocabulary, path.name)
    if path.suffix.lower() != CONVERSATIONS:
        return vocabulary.tokenize(data.decode("utf-8", "replace"), special=False)
    tokens = []
    write = _Writer(vocabulary, template)
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            try:
                conversation = msgspec.json.decode(line, type=Conversation)
            except (msgspec.DecodeError, RecursionError) as error:
                raise FormatError(
                    f"Line {number} of {path.name} is no conversation.",
                    hint='Each line is {"messages": [{"role": "user", "content": "..."}, ...]}.',
                    details=str(error),
                ) from error
            tokens += write.tokens(conversation.messages)
    return tokens


def _as_tokens(data: bytes, vocabulary: Vocabulary, name: str) -> list[int]:
    try:
        tokens = msgspec.json.decode(data, type=list[int])
    except (msgspec.DecodeError, RecursionError) as error:
        raise FormatError(f"{name} holds no list of tokens.", details=str(error)) from error
    if tokens and not 0 <= min(tokens) <= max(tokens) < vocabulary.n_tokens:
        raise FormatError(f"{name} holds tokens that this model does not have.")
    return tokens


class _Writer:
    """Writes conversations as the model has read them in training."""

    def __init__(self, vocabulary: Vocabulary, template: str | None) -> None:
        self._vocabulary = vocabulary
        self._template: ChatTemplate | None = None
        try:
            self._template = ChatTemplate(template) if template else None
        except TemplateError as error:
            log.info("conversations as plain text: %s", error)

    def tokens(self, messages: Sequence[Message]) -> list[int]:
        """A template that refuses a conversation does without: it is plain text then."""
        vocabulary = self._vocabulary
        bos, eos = (vocabulary.text_of(token) for token in (vocabulary.bos, vocabulary.eos))
        if self._template:
            try:
                text = self._template.render(messages, bos, eos, add_generation_prompt=False)
                return vocabulary.tokenize(text)
            except TemplateError as error:
                log.info("a conversation as plain text: %s", error)
        return vocabulary.tokenize(plain_text(messages) + "\n\n", special=False)
