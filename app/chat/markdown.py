"""Markdown of a model as a list of blocks, whole or as it streams in. Pure: no Qt.

Nothing of what a model writes reaches the screen as HTML of its own: raw HTML is text, an image is
its description, a link keeps its target only if that is http, https or mailto.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec
from markdown_it import MarkdownIt
from markdown_it.token import Token

# A top-level block is cut when it grows beyond this, so that a parse always has a bound.
MAX_BLOCK_CHARS = 16_384
# Emphasis and links take quadratic time in the length of one paragraph: above this it is plain.
MAX_INLINE_CHARS = 4_096
# Long lists and tables come in pieces, so that an update replaces only the last piece.
MAX_PIECE = 20
LINK_SCHEMES = ("http", "https", "mailto")
OPEN_TAG, CLOSE_TAG = "<think>", "</think>"


class Prose(msgspec.Struct, frozen=True):
    """Paragraphs, headings and lists, as HTML of our own making; `indent` counts list levels."""

    html: str
    indent: int = 0


class Code(msgspec.Struct, frozen=True):
    language: str
    text: str
    is_closed: bool
    indent: int = 0


class Table(msgspec.Struct, frozen=True):
    """`rows` of cells as HTML, the first one the header; `aligns` are left, center or right."""

    rows: tuple[tuple[str, ...], ...]
    aligns: tuple[str, ...]
    indent: int = 0


class Quote(msgspec.Struct, frozen=True):
    blocks: tuple[Block, ...]
    indent: int = 0


class Rule(msgspec.Struct, frozen=True):
    indent: int = 0


class Reasoning(msgspec.Struct, frozen=True):
    """What the model thought before it answered, between `<think>` and `</think>`."""

    text: str
    is_closed: bool


Block = Prose | Code | Table | Quote | Rule | Reasoning


def blocks_of(text: str) -> tuple[Block, ...]:
    """Parse a whole text."""
    stream = MarkdownStream()
    stream.feed(text)
    return stream.blocks


def split_reasoning(text: str) -> tuple[str | None, bool, int]:
    """Find the reasoning at the head of `text`: (reasoning, is it closed, where the answer starts).

    Some templates open the tag in the prompt: then a first `</think>` on a line of its own ends it.
    """
    start = len(text) - len(text.lstrip())
    if text.startswith(OPEN_TAG, start):
        start += len(OPEN_TAG)
        end = text.find(CLOSE_TAG, start)
        if end < 0:
            return text[start:].strip(), False, len(text)
        return text[start:end].strip(), True, end + len(CLOSE_TAG)
    end = text.find(CLOSE_TAG)
    is_alone = end >= 0 and not text[text.rfind("\n", 0, end) + 1 : end].strip()
    if is_alone and "```" not in text[:end]:
        return text[:end].strip(), True, end + len(CLOSE_TAG)
    return None, True, 0


class MarkdownStream:
    """The blocks of a text that arrives in pieces; any cut into pieces gives the same blocks."""

    def __init__(self) -> None:
        self.text = ""
        self._body = _Body()
        self._body_start = 0
        self._reasoning: Reasoning | None = None

    def feed(self, text: str) -> None:
        # A carriage return could be cut from its line feed; no model means one alone.
        text = text.replace("\r", "").replace("\0", "\N{REPLACEMENT CHARACTER}")
        fed = len(self.text)
        self.text += text
        reasoning, is_closed, start = split_reasoning(self.text)
        self._reasoning = Reasoning(reasoning, is_closed) if reasoning is not None else None
        if start != self._body_start:
            self._body, self._body_start, fed = _Body(), start, start
        self._body.feed(self.text[max(fed, start) :])

    @property
    def blocks(self) -> tuple[Block, ...]:
        head = (self._reasoning,) if self._reasoning and self._reasoning.text else ()
        return (*head, *self._body.blocks)


class _Fence:
    """A code fence that is still open: read line by line, never parsed again."""

    def __init__(self, opening: str) -> None:
        self._indent = len(opening) - len(opening.lstrip(" "))
        stripped = opening.strip()
        self._marker = re.match(r"`+|~+", stripped)[0]  # type: ignore[index]
        self._language = _language(stripped[len(self._marker) :])
        self._closing = re.compile(rf" {{0,3}}{self._marker}{self._marker[0]}*[ \t]*")
        self._content: list[str] = []

    def takes(self, line: str) -> bool:
        """Add a line; False when it was the closing one."""
        if self._closing.fullmatch(line.removesuffix("\n")):
            return False
        self._content.append(_dedent(line, self._indent))
        return True

    def code(self, partial_line: str, is_closed: bool) -> Code:
        if not is_closed and self._closing.fullmatch(partial_line):
            partial_line, is_closed = "", True
        text = "".join(self._content) + _dedent(partial_line, self._indent)
        return Code(self._language, text.removesuffix("\n"), is_closed)


class _Body:
    """Finished blocks, and the rest of the text from the last block on that may still change.

    A block of CommonMark never changes once a later line has begun another one at top level; only
    reference definitions could reach back, and they are off.
    """

    def __init__(self) -> None:
        self._finished: list[Block] = []
        self._rest = ""
        self._fence: _Fence | None = None
        self._open: tuple[Block, ...] = ()

    @property
    def blocks(self) -> tuple[Block, ...]:
        return (*self._finished, *self._open)

    def feed(self, text: str) -> None:
        self._rest += text
        if "\n" in text or len(self._rest) >= MAX_BLOCK_CHARS:
            while self._finish_some():
                pass
        if self._fence:
            self._open = (self._fence.code(self._rest, is_closed=False),)
        else:
            self._open = tuple(block for group in _parse(self._rest) for block in group.blocks)

    def _finish_some(self) -> bool:
        """Move what can no longer change from the rest to the finished blocks."""
        if self._fence:
            return self._finish_fence(self._fence)
        window = self._rest[:MAX_BLOCK_CHARS]
        is_full = len(window) == MAX_BLOCK_CHARS
        end = window.rfind("\n") + 1  # only whole lines: the last one may still become another
        if end == 0 and is_full:
            end = MAX_BLOCK_CHARS
        lines = re.findall(r"[^\n]*\n|[^\n]+", window[:end])
        groups = _parse(window[:end])
        if not groups:
            self._rest = self._rest[end:] if is_full else self._rest
            return is_full
        last = groups[-1]
        last_start = sum(map(len, lines[: last.line]))
        for group in groups[:-1]:
            self._finished += group.blocks
        if last.is_open_fence:
            opening = lines[last.line]
            self._fence = _Fence(opening.removesuffix("\n"))
            self._rest = self._rest[last_start + len(opening) :]
            return True
        if last_start == 0 and is_full:
            self._finished += last.blocks
            last_start = end
        self._rest = self._rest[last_start:]
        return last_start > 0

    def _finish_fence(self, fence: _Fence) -> bool:
        *whole, partial = self._rest.split("\n")
        for number, line in enumerate(whole):
            if not fence.takes(line + "\n"):
                self._finished.append(fence.code("", is_closed=True))
                self._fence = None
                self._rest = "\n".join([*whole[number + 1 :], partial])
                return True
        self._rest = partial
        return False


def _dedent(line: str, indent: int) -> str:
    """Take up to `indent` columns of white space from the head of a line, tabs to 4 columns."""
    column = 0
    for position, character in enumerate(line):
        if column >= indent or character not in " \t":
            return " " * (column - indent) + line[position:]
        column += 4 - column % 4 if character == "\t" else 1
    return " " * max(0, column - indent)


class _Markdown(MarkdownIt):
    """A link or image that may not be opened stays as it was written, target in sight."""

    def validateLink(self, url: str) -> bool:
        return is_openable(url)


_markdown = _Markdown("commonmark", {"html": False}).enable(["table", "strikethrough"])
_markdown.disable(["reference", "html_block", "html_inline"])
_markdown.core.ruler.disable("inline")  # done below, with a bound


class _Group(NamedTuple):
    """A top-level element: the line it starts on and its blocks (several for a long list)."""

    line: int
    blocks: list[Block]
    is_open_fence: bool


def _parse(text: str) -> list[_Group]:
    env: dict[str, object] = {}
    tokens = _markdown.parse(text, env)
    for token in tokens:
        if token.type == "inline":
            token.children = []
            if len(token.content) <= MAX_INLINE_CHARS:
                _markdown.inline.parse(token.content, _markdown, env, token.children)
            else:
                token.children.append(Token("text", "", 0, content=token.content))
    groups = []
    for group in _groups(tokens):
        blocks = list(_blocks(group, 0))
        is_open_fence = group[0].type == "fence" and not _code(group[0], 0).is_closed
        assert group[0].map is not None
        groups.append(_Group(group[0].map[0], blocks, is_open_fence))
    return groups


def _groups(tokens: Sequence[Token]) -> Iterator[Sequence[Token]]:
    """Cut tokens into the runs that open and close one element."""
    start = depth = 0
    for position, token in enumerate(tokens):
        depth += token.nesting
        if depth == 0:
            yield tokens[start : position + 1]
            start = position + 1


def _blocks(group: Sequence[Token], indent: int) -> Iterator[Block]:
    """The blocks of one element and all that is in it."""
    head = group[0]
    if head.type in ("fence", "code_block"):
        yield _code(head, indent)
    elif head.type == "hr":
        yield Rule(indent)
    elif head.type == "table_open":
        yield from _tables(group, indent)
    elif head.type == "blockquote_open":
        inner = [block for part in _groups(group[1:-1]) for block in _blocks(part, 0)]
        yield Quote(tuple(inner), indent)
    elif head.type in ("bullet_list_open", "ordered_list_open"):
        yield from _list(group, indent)
    else:
        yield Prose(_html(group), indent)


def _code(token: Token, indent: int) -> Code:
    assert token.map is not None
    text = token.content
    n_lines = text.count("\n") + (not text.endswith("\n") and text != "")
    is_closed = token.type == "code_block" or token.map[1] - token.map[0] == n_lines + 2
    return Code(_language(token.info), text.removesuffix("\n"), is_closed, indent)


def _language(info: str) -> str:
    return info.strip().split(" ")[0].split("\t")[0].strip("{}.")[:40]


def _tables(group: Sequence[Token], indent: int) -> Iterator[Table]:
    rows: list[tuple[str, ...]] = []
    aligns: list[str] = []
    cells: list[str] = []
    for token in group:
        if token.type == "inline":
            cells.append(_inline(token))
        elif token.type == "th_open":
            style = str(token.attrs.get("style", ""))
            aligns.append(style.partition("text-align:")[2] or "left")
        elif token.type == "tr_close":
            rows.append(tuple(cells))
            cells = []
    header, *body = rows
    for start in range(0, max(1, len(body)), MAX_PIECE):
        piece = body[start : start + MAX_PIECE]
        yield Table((header, *piece) if start == 0 else tuple(piece), tuple(aligns), indent)


def _list(group: Sequence[Token], indent: int) -> Iterator[Block]:
    """A list as prose; an item with code, a table or a quote in it breaks the list up."""
    head = group[0]
    tag = head.tag
    number = int(head.attrs.get("start", 1)) if tag == "ol" else 1
    waiting: list[str] = []

    def prose() -> Prose:
        start = f' start="{number - len(waiting)}"' if tag == "ol" else ""
        return Prose(f"<{tag}{start}>{''.join(waiting)}</{tag}>", indent)

    for item in _groups(group[1:-1]):
        parts = list(_groups(item[1:-1]))
        n_simple = next((n for n, part in enumerate(parts) if _is_rich(part)), len(parts))
        waiting.append(f"<li>{''.join(_html(part) for part in parts[:n_simple])}</li>")
        number += 1
        if n_simple < len(parts) or len(waiting) == MAX_PIECE:
            yield prose()
            waiting = []
        for part in parts[n_simple:]:
            yield from _blocks(part, indent + 1)
    if waiting:
        yield prose()


def _is_rich(group: Sequence[Token]) -> bool:
    kinds = ("fence", "code_block", "table_open", "blockquote_open", "hr")
    return any(token.type in kinds for token in group)


def _html(tokens: Sequence[Token]) -> str:
    """HTML of paragraphs, headings and lists."""
    html: list[str] = []
    for token in tokens:
        if token.type == "inline":
            html.append(_inline(token))
        elif token.type == "ordered_list_open":
            html.append(f'<ol start="{int(token.attrs.get("start", 1))}">')
        elif token.type == "heading_open":
            html.append(f'<p class="{token.tag}">')  # Qt would enlarge an <h1> beyond its CSS
        elif token.type == "heading_close":
            html.append("</p>")
        elif not token.hidden:
            html.append(f"</{token.tag}>" if token.nesting < 0 else f"<{token.tag}>")
    return "".join(html)


def _inline(token: Token) -> str:
    """HTML of one run of text."""
    html: list[str] = []
    for child in token.children or []:
        if child.type in ("text", "text_special"):
            html.append(escape(child.content))
        elif child.type in ("softbreak", "hardbreak"):
            html.append("<br/>")  # a model that breaks a line means it
        elif child.type == "code_inline":
            html.append(f"<code>{escape(child.content)}</code>")
        elif child.type == "image":
            html.append(escape(f"[{child.content or 'image'}]"))
        elif child.type == "link_open":
            html.append(f'<a href="{escape(str(child.attrs["href"]))}">')
        else:
            html.append(f"</{child.tag}>" if child.nesting < 0 else f"<{child.tag}>")
    text = "".join(html)
    for mark, box in (("[ ] ", "☐ "), ("[x] ", "☑ "), ("[X] ", "☑ ")):
        if text.startswith(mark):
            return box + text.removeprefix(mark)
    return text


def is_openable(url: str) -> bool:
    """Whether a link of a model may be opened at all (after a click, and after asking)."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in LINK_SCHEMES and bool(parts.netloc or parts.scheme == "mailto")
