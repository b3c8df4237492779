"""The session with a real worker and a real tiny model: every state, every way an answer ends."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app.chat.load_plan import next_shorter
from app.chat.session import Session, State
from app.chat.stream import messages_of
from app.context import SettingsStore
from app.store import Message, Role, Status, Store
from engine.chat import Message as Turn
from engine.client import Worker
from engine.ggml_types import GgmlType
from engine.settings import SettingsFile
from tests.helpers.headers import Sizes, header

WAIT_MS = 60_000
FAKE = Path(__file__).parents[1] / "helpers" / "fake_worker.py"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "conversations.db")
    yield store
    store.close()


@pytest.fixture
def session(qtbot: QtBot, store: Store, tmp_path: Path) -> Iterator[Session]:
    settings = SettingsStore(SettingsFile(tmp_path / "settings.json"))
    # One thread: a tiny model gains nothing by two, and two on a busy machine wait for each other.
    settings.update(n_threads=1)
    session = Session(store, settings)
    yield session
    session.shutdown()


def wait_for(bot: QtBot, session: Session, *states: State) -> None:
    bot.waitUntil(lambda: session.state in states, timeout=WAIT_MS)


def load(bot: QtBot, session: Session, path: Path) -> None:
    session.choose(str(path))
    session.load()
    assert session.state == State.LOADING
    wait_for(bot, session, State.READY, State.NO_MODEL, State.CRASHED)


def last(store: Store, prompt: Message) -> Message:
    return store.active_path(prompt.conversation_id)[-1]


def seen_states(session: Session) -> list[State]:
    seen = [session.state]
    session.changed.connect(
        lambda: seen.append(session.state) if session.state != seen[-1] else None
    )
    return seen


def test_a_whole_answer(qtbot: QtBot, store: Store, session: Session, tiny_gguf: Path) -> None:
    assert session.state == State.NO_MODEL
    seen = seen_states(session)
    load(qtbot, session, tiny_gguf)
    assert session.info and session.info.n_ctx == 512
    prompt = store.start_conversation("Hello")
    pieces: list[str] = []
    session.answer_grew.connect(pieces.append)
    with qtbot.waitSignal(session.answer_ended, timeout=WAIT_MS) as ended:
        session.ask(prompt)
    message = last(store, prompt)
    assert ended.args == [message]
    assert message.status == Status.COMPLETE
    assert "".join(pieces) == message.content
    assert message.model == session.info.name
    assert message.stats and message.stats.finish_reason in ("stop", "length")
    assert session.n_ctx_used == message.stats.n_ctx_used > 0
    # A model may end at once: then there is nothing between reading and ready.
    assert [state for state in seen if state != State.GENERATING] == [
        State.NO_MODEL,
        State.LOADING,
        State.READY,
        State.READING_PROMPT,
        State.READY,
    ]


def test_a_message_waits_for_the_model(
    qtbot: QtBot, store: Store, session: Session, tiny_gguf: Path
) -> None:
    session.choose(str(tiny_gguf))
    prompt = store.start_conversation("Hello")
    session.ask(prompt)  # loads by itself
    assert session.state == State.LOADING
    assert session.is_queued(prompt.id)
    later = store.add_prompt(prompt.conversation_id, prompt.id, "And this")
    session.ask(later)
    assert not session.is_queued(prompt.id)  # it is part of the question below it now
    with qtbot.waitSignal(session.answer_ended, timeout=WAIT_MS) as ended:
        pass
    assert ended.args[0].parent_id == later.id
    assert not session.is_queued(later.id)


def test_stop_keeps_what_there_is(
    qtbot: QtBot, store: Store, session: Session, endless_gguf: Path
) -> None:
    load(qtbot, session, endless_gguf)
    prompt = store.start_conversation("Hello")
    session.ask(prompt)
    wait_for(qtbot, session, State.GENERATING)
    assert session.answering and session.answering.content
    session.stop()
    assert session.state == State.STOPPING
    wait_for(qtbot, session, State.READY)
    message = last(store, prompt)
    assert message.status == Status.STOPPED and message.content
    assert message.stats and message.stats.finish_reason == "cancelled"
    assert message.stats.generation_tokens > 0

    again = store.add_prompt(prompt.conversation_id, message.id, "Go on")
    session.ask(again)
    wait_for(qtbot, session, State.GENERATING)
    session.stop()
    wait_for(qtbot, session, State.READY)
    stats = last(store, prompt).stats
    assert stats and 0 < stats.prompt_tokens_evaluated < stats.prompt_tokens


def test_the_answer_is_on_disk_while_it_grows(
    qtbot: QtBot, store: Store, session: Session, endless_gguf: Path
) -> None:
    load(qtbot, session, endless_gguf)
    session._flushing.setInterval(10)
    prompt = store.start_conversation("Hello")
    session.ask(prompt)
    qtbot.waitUntil(lambda: last(store, prompt).content != "", timeout=WAIT_MS)
    assert last(store, prompt).status == Status.STREAMING
    session.stop()
    wait_for(qtbot, session, State.READY)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGABRT])
def test_a_dead_worker_costs_nothing_that_was_said(
    qtbot: QtBot, store: Store, session: Session, endless_gguf: Path, how: signal.Signals
) -> None:
    load(qtbot, session, endless_gguf)
    prompt = store.start_conversation("Hello")
    session.ask(prompt)
    wait_for(qtbot, session, State.GENERATING)
    assert session._worker
    os.kill(session._worker.pid, how)
    wait_for(qtbot, session, State.CRASHED)
    message = last(store, prompt)
    assert message.status == Status.FAILED and message.content
    assert message.error and message.error.code == "WorkerCrashed"
    assert session.info is None and session.error

    session.load()
    wait_for(qtbot, session, State.READY)
    assert session.error is None
    with qtbot.waitSignal(session.answer_started, timeout=WAIT_MS):
        session.ask(prompt)
    assert store.versions(last(store, prompt)) == (message.id, last(store, prompt).id)


def test_a_worker_that_dies_while_it_stops(
    qtbot: QtBot, store: Store, session: Session, endless_gguf: Path
) -> None:
    load(qtbot, session, endless_gguf)
    prompt, waiting = store.start_conversation("Hello"), store.start_conversation("And then")
    session.ask(prompt)
    wait_for(qtbot, session, State.GENERATING)
    session.ask(waiting)
    assert session._worker
    os.kill(session._worker.pid, signal.SIGSTOP)  # it hangs, and hears nothing
    session.stop()
    assert session.state == State.STOPPING
    os.kill(session._worker.pid, signal.SIGKILL)
    wait_for(qtbot, session, State.CRASHED)
    message = last(store, prompt)
    assert message.status == Status.STOPPED and message.content and message.error is None
    assert last(store, waiting) == waiting
    assert session.error


def test_a_worker_that_dies_idle_is_told(qtbot: QtBot, session: Session, tiny_gguf: Path) -> None:
    load(qtbot, session, tiny_gguf)
    assert session._worker
    os.kill(session._worker.pid, signal.SIGKILL)
    wait_for(qtbot, session, State.CRASHED)
    assert session.error


@pytest.mark.parametrize(
    ("mode", "code"), [("out-of-memory", "OutOfMemory"), ("garbage", "WorkerCrashed")]
)
def test_a_worker_that_dies_loading_is_told(
    qtbot: QtBot, store: Store, tmp_path: Path, mode: str, code: str
) -> None:
    session = faked(store, tmp_path, mode)
    prompt = store.start_conversation("Hello")
    session.ask(prompt)
    wait_for(qtbot, session, State.CRASHED)
    assert session.error and session.error.code == code
    assert last(store, prompt) == prompt
    session.shutdown()


def faked(store: Store, tmp_path: Path, mode: str) -> Session:
    settings = SettingsStore(SettingsFile(tmp_path / "settings.json"))
    command = [sys.executable, str(FAKE), mode]
    session = Session(store, settings, lambda on_exit: Worker.start(on_exit, command=command))
    session.choose(str(tmp_path / "any.gguf"))
    return session


def test_a_worker_that_does_not_hear_its_cancel(qtbot: QtBot, store: Store, tmp_path: Path) -> None:
    session = faked(store, tmp_path, "stuck")
    prompt = store.start_conversation("Hello")
    session.ask(prompt)
    wait_for(qtbot, session, State.GENERATING)
    session.stop()
    wait_for(qtbot, session, State.CRASHED)
    message = last(store, prompt)
    assert message.status == Status.STOPPED and message.content and message.error is None
    assert session.error and "did not stop" in session.error.message
    session.load()
    wait_for(qtbot, session, State.READY)
    session.shutdown()


def test_a_shorter_context_until_it_fits(qtbot: QtBot, store: Store, tmp_path: Path) -> None:
    session = faked(store, tmp_path, "little-memory")
    assert session.shorter_n_ctx == 0
    session.load()
    for shorter in (2048, 1024):
        wait_for(qtbot, session, State.CRASHED)
        assert session.shorter_n_ctx == shorter
        session.load_shorter()
    wait_for(qtbot, session, State.READY)
    assert session.info and session.info.n_ctx == 1024
    assert session.shorter_n_ctx == 0
    session.load()  # what once was too long is not tried again
    wait_for(qtbot, session, State.READY)
    assert session.info.n_ctx == 1024
    session.shutdown()


def test_a_wish_beyond_training_is_not_halved_from_there(tmp_path: Path) -> None:
    sizes = Sizes(2, 256, 512, 4, 4, 64, 300, n_ctx_train=8192)
    path = str(header("llama", GgmlType.Q8_0, sizes).write_sparse(tmp_path / "m.gguf"))
    assert next_shorter(path, 0, 1 << 20) == 4096
    assert next_shorter(path, 0, 2048) == 1024
    assert next_shorter(path, 0, 0) == 2048
    assert next_shorter(path, 1024, 1 << 20) == 512
    assert next_shorter(path, 512, 0) == 0
    assert next_shorter("/no/such.gguf", 0, 8192) == 4096


def test_there_is_a_shortest_context(qtbot: QtBot, store: Store, tmp_path: Path) -> None:
    session = faked(store, tmp_path, "out-of-memory")
    session.load()
    for _ in (2048, 1024, 512):
        wait_for(qtbot, session, State.CRASHED)
        session.load_shorter()
    wait_for(qtbot, session, State.CRASHED)
    assert session.shorter_n_ctx == 0
    session.shutdown()


def test_a_prompt_waits_while_the_disk_refuses(
    qtbot: QtBot, store: Store, session: Session, tiny_gguf: Path
) -> None:
    load(qtbot, session, tiny_gguf)
    prompts = [store.start_conversation("Hello"), store.start_conversation("Hi")]
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for prompt in prompts:
        with qtbot.waitSignal(session.store_failed, timeout=WAIT_MS):
            session.ask(prompt)
    assert session.state == State.READY
    assert all(session.is_queued(prompt.id) for prompt in prompts)
    other.execute("ROLLBACK")
    other.close()
    session.ask(prompts[1])
    qtbot.waitUntil(
        lambda: all(
            (last(store, prompt).role, last(store, prompt).status)
            == (Role.ASSISTANT, Status.COMPLETE)
            for prompt in prompts
        ),
        timeout=WAIT_MS,
    )


def test_half_a_surrogate_pair_is_answered(
    qtbot: QtBot, store: Store, session: Session, tiny_gguf: Path
) -> None:
    load(qtbot, session, tiny_gguf)
    with qtbot.waitSignal(session.answer_ended, timeout=WAIT_MS) as ended:
        session.ask(store.start_conversation("What is \ud800?"))
    assert ended.args[0].status == Status.COMPLETE


def test_a_file_that_is_no_model(qtbot: QtBot, session: Session, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"not a model" * 100)
    load(qtbot, session, bad)
    assert session.state == State.NO_MODEL
    assert session.error and session.error.hint
    assert session.model_path == str(bad)


def test_a_prompt_longer_than_the_context(
    qtbot: QtBot, store: Store, session: Session, tiny_gguf: Path
) -> None:
    load(qtbot, session, tiny_gguf)
    prompt = store.start_conversation("word " * 2000)
    with qtbot.waitSignal(session.answer_ended, timeout=WAIT_MS):
        session.ask(prompt)
    message = last(store, prompt)
    assert message.error and message.error.code == "ContextOverflow"
    assert session.state == State.READY
    with qtbot.waitSignal(session.answer_ended, timeout=WAIT_MS) as ended:
        session.ask(store.start_conversation("short"))
    assert ended.args[0].status == Status.COMPLETE


def test_another_model_keeps_the_conversation(
    qtbot: QtBot, store: Store, session: Session, endless_gguf: Path, tiny_gguf: Path
) -> None:
    load(qtbot, session, endless_gguf)
    prompt = store.start_conversation("Hello")
    session.ask(prompt)
    wait_for(qtbot, session, State.GENERATING)
    load(qtbot, session, tiny_gguf)
    stopped = last(store, prompt)
    assert stopped.status == Status.STOPPED and stopped.content
    with qtbot.waitSignal(session.answer_ended, timeout=WAIT_MS) as ended:
        session.ask(store.start_conversation("Hi"))
    assert ended.args[0].status == Status.COMPLETE


def test_loading_can_be_stopped(qtbot: QtBot, session: Session, tiny_gguf: Path) -> None:
    session.choose(str(tiny_gguf))
    session.load()
    session.stop()
    wait_for(qtbot, session, State.NO_MODEL)
    load(qtbot, session, tiny_gguf)
    wait_for(qtbot, session, State.READY)
    session.unload()
    assert session.info is None


def test_a_deleted_conversation_is_not_answered(
    qtbot: QtBot, store: Store, session: Session, endless_gguf: Path
) -> None:
    load(qtbot, session, endless_gguf)
    first, second = store.start_conversation("Hello"), store.start_conversation("Hi")
    session.ask(first)
    session.ask(second)
    wait_for(qtbot, session, State.GENERATING)
    session.withdraw(second.conversation_id)
    session.withdraw(first.conversation_id)
    wait_for(qtbot, session, State.READY)
    assert last(store, second) == second


def test_shutdown_keeps_the_answer_in_the_making(
    qtbot: QtBot, store: Store, session: Session, endless_gguf: Path
) -> None:
    load(qtbot, session, endless_gguf)
    prompt = store.start_conversation("Hello")
    session.ask(prompt)
    wait_for(qtbot, session, State.GENERATING)
    session.shutdown()
    assert last(store, prompt).status == Status.STOPPED
    assert last(store, prompt).content


def row(role: Role, content: str) -> Message:
    return Message(1, 1, None, role, content, Status.COMPLETE, "", None, None, 0.0)


def test_roles_take_turns_whatever_happened() -> None:
    path = [
        row(Role.USER, "one"),
        row(Role.ASSISTANT, ""),
        row(Role.USER, "two"),
        row(Role.ASSISTANT, "answer"),
        row(Role.USER, "three"),
    ]
    assert messages_of(path) == (
        Turn("user", "one\n\ntwo"),
        Turn("assistant", "answer"),
        Turn("user", "three"),
    )
