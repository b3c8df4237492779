"""Blocks of Markdown: what they hold, that streaming changes nothing, that hostility is cheap."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.chat.markdown import (
    MAX_BLOCK_CHARS,
    Block,
    Code,
    MarkdownStream,
    Prose,
    Quote,
    Reasoning,
    Rule,
    Table,
    blocks_of,
    is_openable,
    split_reasoning,
)


def test_prose() -> None:
    assert blocks_of("# Head\none *two* **three** ~~four~~ `fi<ve`\nsix") == (
        Prose('<p class="h1">Head</p>'),
        Prose(
            "<p>one <em>two</em> <strong>three</strong> <s>four</s>"
            " <code>fi&lt;ve</code><br/>six</p>"
        ),
    )


def test_raw_html_is_text() -> None:
    (block,) = blocks_of("<img src=x onerror=y> <b>no</b> &lt;")
    assert block == Prose("<p>&lt;img src=x onerror=y&gt; &lt;b&gt;no&lt;/b&gt; &lt;</p>")
    (block,) = blocks_of("<script>\nalert(1)\n</script>")
    assert isinstance(block, Prose)
    assert "<script" not in block.html


def test_an_image_is_its_description() -> None:
    assert blocks_of("![a cat](https://x.org/a.png) ![](http://x.org) ![b](file:///c)") == (
        Prose("<p>[a cat] [image] ![b](file:///c)</p>"),
    )


def test_links_keep_only_targets_that_may_be_opened() -> None:
    assert blocks_of("[a](https://x.org/?q=1&r) [b](file:///etc) <mailto:a@b.c> [c](//x)") == (
        Prose(
            '<p><a href="https://x.org/?q=1&amp;r">a</a> [b](file:///etc)'
            ' <a href="mailto:a@b.c">mailto:a@b.c</a> [c](//x)</p>'
        ),
    )


@pytest.mark.parametrize(
    ("url", "is_open"),
    [
        ("https://x.org", True),
        ("http://x.org/a", True),
        ("mailto:a@b.c", True),
        ("javascript:alert(1)", False),
        ("file:///etc/passwd", False),
        ("smb://host/share", False),
        ("//host/share", False),
        ("https:", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_what_may_be_opened(url: str, is_open: bool) -> None:
    assert is_openable(url) is is_open


def test_code() -> None:
    assert blocks_of("```python title=x\n  a\n\n```\nafter\n\n    old\n") == (
        Code("python", "  a\n", True),
        Prose("<p>after</p>"),
        Code("", "old", True),
    )
    assert blocks_of("~~~\nopen") == (Code("", "open", False),)


def test_code_breaks_a_list_and_its_numbers_go_on() -> None:
    assert blocks_of("1. one\n2. two\n   ```sh\n   ls\n   ```\n3. three") == (
        Prose('<ol start="1"><li>one</li><li>two</li></ol>'),
        Code("sh", "ls", True, 1),
        Prose('<ol start="3"><li>three</li></ol>'),
    )


def test_an_empty_reference_and_task_boxes() -> None:
    assert blocks_of("[1]: http://x.org\n\n- [x] done\n- [ ] open") == (
        Prose("<p>[1]: http://x.org</p>"),
        Prose("<ul><li>☑ done</li><li>☐ open</li></ul>"),
    )


def test_table_quote_and_rule() -> None:
    assert blocks_of("|a|b|\n|-|-:|\n|*1*|2|\n\n> quoted\n> ```\n> x\n> ```\n\n---") == (
        Table((("a", "b"), ("<em>1</em>", "2")), ("left", "right")),
        Quote((Prose("<p>quoted</p>"), Code("", "x", True))),
        Rule(),
    )


def test_reasoning_is_apart_from_the_answer() -> None:
    assert blocks_of("<think>\nhm, *a*\n</think>\n\nYes.") == (
        Reasoning("hm, *a*", True),
        Prose("<p>Yes.</p>"),
    )
    assert blocks_of("<think>\nhm") == (Reasoning("hm", False),)
    assert blocks_of("<think>\n\n</think>\n\nYes.") == (Prose("<p>Yes.</p>"),)
    assert blocks_of("hm\n</think>\nYes.") == (Reasoning("hm", True), Prose("<p>Yes.</p>"))
    assert split_reasoning("the tag `</think>` ends it") == (None, True, 0)


LINES = ("\n", "\n\n", "\r\n", "\n</think>\n", "```py\n", "|\n", "|-|-|\n", " ", "    ", "\t")
MARKS = ("```", "~~~~", "- ", "1. ", "> ", "| a ", "# ", "===", "---", "***", "*", "_", "`", "~~")
OTHER = ("[a](", "http://b.c)", "[x]: y", "<think>", "</think>", "<b>", "word", "é", "\\", "!")
ODD = ("\0", "\u2028", "\x0b")
PARTS = st.sampled_from((*LINES, *MARKS, *OTHER, *ODD))
TEXTS = st.lists(PARTS | st.text(max_size=5), max_size=40).map("".join)


def streamed(text: str, cuts: list[int]) -> tuple[Block, ...]:
    stream = MarkdownStream()
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    for start, end in itertools.pairwise(edges):
        stream.feed(text[start:end])
    return stream.blocks


@settings(max_examples=400, deadline=None)
@given(TEXTS, st.lists(st.integers(min_value=0, max_value=300), max_size=20))
@example("  ```\n\tx\n  ```\nz", [3, 9, 12])
@example("foo\n***\n***bold***\n", [5, 6, 7, 8, 9])
def test_any_cut_gives_the_blocks_of_the_whole(text: str, cuts: list[int]) -> None:
    assert streamed(text, cuts) == blocks_of(text)


@settings(max_examples=150, deadline=None)
@given(TEXTS)
def test_one_character_at_a_time_gives_the_blocks_of_the_whole(text: str) -> None:
    assert streamed(text, list(range(len(text)))) == blocks_of(text)


LONG = (
    "word " * 8000,
    "a\n" * 10_000,
    "- item\n" * 5000,
    "```\n" + "x = 1\n" * 6000,
    "x" * 40_000,
    "> q\n" * 9000,
    "|a|b|\n|-|-|\n" + "|1|2|\n" * 6000,
    "\n" * 40_000,
)


@pytest.mark.parametrize("text", LONG, ids=range(len(LONG)))
def test_long_texts_are_cut_alike_however_they_come(text: str) -> None:
    step = 7001
    assert streamed(text, list(range(0, len(text), step))) == blocks_of(text)


HOSTILE = {
    "line": "a" * 1_000_000,
    "brackets": "[" * 200_000,
    "images": "![a" * 70_000,
    "stars": "*a **a " * 30_000,
    "quotes": ">" * 200_000,
    "deep list": "".join("  " * depth + "- a\n" for depth in range(600)),
    "wide table": "|" * 50_000 + "\n" + "|-" * 50_000 + "\n",
    "ticks": "".join("`" * n + " " for n in range(600)),
    "code": "```\n" + "x" * 1_000_000,
    "links": "[a](<b" * 30_000,
    "entities": "&" * 200_000,
    "think": "<think>" * 30_000,
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_costs_in_proportion_to_its_length(kind: str) -> None:
    text = HOSTILE[kind]
    start = time.process_time()
    blocks_of(text[: len(text) // 4])
    quarter = time.process_time() - start
    start = time.process_time()
    blocks_of(text)
    # Quadratic work would give 16.
    assert time.process_time() - start < 9 * quarter + 0.5


def test_blocks_are_bounded() -> None:
    for block in blocks_of("word " * 20_000):
        assert isinstance(block, Prose)
        assert len(block.html) <= MAX_BLOCK_CHARS + 100
