"""The page that a newcomer sees: what this computer can do, and two ways to a model."""

from __future__ import annotations

import msgspec
import pytest
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from app.chat.greeting import SUGGESTIONS, Greeting
from engine import starter
from engine.hardware import Computer, Cpu
from tests.helpers.clicks import click

GIB = 2**30
COMPUTER = Computer(16 * GIB, 12 * GIB, Cpu("Ryzen 7", 8, 16, ()))


@pytest.fixture
def greeting(qtbot: QtBot) -> Greeting:
    greeting = Greeting()
    qtbot.addWidget(greeting)
    greeting.show_model("")
    with qtbot.waitExposed(greeting):
        greeting.show()
    return greeting


def words(greeting: Greeting) -> str:
    shown = greeting.currentWidget()
    assert shown
    labels = shown.findChildren(QLabel)
    return " ".join(label.text() for label in labels)


def test_it_says_what_this_computer_runs(greeting: Greeting) -> None:
    greeting.show_computer(COMPUTER)
    assert "16 GB memory" in words(greeting) and "17B parameters" in words(greeting)
    greeting.show_computer(msgspec.structs.replace(COMPUTER, memory_available_bytes=GIB))
    assert "close other programs" in words(greeting)


def test_two_ways_to_a_model(qtbot: QtBot, greeting: Greeting) -> None:
    assert "toy" in words(greeting) and "Hugging Face hub" in words(greeting)
    with qtbot.waitSignal(greeting.starter_requested):
        click(qtbot, greeting, "Try the starter")
    with qtbot.waitSignal(greeting.discover_requested):
        click(qtbot, greeting, "Find a model")


def test_the_starter_says_that_it_is_a_toy_and_what_to_ask(
    qtbot: QtBot, greeting: Greeting
) -> None:
    greeting.show_model(str(starter.MODEL))
    assert "toy" in words(greeting) and "Models page" in words(greeting)
    for suggestion in SUGGESTIONS:
        with qtbot.waitSignal(greeting.suggested) as asked:
            click(qtbot, greeting, suggestion)
        assert asked.args == [suggestion]
    greeting.show_model("/models/real.gguf")
    assert "What can I help with?" in words(greeting)
    greeting.show_model(str(starter.MODEL))
    assert "toy" in words(greeting)
