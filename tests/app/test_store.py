"""The tree, the search, the way old and broken files are met, and death at any moment."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.schema import MIGRATIONS
from app.store import AnswerStats, Message, Role, Status, Store, title_of
from engine.errors import CorruptFile, ErrorReport, FormatError, NotWritable, StorageError

STATS = AnswerStats(
    prompt_tokens=12,
    prompt_tokens_evaluated=4,
    prompt_tokens_per_second=200.5,
    time_to_first_token_seconds=0.25,
    generation_tokens=8,
    generation_tokens_per_second=42.0,
    finish_reason="stop",
    n_ctx=2048,
    n_ctx_used=20,
    seed=7,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "data" / "conversations.sqlite")
    yield store
    store.close()


def answer(store: Store, prompt: Message, text: str, status: Status = Status.COMPLETE) -> Message:
    message = store.begin_answer(prompt, "tiny")
    return store.end_answer(message.id, text, status, STATS)


def contents(store: Store, conversation_id: int) -> list[str]:
    return [message.content for message in store.active_path(conversation_id)]


def test_a_turn_is_kept_with_its_figures(store: Store) -> None:
    prompt = store.start_conversation("What is a lake?\nIn short.")
    message = answer(store, prompt, "Water.")
    (conversation,) = store.conversations()
    assert conversation.title == "What is a lake?"
    assert conversation.active_leaf_id == message.id
    path = store.active_path(conversation.id)
    assert [(m.role, m.content) for m in path] == [
        (Role.USER, "What is a lake?\nIn short."),
        (Role.ASSISTANT, "Water."),
    ]
    assert path[1].stats == STATS
    assert path[1].model == "tiny"


def test_regenerate_and_edit_add_siblings_and_lose_nothing(store: Store) -> None:
    prompt = store.start_conversation("one")
    first = answer(store, prompt, "first")
    later = store.add_prompt(prompt.conversation_id, first.id, "two")
    second = answer(store, prompt, "second")
    assert contents(store, prompt.conversation_id) == ["one", "second"]
    assert store.versions(second) == (first.id, second.id)

    store.show_version(first.id)
    assert contents(store, prompt.conversation_id) == ["one", "first", "two"]

    edited = store.add_prompt(prompt.conversation_id, later.parent_id, "two, edited")
    assert contents(store, prompt.conversation_id) == ["one", "first", "two, edited"]
    assert store.versions(edited) == (later.id, edited.id)

    other = store.add_prompt(prompt.conversation_id, None, "one, edited")
    assert store.versions(other) == (prompt.id, other.id)
    assert contents(store, prompt.conversation_id) == ["one, edited"]


def test_an_error_stays_with_its_answer(store: Store) -> None:
    prompt = store.start_conversation("one")
    message = store.begin_answer(prompt, "tiny")
    report = ErrorReport("OutOfMemory", "Not enough memory.", "Try a smaller model.")
    store.end_answer(message.id, "par", Status.FAILED, None, report)
    kept = store.message(message.id)
    assert (kept.content, kept.status, kept.error) == ("par", Status.FAILED, report)


def test_streaming_becomes_stopped_at_the_next_start(store: Store) -> None:
    prompt = store.start_conversation("one")
    message = store.begin_answer(prompt, "tiny")
    store.flush_answer(message.id, "half an answer about herons")
    assert store.message(message.id).status == Status.STREAMING
    store.close()
    again = Store(store.path)
    kept = again.message(message.id)
    assert (kept.status, kept.content) == (Status.STOPPED, "half an answer about herons")
    assert len(again.conversations("herons")) == 1
    again.close()


def test_search_finds_titles_and_contents(store: Store) -> None:
    lake = store.start_conversation("About lakes")
    answer(store, lake, "Perch and *brême* live there.")
    trip = store.start_conversation("Trip to Porto")
    assert [c.id for c in store.conversations()] == [trip.conversation_id, lake.conversation_id]

    def found(query: str) -> list[int]:
        return [c.id for c in store.conversations(query)]

    assert found("port") == [trip.conversation_id]
    assert found("PERCH live") == [lake.conversation_id]
    assert found("breme") == [lake.conversation_id]
    assert found("perch porto") == []
    assert found("  ") == found("")
    store.rename(trip.conversation_id, "Voyage")
    assert found("porto") == [trip.conversation_id]  # the message still says so
    assert found("voyage") == [trip.conversation_id]


@pytest.mark.parametrize("query", ['"', "it's", "a AND", "NEAR(", "*", "!!", "-x", "col:x", '"a"b'])
def test_any_text_can_be_searched_for(store: Store, query: str) -> None:
    store.start_conversation("it's here")
    store.conversations(query)


def test_delete_can_be_undone_until_it_is_purged(store: Store) -> None:
    prompt = store.start_conversation("keep me")
    answer(store, prompt, "yes")
    store.delete(prompt.conversation_id)
    assert store.conversations() == ()
    assert store.conversations("keep") == ()
    store.restore(prompt.conversation_id)
    assert contents(store, prompt.conversation_id) == ["keep me", "yes"]
    store.delete(prompt.conversation_id)
    store.close()
    again = Store(store.path)
    again.restore(prompt.conversation_id)
    assert again.conversations() == ()
    again.close()


def test_an_answer_that_ends_twice_leaves_the_search_whole(store: Store) -> None:
    prompt = store.start_conversation("birds")
    message = store.begin_answer(prompt, "tiny")
    store.end_answer(message.id, "half about herons", Status.STOPPED)
    store.end_answer(message.id, "all about storks", Status.COMPLETE)
    assert store.conversations("herons") == ()
    assert len(store.conversations("storks")) == 1
    store.delete(prompt.conversation_id)
    store.purge_deleted()
    assert store.conversations("storks") == ()


def test_a_damaged_search_index_is_built_again(store: Store) -> None:
    prompt = store.start_conversation("birds")
    answer(store, prompt, "all about storks")
    with sqlite3.connect(store.path) as other:
        other.execute("DELETE FROM messages_fts_data WHERE id > 10")
    other.close()
    assert len(store.conversations("storks")) == 1
    answer(store, prompt, "and about herons")
    assert len(store.conversations("herons")) == 1


def test_a_damaged_search_index_does_not_keep_the_file_closed(store: Store) -> None:
    prompt = store.start_conversation("birds")
    store.begin_answer(prompt, "tiny")
    store.delete(prompt.conversation_id)
    kept = store.start_conversation("all about storks")
    with sqlite3.connect(store.path) as other:
        other.execute("DELETE FROM messages_fts_data WHERE id > 10")
        other.execute("DELETE FROM titles_fts_data WHERE id > 10")
    other.close()
    store.close()
    again = Store(store.path)
    assert [c.id for c in again.conversations("storks")] == [kept.conversation_id]
    again.close()


def test_an_index_that_cannot_be_built_again_is_told_and_blocks_nothing(store: Store) -> None:
    prompt = store.start_conversation("all about storks")
    with sqlite3.connect(store.path) as other:
        other.execute("DELETE FROM messages_fts_data WHERE id > 10")
    other.close()
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="cannot be reached"):
        store.conversations("storks")
    other.execute("ROLLBACK")
    other.close()
    store.rename(prompt.conversation_id, "birds")
    assert len(store.conversations("storks")) == 1


def test_an_index_that_disagrees_is_brought_in_order_by_the_next_version(tmp_path: Path) -> None:
    store = Store(tmp_path / "conversations.sqlite", MIGRATIONS[:1])
    prompt = store.start_conversation("birds")
    message = answer(store, prompt, "about herons")
    store.end_answer(message.id, "about storks", Status.COMPLETE)  # version 1 indexed it once
    store.close()
    store = Store(store.path)
    assert store.conversations("herons") == ()
    assert len(store.conversations("storks")) == 1
    store.close()


def test_half_a_surrogate_pair_can_be_kept_and_searched(store: Store) -> None:
    prompt = store.start_conversation("what is \ud800?")
    assert prompt.content == "what is \ufffd?"
    assert store.add_prompt(prompt.conversation_id, prompt.id, "a \ud83d\ude00").content == "a 😀"
    store.set_draft(None, "\udfff")
    assert store.draft(None) == "\ufffd"
    store.rename(prompt.conversation_id, "\ud800 title")
    assert len(store.conversations("title \ud800")) == 1


def test_a_file_in_use_is_told_soon(store: Store) -> None:
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError, match="cannot be reached"):
        store.start_conversation("wait")
    other.execute("ROLLBACK")
    other.close()
    store.start_conversation("go on")
    assert [c.title for c in store.conversations()] == ["go on"]


def test_drafts_are_kept_per_conversation(store: Store) -> None:
    prompt = store.start_conversation("one")
    store.set_draft(None, "a new thought")
    store.set_draft(prompt.conversation_id, "and then")
    store.close()
    again = Store(store.path)
    assert again.draft(None) == "a new thought"
    assert again.draft(prompt.conversation_id) == "and then"
    again.set_draft(None, "")
    assert again.draft(None) == ""
    again.close()


@pytest.mark.parametrize(
    ("prompt", "title"),
    [
        ("\n\n  Hello   there \nmore", "Hello there"),
        ("", "New chat"),
        ("word " * 30, "word word word word word word word word word word word word…"),
        ("x" * 100, "x" * 60 + "…"),
    ],
)
def test_title(prompt: str, title: str) -> None:
    assert title_of(prompt) == title


def test_a_newer_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "conversations.sqlite"
    Store(path, (*MIGRATIONS, "CREATE TABLE later(id)")).close()
    before = path.read_bytes()
    with pytest.raises(FormatError, match="newer Snug"):
        Store(path)
    assert path.read_bytes() == before


def test_a_migration_keeps_a_copy_of_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "conversations.sqlite"
    store = Store(path)
    store.start_conversation("old")
    store.close()
    store = Store(path, (*MIGRATIONS, "ALTER TABLE conversations ADD COLUMN colour TEXT"))
    assert [c.title for c in store.conversations()] == ["old"]
    store.close()
    backup = Store(tmp_path / f"conversations.sqlite.v{len(MIGRATIONS)}.backup")
    assert [c.title for c in backup.conversations()] == ["old"]
    backup.close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "conversations.sqlite"
    Store(path).close()
    with pytest.raises(sqlite3.OperationalError):
        Store(path, (*MIGRATIONS, "ALTER TABLE conversations ADD COLUMN colour; BROKEN"))
    store = Store(path)
    store.start_conversation("still fine")
    store.close()


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "conversations.sqlite"
    path.write_bytes(b"not a database, " * 1000)
    with pytest.raises(CorruptFile):
        Store(path)


def test_a_place_that_cannot_hold_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable):
        Store(tmp_path / "file" / "conversations.sqlite")


WRITER = """
import sys
from pathlib import Path
from app.store import Status, Store
store = Store(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    prompt = store.start_conversation(f"prompt {number}")
    print("message", prompt.id, flush=True)
    answer = store.begin_answer(prompt, "tiny")
    text = ""
    for word in range(3):
        text += f"word {word} " * 50
        store.flush_answer(answer.id, text)
        print("flushed", answer.id, len(text), flush=True)
    store.end_answer(answer.id, text + "end", Status.COMPLETE)
    print("ended", answer.id, flush=True)
"""


def test_kill_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "conversations.sqlite"
    root = Path(__file__).parents[2]
    dice = random.Random(4)
    for _ in range(8):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], cwd=root, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline()]
            time.sleep(dice.uniform(0, 0.1))
            child.kill()
            lines += child.stdout.readlines()

        check = sqlite3.connect(path)
        assert check.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        check.close()
        store = Store(path)
        lengths: dict[int, int] = {}
        for kind, *numbers in (line.split() for line in lines if line.endswith("\n")):
            message = store.message(int(numbers[0]))
            if kind == "flushed":
                lengths[message.id] = int(numbers[1])
            if kind == "ended":
                assert message.status == Status.COMPLETE
                assert message.content.endswith("end")
            assert message.status in (Status.COMPLETE, Status.STOPPED)
            assert len(message.content) >= lengths.get(message.id, 0)
        store.close()
