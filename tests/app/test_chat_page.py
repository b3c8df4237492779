"""The chat page with real clicks and keys, a real worker and a real tiny model."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt, QTimer, QUrl
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QApplication,
    QLineEdit,
    QPlainTextEdit,
    QWidget,
)
from pytestqt.qtbot import QtBot

from app import theme
from app.chat.code import CodeView
from app.chat.messages import AnswerView, PromptView
from app.chat.page import ChatPage
from app.chat.session import State
from app.chat.text import LinkDialog, TextView
from app.context import AppContext
from app.problems import ProblemCard
from app.schema import MIGRATIONS
from app.store import AnswerStats, Message, Status, Store
from engine.client import Worker
from engine.ggml_types import GgmlType
from tests.helpers.clicks import click, named
from tests.helpers.headers import Sizes, header

WAIT_MS = 60_000
FAKE = Path(__file__).parents[1] / "helpers" / "fake_worker.py"
STATS = AnswerStats(9, 9, 100.0, 0.42, 30, 42.0, "length", 512, 39, 1)


@pytest.fixture
def context(qapp: QApplication) -> Iterator[AppContext]:
    context = AppContext()
    # One thread: a tiny model gains nothing by two, and two on a busy machine wait for each other.
    context.settings.update(n_threads=1)
    yield context
    context.shutdown()


@pytest.fixture
def page(qtbot: QtBot, context: AppContext) -> Iterator[ChatPage]:
    page = ChatPage(context)
    qtbot.addWidget(page)
    page.resize(1100, 700)
    with qtbot.waitExposed(page):
        page.show()
    # A scan that ends while pytest tears down is never heard: pytest-qt has left the event loop.
    qtbot.waitUntil(lambda: not page.picker._scan.is_running, timeout=WAIT_MS)
    yield page
    page.shutdown()


def talk(store: Store, *texts: str, status: Status = Status.COMPLETE) -> int:
    """A stored conversation of prompts and answers in turn."""
    prompt = store.start_conversation(texts[0])
    for number, text in enumerate(texts[1:]):
        if number % 2:
            leaf = store.conversation(prompt.conversation_id).active_leaf_id
            prompt = store.add_prompt(prompt.conversation_id, leaf, text)
        else:
            store.end_answer(store.begin_answer(prompt, "tiny").id, text, status, STATS)
    return prompt.conversation_id


def open_conversation(bot: QtBot, page: ChatPage, conversation_id: int) -> None:
    page._refresh_list()
    item = page.panel.list.item_of(conversation_id)
    assert item is not None
    at = page.panel.list.visualItemRect(item).topLeft() + QPoint(20, 10)
    bot.mouseClick(page.panel.list.viewport(), Qt.MouseButton.LeftButton, pos=at)
    assert page.conversation_id == conversation_id


def say(bot: QtBot, page: ChatPage, text: str) -> None:
    bot.keyClicks(page.composer.text, text)
    bot.keyClick(page.composer.text, Qt.Key.Key_Return)


def ready(bot: QtBot, page: ChatPage, path: Path) -> None:
    page.open_model(str(path))
    bot.waitUntil(lambda: page.session.state == State.READY, timeout=WAIT_MS)


def wait_for(bot: QtBot, page: ChatPage, state: State) -> None:
    bot.waitUntil(lambda: page.session.state == state, timeout=WAIT_MS)


def last(page: ChatPage) -> Message:
    return page.transcript.views[-1].message


def words_of(root: QWidget) -> str:
    return "\n".join(view.toPlainText() for view in root.findChildren(TextView))


def test_without_a_model_it_points_to_one(qtbot: QtBot, page: ChatPage) -> None:
    with qtbot.waitSignal(page.discover_requested):
        click(qtbot, page, "Find a model")
    say(qtbot, page, "Hello")
    assert page.composer.text.toPlainText() == "Hello"
    assert not page.composer.button.isEnabled()


def test_a_conversation(qtbot: QtBot, page: ChatPage, endless_gguf: Path) -> None:
    ready(qtbot, page, endless_gguf)
    qtbot.keyClicks(page.composer.text, "Once")
    qtbot.keyClick(page.composer.text, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    say(qtbot, page, "upon")
    assert page.composer.text.toPlainText() == ""
    assert page.panel.list.item(1).text() == "Once"
    wait_for(qtbot, page, State.GENERATING)
    assert page.transcript.views[0].message.content == "Once\nupon"
    answer = page.transcript.views[1]
    qtbot.waitUntil(lambda: bool(words_of(answer)), timeout=WAIT_MS)
    qtbot.waitUntil(lambda: page.footer._speed.text().endswith("tok/s"), timeout=WAIT_MS)
    click(qtbot, page, "Stop")
    wait_for(qtbot, page, State.READY)
    assert last(page).status == Status.STOPPED
    assert isinstance(answer, AnswerView)
    assert "stopped" in answer._figures.text() and "tok/s" in answer._figures.text()
    assert named(page, "Send")
    assert page.footer._context.text().startswith("context ")
    # Nothing ticks while nothing happens.
    timers = [page.transcript._painting, page.session._flushing]
    assert not any(timer.isActive() for timer in timers)


def test_escape_stops(qtbot: QtBot, page: ChatPage, endless_gguf: Path) -> None:
    ready(qtbot, page, endless_gguf)
    say(qtbot, page, "Hello")
    wait_for(qtbot, page, State.GENERATING)
    qtbot.keyClick(page.composer.text, Qt.Key.Key_Escape)
    wait_for(qtbot, page, State.READY)
    assert last(page).status == Status.STOPPED


def test_a_message_waits_for_the_model(qtbot: QtBot, page: ChatPage, tiny_gguf: Path) -> None:
    page.open_model(str(tiny_gguf))
    say(qtbot, page, "Hello")
    view = page.transcript.views[-1]
    assert isinstance(view, PromptView)
    assert view.note.text() == "Message queued, will be sent when the model has loaded"
    assert page.picker.bar.isVisible()
    with qtbot.waitSignal(page.session.answer_ended, timeout=WAIT_MS):
        pass
    assert last(page).status == Status.COMPLETE
    assert not view.note.isVisible()
    assert not page.picker.bar.isVisible()


def test_a_message_sent_meanwhile_comes_next(
    qtbot: QtBot, page: ChatPage, endless_gguf: Path
) -> None:
    ready(qtbot, page, endless_gguf)
    say(qtbot, page, "One")
    wait_for(qtbot, page, State.GENERATING)
    say(qtbot, page, "Two")
    click(qtbot, page, "Stop")
    qtbot.waitUntil(lambda: len(page.transcript.views) == 4, timeout=WAIT_MS)
    wait_for(qtbot, page, State.GENERATING)
    contents = [view.message.content for view in page.transcript.views]
    assert (contents[0], contents[2]) == ("One", "Two")
    page.session.stop()
    wait_for(qtbot, page, State.READY)


def test_answers_again_beside_the_first(qtbot: QtBot, page: ChatPage, endless_gguf: Path) -> None:
    ready(qtbot, page, endless_gguf)
    open_conversation(qtbot, page, talk(page._store, "Hello", "First answer"))
    assert not page.transcript.views[1].versions.isVisible()
    click(qtbot, page.transcript.views[1], "Answer again")
    wait_for(qtbot, page, State.GENERATING)
    page.session.stop()
    wait_for(qtbot, page, State.READY)
    second = last(page)
    assert second.content != "First answer"
    click(qtbot, page.transcript.views[1], "Version before")
    assert last(page).content == "First answer"
    assert not named(page.transcript.views[1], "Version before").isEnabled()
    click(qtbot, page.transcript.views[1], "Next version")
    assert last(page).id == second.id


def test_an_edited_prompt_is_a_new_version(
    qtbot: QtBot, page: ChatPage, endless_gguf: Path
) -> None:
    ready(qtbot, page, endless_gguf)
    open_conversation(qtbot, page, talk(page._store, "Hello", "Hi.", "More", "More it is."))
    click(qtbot, page.transcript.views[2], "Edit message")
    view = page.transcript.views[2]
    assert isinstance(view, PromptView) and view._editor
    qtbot.keyClicks(view._editor.text, "Even ")
    click(qtbot, view, "Send")
    wait_for(qtbot, page, State.GENERATING)
    page.session.stop()
    wait_for(qtbot, page, State.READY)
    contents = [view.message.content for view in page.transcript.views]
    assert contents[:3] == ["Hello", "Hi.", "Even More"]
    click(qtbot, page.transcript.views[2], "Version before")
    contents = [view.message.content for view in page.transcript.views]
    assert contents == ["Hello", "Hi.", "More", "More it is."]


def test_a_dead_engine_is_one_click_away_from_alive(
    qtbot: QtBot, page: ChatPage, endless_gguf: Path
) -> None:
    ready(qtbot, page, endless_gguf)
    say(qtbot, page, "Hello")
    wait_for(qtbot, page, State.GENERATING)
    assert page.session._worker
    os.kill(page.session._worker.pid, signal.SIGKILL)
    wait_for(qtbot, page, State.CRASHED)
    cut = last(page)
    assert cut.status == Status.FAILED and cut.content
    click(qtbot, page, "Reload the model")
    wait_for(qtbot, page, State.READY)
    assert last(page) == cut
    named(page.transcript.views[1]._problem, "Answer again")  # type: ignore[attr-defined]


def test_a_model_that_does_not_load_is_told_where_it_was_chosen(
    qtbot: QtBot, page: ChatPage, tiny_gguf: Path, tmp_path: Path
) -> None:
    strange = tmp_path / "strange.gguf"
    name = b"\5\0\0\0\0\0\0\0llama"
    strange.write_bytes(tiny_gguf.read_bytes().replace(name, name.replace(b"llama", b"lxama"), 1))
    page.open_model(str(strange))
    wait_for(qtbot, page, State.NO_MODEL)
    assert page.problems.card and page.problems.card.isVisible()
    click(qtbot, page.problems.card, "Load again")
    wait_for(qtbot, page, State.LOADING)
    wait_for(qtbot, page, State.NO_MODEL)
    click(qtbot, page.problems.card, "Dismiss")
    assert page.problems.card is None
    assert page._context.settings.value.last_model == ""


def test_a_bad_file_leaves_the_loaded_model_alone(
    qtbot: QtBot, page: ChatPage, tiny_gguf: Path, tmp_path: Path
) -> None:
    page.open_model(str(tiny_gguf))
    wait_for(qtbot, page, State.READY)
    (tmp_path / "bad.gguf").write_bytes(b"no model " * 100)
    shown: list[list[str]] = []
    page.files_dropped.connect(shown.append)
    page._drop.dropped.emit([str(tmp_path / "bad.gguf")])
    assert page.problems.card and page.problems.card.isVisible()
    assert "bad.gguf" in page.problems.card.error.message
    assert page.session.state == State.READY
    assert page.session.model_path == str(tiny_gguf)
    assert page._context.settings.value.last_model == str(tiny_gguf)
    assert shown == []
    page._drop.dropped.emit([str(tiny_gguf), "/other.gguf"])
    assert shown == [[str(tiny_gguf), "/other.gguf"]]


def test_of_many_files_the_first_that_can_chat_is_loaded(
    qtbot: QtBot, page: ChatPage, tiny_gguf: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.gguf").write_bytes(tiny_gguf.read_bytes()[:1000])
    paths = [str(tmp_path / "bad.gguf"), str(tiny_checkpoint), str(tiny_gguf)]
    with qtbot.waitSignal(page.files_dropped) as added:
        page._drop.dropped.emit(paths)
    assert added.args == [paths]
    wait_for(qtbot, page, State.READY)
    assert page.session.model_path == str(tiny_gguf)


def test_a_shorter_context_is_one_click_away(qtbot: QtBot, page: ChatPage, tiny_gguf: Path) -> None:
    command = [sys.executable, str(FAKE), "little-memory"]
    page.session._start_worker = lambda on_exit: Worker.start(on_exit, command=command)
    page.open_model(str(tiny_gguf))
    for _ in range(2):
        wait_for(qtbot, page, State.CRASHED)
        click(qtbot, page, "Try a shorter context")
    wait_for(qtbot, page, State.READY)
    assert page.picker._context_label.text() == "1K context"
    assert page.problems.card is None


def test_what_seems_not_to_fit_can_be_loaded_anyway(
    qtbot: QtBot, page: ChatPage, tmp_path: Path
) -> None:
    """A context of half a terabyte, which the user asked for: then the system itself says no."""
    n_ctx = 1 << 22
    wide = header("llama", GgmlType.Q4_0, Sizes(64, 512, 512, 8, 8, 64, 300, n_ctx_train=n_ctx))
    page._context.settings.update(n_ctx=n_ctx)
    page.open_model(str(wide.write_sparse(tmp_path / "wide.gguf")))
    qtbot.waitUntil(lambda: page.problems.card is not None, timeout=WAIT_MS)
    assert page.problems.card and "may be used" in page.problems.card.error.message
    assert texts(page.problems.card) == ["Try a shorter context", "Load anyway"]
    click(qtbot, page, "Load anyway")
    assert page.session.state == State.LOADING
    qtbot.waitUntil(lambda: page.session.state != State.LOADING, timeout=WAIT_MS)
    assert page.problems.card and "not enough memory" in page.problems.card.error.message
    assert texts(page.problems.card) == ["Try a shorter context"]


def test_the_context_that_was_set_is_loaded_as_far_as_the_model_goes(
    qtbot: QtBot, page: ChatPage, tiny_gguf: Path
) -> None:
    computer = page._context.computer
    page.session.changed.connect(lambda: computer.set_loaded(page.session.info))
    page._context.settings.update(n_ctx=512)
    ready(qtbot, page, tiny_gguf)
    assert page.session.info and page.session.info.n_ctx == 512
    assert computer.loads[str(tiny_gguf)].taken == computer.releasable
    assert sum(computer.releasable.values()) > 0
    page.session.dismiss()
    assert computer.releasable == {} and str(tiny_gguf) in computer.loads

    page._context.settings.update(n_ctx=131_072)
    page.session.load()
    wait_for(qtbot, page, State.READY)
    assert page.session.info.n_ctx == page.session.info.n_ctx_train < 131_072


def texts(card: ProblemCard) -> list[str]:
    return [button.text() for button in card.action_buttons]


def test_the_context_in_use_is_that_of_the_conversation_on_screen(
    qtbot: QtBot, page: ChatPage, tiny_gguf: Path
) -> None:
    ready(qtbot, page, tiny_gguf)
    assert not page.footer._context.isVisible()
    asked = page._store.start_conversation("One").conversation_id
    answered = talk(page._store, "Two", "2")
    open_conversation(qtbot, page, answered)
    assert page.footer._context.isVisible()
    assert page.footer._context.toolTip() == f"{STATS.n_ctx_used} of 512 tokens"
    open_conversation(qtbot, page, asked)
    assert not page.footer._context.isVisible()


def test_words_go_only_to_the_answer_they_belong_to(
    qtbot: QtBot, page: ChatPage, endless_gguf: Path
) -> None:
    ready(qtbot, page, endless_gguf)
    say(qtbot, page, "Hello")
    wait_for(qtbot, page, State.GENERATING)
    page.transcript.add(page._store.begin_answer(page.transcript.views[0].message, "other"))
    strange = page.transcript.views[-1]
    with qtbot.waitSignals([page.session.answer_grew] * 3, timeout=WAIT_MS):
        pass
    page.session.stop()
    wait_for(qtbot, page, State.READY)
    assert not words_of(strange)


def test_what_could_not_be_asked_has_a_button(
    qtbot: QtBot, page: ChatPage, tiny_gguf: Path
) -> None:
    page.open_model(str(tiny_gguf))
    say(qtbot, page, "Hello")
    other = sqlite3.connect(page._store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    wait_for(qtbot, page, State.READY)
    assert page.problems.card and "cannot be reached" in page.problems.card.error.message
    other.execute("ROLLBACK")
    other.close()
    with qtbot.waitSignal(page.session.answer_ended, timeout=WAIT_MS):
        click(qtbot, page.transcript.views[-1], "Answer this")
    assert page.problems.card is None


def test_a_disk_that_refuses_is_told_and_what_was_written_stays(
    qtbot: QtBot, page: ChatPage
) -> None:
    conversation_id = talk(page._store, "one", "1")
    open_conversation(qtbot, page, conversation_id)
    other = sqlite3.connect(page._store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    page.panel.renamed.emit(conversation_id, "another")
    assert page.problems.card and "cannot be reached" in page.problems.card.error.message
    click(qtbot, page.problems.card, "Dismiss")
    page.panel.delete_requested.emit(conversation_id)
    assert page.problems.card and page.conversation_id == conversation_id
    qtbot.keyClicks(page.composer.text, "and two")
    page.composer.sent.emit("and two")
    assert page.composer.text.toPlainText() == "and two"
    other.execute("ROLLBACK")
    other.close()
    page.panel.renamed.emit(conversation_id, "another")
    assert page._store.conversation(conversation_id).title == "another"


def test_drafts_stay_with_their_conversation(qtbot: QtBot, page: ChatPage) -> None:
    first, second = talk(page._store, "one", "1"), talk(page._store, "two", "2")
    qtbot.keyClicks(page.composer.text, "for a new one")
    open_conversation(qtbot, page, first)
    assert page.composer.text.toPlainText() == ""
    qtbot.keyClicks(page.composer.text, "for the first")
    open_conversation(qtbot, page, second)
    click(qtbot, page, "New chat")
    assert page.composer.text.toPlainText() == "for a new one"
    open_conversation(qtbot, page, first)
    assert page.composer.text.toPlainText() == "for the first"


def test_delete_can_be_undone(qtbot: QtBot, page: ChatPage) -> None:
    kept, deleted = talk(page._store, "keep", "k"), talk(page._store, "away", "a")
    open_conversation(qtbot, page, deleted)
    qtbot.keyClick(page.panel.list, Qt.Key.Key_Delete)
    assert [c.id for c in page._store.conversations()] == [kept]
    assert page.conversation_id is None
    click(qtbot, page, "Undo")
    assert page.conversation_id == deleted
    assert not page.toast.isVisible()


def test_rename_in_the_list(qtbot: QtBot, page: ChatPage) -> None:
    open_conversation(qtbot, page, talk(page._store, "old name", "a"))
    qtbot.keyClick(page.panel.list, Qt.Key.Key_F2)
    editor = page.panel.list.findChild(QLineEdit)
    assert editor is not None
    editor.setText("new name")
    qtbot.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: [c.title for c in page._store.conversations()] == ["new name"])


def test_the_menu_of_a_conversation(qtbot: QtBot, page: ChatPage) -> None:
    open_conversation(qtbot, page, talk(page._store, "name", "a"))
    item = page.panel.list.item(1)
    menu = page.panel.list.menu_for(item)
    assert [action.text() for action in menu.actions()] == ["Rename", "Delete"]
    menu.actions()[0].trigger()
    assert page.panel.list.state() == QAbstractItemView.State.EditingState


def test_finding_a_conversation(qtbot: QtBot, page: ChatPage) -> None:
    talk(page._store, "Herons", "They stand in water.")
    talk(page._store, "Foxes", "They do not.")
    page.find_conversation()
    qtbot.waitUntil(lambda: QApplication.focusWidget() is page.panel.search)
    qtbot.keyClicks(page.panel.search, "water")
    assert [page.panel.list.item(n).text() for n in range(page.panel.list.count())] == [
        "Today",
        "Herons",
    ]
    page.panel.search.setText("nothing of the kind")
    assert page.panel._empty.isVisible()


def test_the_list_folds_in_a_narrow_window(qtbot: QtBot, page: ChatPage) -> None:
    assert page.panel.isVisible()
    page.resize(theme.FOLD_WIDTH - 1, 700)
    qtbot.waitUntil(lambda: not page.panel.isVisible())
    click(qtbot, page, "Conversations")
    assert page.panel.isVisible()


def test_copies(qtbot: QtBot, page: ChatPage) -> None:
    answer = "<think>\nhm\n</think>\n\nLook:\n\n```py\nx = 1\n```\n"
    open_conversation(qtbot, page, talk(page._store, "Code?", answer))
    clipboard = QGuiApplication.clipboard()
    click(qtbot, page.transcript.views[1], "Copy code")
    assert clipboard.text() == "x = 1"
    click(qtbot, page.transcript.views[1], "Copy answer")
    assert clipboard.text() == "Look:\n\n```py\nx = 1\n```"
    click(qtbot, page.transcript.views[0], "Copy message")
    assert clipboard.text() == "Code?"


def test_what_was_thought_is_folded(qtbot: QtBot, page: ChatPage) -> None:
    open_conversation(qtbot, page, talk(page._store, "Q", "<think>\nhm hm\n</think>\nA"))
    view = page.transcript.views[1]
    thoughts = next(t for t in view.findChildren(TextView) if t.accessibleName() == "Reasoning")
    assert not thoughts.isVisible()
    click(qtbot, view, "Thought about it")
    assert thoughts.isVisible() and thoughts.toPlainText() == "hm hm"


def test_nothing_a_model_writes_is_loaded_or_run(
    qtbot: QtBot, page: ChatPage, tmp_path: Path
) -> None:
    picture = tmp_path / "p.png"
    page.grab(page.rect().adjusted(0, 0, -1000, -600)).save(str(picture))
    html = f'<img src="{picture}"> <b>bold</b> ![x](file://{picture})'
    open_conversation(qtbot, page, talk(page._store, "<i>me</i>", html))
    assert words_of(page.transcript.views[0]) == "<i>me</i>"
    text = words_of(page.transcript.views[1])
    assert f'<img src="{picture}"> <b>bold</b>' in text
    view = TextView()
    qtbot.addWidget(view)
    for source in (str(picture), QUrl.fromLocalFile(str(picture)).toString()):
        view.show_html(f'<img src="{source}">')
        assert view.heightForWidth(400) < 60  # the picture would be 100 high


def test_a_link_shows_where_it_leads_before_it_opens(qtbot: QtBot, page: ChatPage) -> None:
    link = "[a nice place](https://xn--example-9fg.org/b?c=d)"
    open_conversation(qtbot, page, talk(page._store, "Q", link))
    (text,) = page.transcript.views[1].findChildren(TextView)
    text.anchorClicked.emit(QUrl("https://xn--example-9fg.org/b?c=d"))
    dialog = page.findChild(LinkDialog)
    assert dialog is not None and dialog.isVisible()
    assert dialog.target.text() == "https://xn--example-9fg.org/b?c=d"
    click(qtbot, dialog, "Cancel")


def test_only_the_changed_end_is_drawn_anew(qtbot: QtBot, page: ChatPage) -> None:
    conversation_id = talk(page._store, "Q")
    open_conversation(qtbot, page, conversation_id)
    row = page._store.begin_answer(page.transcript.views[0].message, "tiny")
    page.transcript.add(row)
    view = page.transcript.views[1]
    assert isinstance(view, AnswerView)
    view.feed("First paragraph.\n\n```py\nx = 1\n```\n\nThird")
    before = list(view._column._slots)
    code = view.findChild(CodeView)
    view.feed(" goes on\n\nFourth")
    assert view._column._slots[:3] == before
    assert view.findChild(CodeView) is code
    assert "Third goes on" in words_of(view)


def test_a_long_conversation_is_built_from_its_end(qtbot: QtBot, page: ChatPage) -> None:
    texts = [f"message {number}" for number in range(100)]
    open_conversation(qtbot, page, talk(page._store, *texts))
    bar = page.transcript.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.maximum() > 0 and bar.value() == bar.maximum())
    assert len(page.transcript.views) == 30
    assert last(page).content == "message 99"
    top = page.transcript.views[0]
    bar.setValue(0)
    assert len(page.transcript.views) == 60
    qtbot.waitUntil(lambda: bar.value() > 0)
    # What was at the top is still where it was.
    qtbot.waitUntil(lambda: abs(top.mapTo(page.transcript.viewport(), QPoint()).y()) < 60)


def test_stays_at_the_end_unless_scrolled_up(qtbot: QtBot, page: ChatPage) -> None:
    conversation_id = talk(page._store, "Q", "word " * 1500, "again")
    open_conversation(qtbot, page, conversation_id)
    row = page._store.begin_answer(last(page), "tiny")
    page.transcript.add(row)
    bar = page.transcript.verticalScrollBar()
    for _ in range(3):
        page.transcript.feed("line\n\n" * 20)
        qtbot.waitUntil(lambda: not page.transcript._painting.isActive())
        qtbot.waitUntil(lambda: bar.value() == bar.maximum() > 0)
    bar.setValue(bar.maximum() - 300)
    kept = bar.value()
    page.transcript.feed("line\n\n" * 20)
    maximum = bar.maximum()
    qtbot.waitUntil(lambda: bar.maximum() > maximum)
    assert bar.value() == kept


def test_a_model_without_a_template_is_told(qtbot: QtBot, page: ChatPage, tmp_path: Path) -> None:
    from engine.convert.job import Convert
    from engine.jobs import finish
    from tests.helpers.checkpoints import write_tiny_checkpoint

    folder = write_tiny_checkpoint(tmp_path / "Plain", chat_template=None)
    path = tmp_path / "Plain.gguf"
    finish(Convert(str(folder), str(path), "f16").run())
    ready(qtbot, page, path)
    assert "continues your text" in page.footer._note.text()
    say(qtbot, page, "Once upon a time")
    with qtbot.waitSignal(page.session.answer_ended, timeout=WAIT_MS):
        pass
    assert last(page).status == Status.COMPLETE


def test_a_newer_history_is_left_alone_and_told(qtbot: QtBot, context: AppContext) -> None:
    path = context.folders.data / "conversations.db"
    Store(path, (*MIGRATIONS, "CREATE TABLE later(id)")).close()
    page = ChatPage(context)
    qtbot.addWidget(page)
    page.show()
    assert page.problems.card and "newer Snug" in page.problems.card.error.message
    page.shutdown()
    qtbot.waitUntil(lambda: not page.picker._scan.is_running, timeout=WAIT_MS)


@pytest.mark.qt_log_ignore("does not support")  # popups on the offscreen platform
def test_the_menu_lists_models(
    qtbot: QtBot, page: ChatPage, context: AppContext, tiny_gguf: Path
) -> None:
    context.settings.update(added_models=(str(tiny_gguf),))
    page.picker.open_menu()
    menu = page.picker.menu
    assert menu is not None
    qtbot.waitUntil(lambda: menu.actions()[0].text().startswith("Tiny"), timeout=WAIT_MS)
    menu.actions()[0].trigger()
    menu.close()
    wait_for(qtbot, page, State.READY)
    assert context.settings.value.last_model == str(tiny_gguf)


def test_the_last_model_loads_with_the_first_message(
    qtbot: QtBot, context: AppContext, tiny_gguf: Path
) -> None:
    context.settings.update(last_model=str(tiny_gguf))
    page = ChatPage(context)
    qtbot.addWidget(page)
    page.show()
    assert page.session.model_path == str(tiny_gguf)
    assert page.session.info is None
    say(qtbot, page, "Hello")
    wait_for(qtbot, page, State.LOADING)
    with qtbot.waitSignal(page.session.answer_ended, timeout=WAIT_MS):
        pass
    page.shutdown()
    qtbot.waitUntil(lambda: not page.picker._scan.is_running, timeout=WAIT_MS)


def test_every_control_has_a_name(qtbot: QtBot, page: ChatPage) -> None:
    answer = "<think>a</think>\n\nb\n\n```py\nx\n```\n\n|a|b|\n|-|-|\n|1|2|"
    open_conversation(qtbot, page, talk(page._store, "Q", answer, status=Status.FAILED))
    kinds = (QAbstractButton, QLineEdit, QPlainTextEdit, TextView, QAbstractItemView)
    for kind in kinds:
        for control in page.findChildren(kind):
            has_text = isinstance(control, QAbstractButton) and control.text()
            own = not control.objectName().startswith("qt_")
            inner = isinstance(control.parent(), QLineEdit)
            assert control.accessibleName() or has_text or inner or not own, control


def test_both_themes_can_be_worn_while_it_shows(
    qtbot: QtBot, qapp: QApplication, page: ChatPage
) -> None:
    open_conversation(qtbot, page, talk(page._store, "Q", "a `b`\n\n```py\nx = 1\n```"))
    theme.apply(qapp, "dark")
    page.grab()
    theme.apply(qapp, "light")
    assert not [t for t in page.findChildren(QTimer) if t.isActive() and not t.isSingleShot()]
