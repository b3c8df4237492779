"""The window tells of a newer version to who wants to be told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtGui import QDesktopServices
from pytestqt.qtbot import QtBot

from app.context import AppContext
from app.updates import UpdateCard, Updates
from app.window import Window
from tests.helpers.clicks import click
from tests.helpers.update_feed import Feed, update_feed

WAIT_MS = 20_000


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Feed]:
    with update_feed(tmp_path) as made:
        yield made


@pytest.fixture
def context(context: AppContext, feed: Feed) -> AppContext:
    context.__dict__["updates"] = Updates(context, context, feed.address)
    return context


def cards(window: Window) -> list[UpdateCard]:
    return [card for card in window.findChildren(UpdateCard) if card.isVisible()]


def test_nothing_is_asked_until_it_is_agreed_to(qtbot: QtBot, window: Window, feed: Feed) -> None:
    feed.tell("9.0.0")
    window.context.updates.look()
    qtbot.wait(200)
    assert feed.n_asked == 0 and not cards(window)


def test_who_agrees_is_told_and_can_say_not_now(
    qtbot: QtBot, window: Window, feed: Feed, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed.tell("9.0.0", "Answers begin <b>sooner</b>.")
    window.show_page("settings")
    click(qtbot, window.page("settings").network.updates_control, "On")
    qtbot.waitUntil(lambda: bool(cards(window)), timeout=WAIT_MS)
    (card,) = cards(window)
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toString()))
    click(qtbot, card, "See what is new")
    assert opened == ["https://snug.invalid/new"]
    click(qtbot, card, "Not now")
    assert not cards(window)
    assert window.context.settings.value.dismissed_update == "9.0.0"

    window.context.updates.look(at_once=True)
    qtbot.waitUntil(lambda: feed.n_asked == 2, timeout=WAIT_MS)
    qtbot.waitUntil(lambda: window.context.updates._task is None, timeout=WAIT_MS)
    assert not cards(window)
    feed.tell("9.0.1")
    window.context.updates.look(at_once=True)
    qtbot.waitUntil(lambda: bool(cards(window)), timeout=WAIT_MS)


def test_the_setting_tells_what_came_of_a_look(qtbot: QtBot, window: Window, feed: Feed) -> None:
    window.show_page("settings")
    words: list[str] = []
    window.context.updates.told.connect(words.append)
    feed.tell("0.0.1")
    click(qtbot, window.page("settings").network.updates_control, "On")
    qtbot.waitUntil(lambda: words == ["You have the newest version."], timeout=WAIT_MS)
    feed.status = 503
    window.context.updates.look(at_once=True)
    qtbot.waitUntil(lambda: "did not tell" in words[-1], timeout=WAIT_MS)
    window.context.settings.update(is_offline=True)
    window.context.updates.look(at_once=True)
    assert "Offline" in words[-1] and not cards(window)
