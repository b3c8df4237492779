"""Chat templates: seventy real ones, and hostile ones that must fail quickly and harmlessly."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from engine.chat import MAX_TEMPLATE_CHARS, ChatTemplate, Message, plain_text, render
from engine.errors import TemplateError

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TALK = (
    Message("system", "Be kind."),
    Message("user", "Hello <b> & 'you'"),
    Message("assistant", "Hi there"),
    Message("user", "More, please"),
)


def test_renders_as_the_template_says() -> None:
    assert render(CHATML, TALK[:2], "<s>", "</s>") == (
        "<|im_start|>system\nBe kind.<|im_end|>\n"
        "<|im_start|>user\nHello <b> & 'you'<|im_end|>\n<|im_start|>assistant\n"
    )
    assert render(CHATML, TALK[3:], "", "", False).endswith("More, please<|im_end|>\n")


def test_blocks_are_trimmed_and_loops_can_be_left() -> None:
    template = """
    {%- for m in messages %}
        {%- if loop.index0 == 1 %}{% break %}{% endif %}
    {{ bos_token }}{{ m.content | tojson }}
    {%- endfor %}"""
    assert render(template, TALK[1:], "<s>", "") == "    <s>\"Hello <b> & 'you'\""


def test_training_marks_change_nothing() -> None:
    assert render("{% generation %}{{ eos_token }}{% endgeneration %}", (), "", "</s>") == "</s>"


def test_knows_the_date() -> None:
    assert render("{{ strftime_now('%Y') }}", (), "", "") >= "2024"


@pytest.mark.parametrize("talk", [TALK[1:2], TALK[:2], TALK[1:], TALK], ids=len)
def test_every_real_template_renders(shared: Path, talk: tuple[Message, ...]) -> None:
    """All of seventy published templates; one is made for calling functions and wants some."""
    refused = []
    paths = sorted((shared / "templates").glob("*.jinja"))
    for path in paths:
        template = path.read_text(encoding="utf-8")
        try:
            text = render(template, talk, "<s>", "</s>")
        except TemplateError:
            refused.append(path.stem)
            continue
        for message in talk:
            if message.role == "user":
                assert message.content in text, path.name
    assert len(paths) >= 70
    assert refused == ["fireworks-ai-llama-3-firefunction-v2"]


def test_system_message_moves_where_a_template_knows_none() -> None:
    template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"
    )
    assert render(template, TALK[:2], "", "") == "[user] Be kind.\n\nHello <b> & 'you'"


def test_refusal_is_told_in_the_templates_own_words() -> None:
    with pytest.raises(TemplateError, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}", TALK, "", "")


@pytest.mark.parametrize(
    "template",
    [
        "{% if",
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ 'a' * 10000000000 }}",
        "{{ [0] * 10000000000 }}",
        "{{ 10 ** 10 ** 10 }}",
        "{{ 1 / 0 }}",
        "{{ nothing.here.at_all }}",
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}",
        "{{ '[' * 100000 }}" * 500,
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "x" * (MAX_TEMPLATE_CHARS + 1),
    ],
    ids=lambda template: template[:40],
)
def test_hostile_template_fails_as_a_sentence(template: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(template, TALK, "", "")
    assert caught.value.message.endswith(".")
    assert caught.value.hint


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    ],
    ids=["loops", "macros"],
)
def test_endless_template_is_stopped(template: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.chat.MAX_RENDER_S", 0.1)
    with pytest.raises(TemplateError):
        render(template, TALK, "", "")


def test_one_render_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.chat.MAX_RENDER_S", 0.05)
    template = ChatTemplate(CHATML)
    template.render(TALK, "", "")
    time.sleep(0.06)
    assert template.render(TALK, "", "")


def test_plain_text_continues_an_answer_and_starts_a_line_for_the_rest() -> None:
    talk = (
        Message("user", "Once upon a time"),
        Message("assistant", " there was a cat."),
        Message("user", "It"),
    )
    assert plain_text(talk) == "Once upon a time there was a cat.\nIt"
    assert plain_text(()) == ""
