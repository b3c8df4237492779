"""Snug's main job in the window, with real clicks: pick a model, shrink it, chat with it."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, QPoint, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from app.chat.page import ChatPage
from app.chat.session import State
from app.context import AppContext
from app.models.page import ModelsPage
from app.shrink.page import ShrinkPage
from app.store import Status
from app.window import Window
from engine import starter
from tests.helpers.clicks import click

WAIT_MS = 60_000


@pytest.fixture
def window(qtbot: QtBot) -> Iterator[Window]:
    context = AppContext()
    # One thread: a tiny model gains nothing by two, and two on a busy machine wait for each other.
    context.settings.update(n_threads=1)
    window = Window(context)
    qtbot.addWidget(window)
    with qtbot.waitExposed(window):
        window.show()
    qtbot.waitUntil(lambda: window.current_page_name == "chat" and bool(window._pages))
    yield window
    window.close()


def drop(target: QWidget, path: Path) -> None:
    """Drag a file from outside over `target` and let it go there."""
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    at, left = QPoint(200, 200), Qt.MouseButton.LeftButton
    where = (Qt.DropAction.CopyAction, data, left, Qt.KeyboardModifier.NoModifier)
    QApplication.sendEvent(target, QDragEnterEvent(at, *where))
    QApplication.sendEvent(target, QDropEvent(at.toPointF(), *where))


def say(bot: QtBot, page: ChatPage, text: str) -> None:
    bot.keyClicks(page.composer.text, text)
    bot.keyClick(page.composer.text, Qt.Key.Key_Return)


def last_message(page: ChatPage) -> Any:
    return page.transcript.views[-1].message


def settled(page: ChatPage) -> bool:
    return page.session.state in (State.READY, State.CRASHED, State.NO_MODEL)


@pytest.mark.timeout(300)  # measured
def test_a_dropped_checkpoint_is_shrunk_and_talked_to(
    qtbot: QtBot, window: Window, tiny_checkpoint: Path
) -> None:
    click(qtbot, window, "Models")
    models: ModelsPage = window.page("models")
    drop(models, tiny_checkpoint)
    qtbot.waitUntil(lambda: len(models.shelf.rows) == 2, timeout=WAIT_MS)
    models.select(str(tiny_checkpoint))

    click(qtbot, models, "Shrink")
    shrink: ShrinkPage = window.page("shrink")
    qtbot.waitUntil(shrink.result.shrink_button.isVisible, timeout=WAIT_MS)
    out = shrink.result.out
    click(qtbot, shrink, "How much work: Quick")
    click(qtbot, shrink, "Shrink")
    qtbot.waitUntil(shrink.done.isVisible, timeout=5 * WAIT_MS)
    assert out.is_file() and not list(out.parent.glob("*.partial"))

    click(qtbot, shrink, "Chat with it")
    chat: ChatPage = window.page("chat")
    say(qtbot, chat, "Hello there")  # while it loads: it waits for the model
    qtbot.waitUntil(lambda: settled(chat) and len(chat.transcript.views) == 2, timeout=WAIT_MS)
    first = last_message(chat)
    assert first.status == Status.COMPLETE and first.content
    assert first.stats.generation_tokens > 0
    click(qtbot, window, "New chat")
    assert not chat.transcript.views
    listed = chat.panel.list
    assert listed.count() >= 1


def test_a_newcomer_without_a_network_chats_and_shrinks(qtbot: QtBot, window: Window) -> None:
    chat: ChatPage = window.page("chat")
    click(qtbot, chat, "Try the starter")
    qtbot.waitUntil(lambda: chat.session.state == State.READY, timeout=WAIT_MS)
    qtbot.keyClicks(chat.composer.text, "Half a thought")
    click(qtbot, chat, starter.SAMPLE_QUESTION)
    assert chat.composer.text.toPlainText() == "Half a thought"
    qtbot.waitUntil(lambda: settled(chat) and len(chat.transcript.views) == 2, timeout=WAIT_MS)
    assert "shrinks language models" in last_message(chat).content
    chat.composer.take()

    click(qtbot, window, "Shrink")
    shrink: ShrinkPage = window.page("shrink")
    qtbot.waitUntil(lambda: shrink.source.row_of(str(starter.MODEL)) is not None, timeout=WAIT_MS)
    shrink.source.view.setCurrentIndex(shrink.source.view.model().index(0, 0))
    qtbot.waitUntil(shrink.result.shrink_button.isVisible, timeout=WAIT_MS)
    click(qtbot, shrink, "Details")
    click(qtbot, shrink, "Types and rounding: As llama-quantize does")
    click(qtbot, shrink, "Shrink")
    qtbot.waitUntil(shrink.done.isVisible, timeout=WAIT_MS)
    click(qtbot, shrink, "Chat with it")
    click(qtbot, window, "New chat")
    say(qtbot, chat, "What is a token?")
    qtbot.waitUntil(lambda: settled(chat) and len(chat.transcript.views) == 2, timeout=WAIT_MS)
    assert "piece of text" in last_message(chat).content
    assert chat.session.info and chat.session.info.type == "Q8_0"


def test_a_stopped_answer_is_kept_and_a_second_turn_reads_only_what_is_new(
    qtbot: QtBot, window: Window, endless_gguf: Path
) -> None:
    window.chat_with(str(endless_gguf))
    chat: ChatPage = window.page("chat")
    for text in ("Hello", "And then"):
        say(qtbot, chat, text)
        qtbot.waitUntil(lambda: chat.session.state == State.GENERATING, timeout=WAIT_MS)
        qtbot.keyClick(chat.composer.text, Qt.Key.Key_Escape)
        qtbot.waitUntil(lambda: settled(chat), timeout=WAIT_MS)
        assert last_message(chat).status == Status.STOPPED
    first, second = (view.message for view in chat.transcript.views[1::2])
    assert first.content and first.stats and second.stats
    # Everything up to the end of the first prompt is in the cache.
    read_again = second.stats.prompt_tokens_evaluated
    assert 0 < read_again <= second.stats.prompt_tokens - first.stats.prompt_tokens


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGABRT])
def test_a_killed_engine_costs_neither_window_nor_answer(
    qtbot: QtBot, window: Window, endless_gguf: Path, tiny_gguf: Path, how: signal.Signals
) -> None:
    window.chat_with(str(endless_gguf))
    chat: ChatPage = window.page("chat")
    chat.session.answer_grew.connect(lambda _text: kill_engine(chat, how))
    say(qtbot, chat, "Hello")
    qtbot.waitUntil(lambda: chat.session.state == State.CRASHED, timeout=WAIT_MS)
    cut = last_message(chat)
    assert cut.status == Status.FAILED and cut.content and cut.error.message
    chat.session.answer_grew.disconnect()

    click(qtbot, chat, "Reload the model")
    qtbot.waitUntil(lambda: chat.session.state == State.READY, timeout=WAIT_MS)
    kept = window.context.store.path_to(cut.id)
    assert [message.content for message in kept][-2:] == ["Hello", cut.content]
    n_messages = len(chat.transcript.views)
    say(qtbot, chat, "Again")
    qtbot.waitUntil(lambda: chat.session.state == State.GENERATING, timeout=WAIT_MS)
    qtbot.keyClick(chat.composer.text, Qt.Key.Key_Escape)
    qtbot.waitUntil(lambda: settled(chat), timeout=WAIT_MS)
    assert len(chat.transcript.views) == n_messages + 2
    assert last_message(chat).status == Status.STOPPED

    window.chat_with(str(tiny_gguf))  # whose answers end by themselves
    say(qtbot, chat, "And once more")
    qtbot.waitUntil(
        lambda: settled(chat) and len(chat.transcript.views) == n_messages + 4, timeout=WAIT_MS
    )
    assert last_message(chat).status == Status.COMPLETE


def kill_engine(chat: ChatPage, how: signal.Signals) -> None:
    """Kill the worker process of the chat, unless that is done already."""
    worker = chat.session._worker
    if worker and worker.is_alive:
        os.kill(worker.pid, how)


def test_a_bad_file_is_refused_in_words_and_nothing_is_lost(
    qtbot: QtBot, window: Window, tiny_gguf: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.gguf"
    shutil.copy(tiny_gguf, bad)
    os.truncate(bad, bad.stat().st_size // 2)
    window.chat_with(str(bad))
    chat: ChatPage = window.page("chat")
    say(qtbot, chat, "My words")
    assert chat.problems.card and "incomplete" in chat.problems.card.error.message
    assert chat.composer.text.toPlainText() == "My words"

    window.chat_with(str(tiny_gguf))
    qtbot.keyClick(chat.composer.text, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: settled(chat) and len(chat.transcript.views) == 2, timeout=WAIT_MS)
    assert chat.transcript.views[0].message.content == "My words"
    assert last_message(chat).status == Status.COMPLETE and chat.problems.card is None


def test_the_main_ways_have_keys(qtbot: QtBot, window: Window) -> None:
    ctrl = Qt.KeyboardModifier.ControlModifier
    keys = (Qt.Key.Key_2, Qt.Key.Key_3, Qt.Key.Key_4)
    for key, page in zip(keys, ("models", "shrink", "settings"), strict=True):
        qtbot.keyClick(window, key, ctrl)
        assert window.current_page_name == page
    qtbot.keyClick(window, Qt.Key.Key_N, ctrl)
    assert window.current_page_name == "chat"
    chat: ChatPage = window.page("chat")
    qtbot.keyClick(window, Qt.Key.Key_K, ctrl)
    qtbot.waitUntil(lambda: QApplication.focusWidget() is chat.panel.search)
