"""Conversations on disk: a tree of messages a conversation, in one SQLite file.

Knows nothing of Qt, models or prompts. Every call is committed when it returns; nothing that was
written is ever overwritten by another answer: regenerate and edit add siblings. One connection,
used from one thread.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec

from app.schema import INDEX_AGAIN, MIGRATIONS
from app.store_errors import translated
from engine.errors import ErrorReport, FormatError

log = logging.getLogger(__name__)

T = TypeVar("T")

TITLE_CHARS = 60
BUSY_S = 0.2
"""How long another program may hold the file: the window stands still meanwhile."""


class Role(StrEnum):
    USER = "user"
    ASSISTANT = "assistant"


class Status(StrEnum):
    STREAMING = "streaming"
    COMPLETE = "complete"
    STOPPED = "stopped"
    FAILED = "failed"


class AnswerStats(msgspec.Struct, frozen=True):
    """The figures of one answer, kept with it."""

    prompt_tokens: int
    prompt_tokens_evaluated: int
    prompt_tokens_per_second: float
    time_to_first_token_seconds: float
    generation_tokens: int
    generation_tokens_per_second: float
    finish_reason: str
    n_ctx: int
    n_ctx_used: int
    seed: int


class Conversation(msgspec.Struct, frozen=True):
    id: int
    title: str
    created_at: float  # seconds since the epoch
    updated_at: float
    active_leaf_id: int | None


class Message(msgspec.Struct, frozen=True):
    """One node of the tree; `model` is the name of the model that answered."""

    id: int
    conversation_id: int
    parent_id: int | None
    role: Role
    content: str
    status: Status
    model: str
    stats: AnswerStats | None
    error: ErrorReport | None
    created_at: float


class Store:
    """The conversations of one file. Every change is on the disk when its method returns."""

    def __init__(self, path: Path, migrations: tuple[str, ...] = MIGRATIONS) -> None:
        """Open or make the file at `path`, bring it up to date, end what a crash left streaming.

        Raises FormatError for a newer file, CorruptFile, DiskFull, NotWritable.
        """
        self.path = path
        with translated(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_S)
        try:
            with translated(path):
                self._db.row_factory = sqlite3.Row
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.execute("PRAGMA foreign_keys = ON")
                self._migrate(migrations)
            self._write(
                "UPDATE messages SET status = ? WHERE status = ?", Status.STOPPED, Status.STREAMING
            )
            self.purge_deleted()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    # conversations

    def conversations(self, query: str = "") -> tuple[Conversation, ...]:
        """List conversations, last used first; with `query`, those that hold all of its words."""
        query = clean(query)
        words = " ".join(
            f'"{word}"*' for word in query.replace('"', " ").replace("\0", " ").split()
        )
        where, values = "", {}
        if query.strip():
            if not words:
                return ()
            values = {"words": words}
            where = """AND id IN (
                SELECT rowid FROM titles_fts WHERE titles_fts MATCH :words
                UNION SELECT conversation_id FROM messages WHERE id IN (
                    SELECT rowid FROM messages_fts WHERE messages_fts MATCH :words))"""
        sql = f"""SELECT id, title, created_at, updated_at, active_leaf_id FROM conversations
            WHERE deleted_at IS NULL {where} ORDER BY updated_at DESC, id DESC"""
        rows = self._run(lambda: self._db.execute(sql, values).fetchall())
        return tuple(Conversation(**dict(row)) for row in rows)

    def conversation(self, conversation_id: int) -> Conversation:
        with translated(self.path):
            row = self._db.execute(
                """SELECT id, title, created_at, updated_at, active_leaf_id
                FROM conversations WHERE id = ?""",
                (conversation_id,),
            ).fetchone()
        return Conversation(**dict(row))

    def start_conversation(self, prompt: str) -> Message:
        """Make a conversation from its first user message; its title comes from it."""
        now, prompt = time.time(), clean(prompt)

        def insert() -> int:
            row = self._db.execute(
                "INSERT INTO conversations(title, created_at, updated_at) VALUES (?, ?, ?)",
                (title_of(prompt), now, now),
            )
            assert row.lastrowid is not None
            return self._insert(row.lastrowid, None, Role.USER, prompt, Status.COMPLETE, "")

        return self.message(self._commit(insert))

    def rename(self, conversation_id: int, title: str) -> None:
        self._write(
            "UPDATE conversations SET title = ? WHERE id = ?", clean(title), conversation_id
        )

    def delete(self, conversation_id: int) -> None:
        """Hide a conversation; `restore` brings it back until `purge_deleted`."""
        self._write(
            "UPDATE conversations SET deleted_at = ? WHERE id = ?", time.time(), conversation_id
        )

    def restore(self, conversation_id: int) -> None:
        self._write("UPDATE conversations SET deleted_at = NULL WHERE id = ?", conversation_id)

    def purge_deleted(self) -> None:
        """Remove for good what was deleted."""
        self._write("DELETE FROM conversations WHERE deleted_at IS NOT NULL")

    # unsent text; conversation None is the new chat

    def draft(self, conversation_id: int | None) -> str:
        with translated(self.path):
            row = self._db.execute(
                "SELECT text FROM drafts WHERE conversation_id = ?", (conversation_id or 0,)
            ).fetchone()
        return str(row["text"]) if row else ""

    def set_draft(self, conversation_id: int | None, text: str) -> None:
        if text:
            self._write("REPLACE INTO drafts VALUES (?, ?)", conversation_id or 0, clean(text))
        else:
            self._write("DELETE FROM drafts WHERE conversation_id = ?", conversation_id or 0)

    # messages

    def message(self, message_id: int) -> Message:
        with translated(self.path):
            row = self._db.execute("SELECT * FROM messages WHERE id = ?", (message_id,)).fetchone()
        return _message(row)

    def add_prompt(self, conversation_id: int, parent_id: int | None, content: str) -> Message:
        """Add a user message and show it: below the leaf to go on, beside a prompt to edit it."""
        message_id = self._commit(
            lambda: self._insert(
                conversation_id, parent_id, Role.USER, clean(content), Status.COMPLETE, ""
            )
        )
        return self.message(message_id)

    def begin_answer(self, prompt: Message, model: str) -> Message:
        """Add an empty STREAMING answer to `prompt`, beside the ones it has."""
        message_id = self._commit(
            lambda: self._insert(
                prompt.conversation_id, prompt.id, Role.ASSISTANT, "", Status.STREAMING, model
            )
        )
        return self.message(message_id)

    def flush_answer(self, message_id: int, content: str) -> None:
        """Write what has been streamed so far."""
        self._write("UPDATE messages SET content = ? WHERE id = ?", content, message_id)

    def end_answer(
        self,
        message_id: int,
        content: str,
        status: Status,
        stats: AnswerStats | None = None,
        error: ErrorReport | None = None,
    ) -> Message:
        self._write(
            "UPDATE messages SET content = ?, status = ?, stats = ?, error = ? WHERE id = ?",
            content,
            status,
            _json(stats),
            _json(error),
            message_id,
        )
        return self.message(message_id)

    def path_to(self, leaf_id: int | None) -> tuple[Message, ...]:
        """The messages from the first one down to `leaf_id`."""
        with translated(self.path):
            rows = self._db.execute(
                """WITH RECURSIVE path(id, parent_id, depth) AS (
                    SELECT id, parent_id, 0 FROM messages WHERE id = ?
                    UNION ALL
                    SELECT messages.id, messages.parent_id, depth + 1
                    FROM messages JOIN path ON messages.id = path.parent_id)
                SELECT messages.* FROM messages JOIN path USING (id) ORDER BY depth DESC""",
                (leaf_id,),
            ).fetchall()
        return tuple(_message(row) for row in rows)

    def active_path(self, conversation_id: int) -> tuple[Message, ...]:
        return self.path_to(self.conversation(conversation_id).active_leaf_id)

    def last_message_id(self, conversation_id: int, until: float) -> int | None:
        """The newest message that was there at the time `until`, in seconds since the epoch."""
        with translated(self.path):
            sql = "SELECT MAX(id) FROM messages WHERE conversation_id = ? AND created_at <= ?"
            last: int | None = self._db.execute(sql, (conversation_id, until)).fetchone()[0]
        return last

    def versions(self, message: Message) -> tuple[int, ...]:
        """The ids of `message` and its siblings, oldest first."""
        with translated(self.path):
            rows = self._db.execute(
                """SELECT id FROM messages
                WHERE conversation_id = ? AND parent_id IS ? AND role = ? ORDER BY id""",
                (message.conversation_id, message.parent_id, message.role),
            ).fetchall()
        return tuple(row["id"] for row in rows)

    def show_version(self, message_id: int) -> None:
        """Make the newest leaf below `message_id` the active one."""
        self._write(
            """UPDATE conversations SET active_leaf_id = (
                WITH RECURSIVE below(id) AS (
                    VALUES (:id) UNION ALL
                    SELECT messages.id FROM messages JOIN below ON messages.parent_id = below.id)
                SELECT MAX(id) FROM below)
            WHERE id = (SELECT conversation_id FROM messages WHERE id = :id)""",
            id=message_id,
        )

    # inside

    def _insert(
        self,
        conversation_id: int,
        parent_id: int | None,
        role: Role,
        content: str,
        status: Status,
        model: str,
    ) -> int:
        now = time.time()
        cursor = self._db.execute(
            """INSERT INTO messages
            (conversation_id, parent_id, role, content, status, model, created_at)
            VALUES (?, ?, ?, ?, ?, ?, ?)""",
            (conversation_id, parent_id, role, content, status, model, now),
        )
        self._db.execute(
            "UPDATE conversations SET active_leaf_id = ?, updated_at = ? WHERE id = ?",
            (cursor.lastrowid, now, conversation_id),
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def _write(self, sql: str, *values: object, **named: object) -> None:
        self._commit(lambda: self._db.execute(sql, named or values))

    def _commit(self, work: Callable[[], T]) -> T:
        """Run `work` as one transaction: all of it is on the disk, or nothing."""

        def transaction() -> T:
            with self._transaction():
                return work()

        return self._run(transaction)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _run(self, work: Callable[[], T]) -> T:
        """Run `work`; a damaged search index is built anew from the messages and it runs again."""
        with translated(self.path):
            try:
                return work()
            except sqlite3.DatabaseError as error:
                if getattr(error, "sqlite_errorname", "") != "SQLITE_CORRUPT_VTAB":
                    raise
                log.warning("search index built again: %s", error)
                with self._transaction():
                    for step in INDEX_AGAIN:
                        self._db.execute(step)
                return work()

    def _migrate(self, migrations: tuple[str, ...]) -> None:
        (version,) = self._db.execute("PRAGMA user_version").fetchone()
        if version > len(migrations):
            raise FormatError(
                "Your conversations were saved by a newer Snug.",
                hint="Start the newer Snug again; this one leaves the file as it is.",
                details=f"{self.path}: version {version}, this Snug knows {len(migrations)}",
            )
        if version == len(migrations):
            return
        if version:
            self._back_up(version)
        for number, script in enumerate(migrations[version:], start=version + 1):
            self._db.executescript(f"BEGIN; {script}; PRAGMA user_version = {number}; COMMIT;")

    def _back_up(self, version: int) -> None:
        """Copy the whole file beside itself before its tables change."""
        backup_path = self.path.with_name(f"{self.path.name}.v{version}.backup")
        backup = sqlite3.connect(backup_path)
        try:
            self._db.backup(backup)
        finally:
            backup.close()


def clean(text: str) -> str:
    """Text that can be stored and sent: half a surrogate pair becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def title_of(prompt: str) -> str:
    """A title from a user message: its first line with words, cut between words."""
    line = next((line for line in prompt.splitlines() if line.strip()), "")
    line = " ".join(line.split())
    if len(line) <= TITLE_CHARS:
        return line or "New chat"
    cut = line[:TITLE_CHARS].rsplit(" ", 1)[0] if " " in line[:TITLE_CHARS] else line[:TITLE_CHARS]
    return cut.rstrip(" ,.;:") + "…"


def _message(row: sqlite3.Row) -> Message:
    values = dict(row)
    if values["stats"] is not None:
        values["stats"] = msgspec.json.decode(values["stats"], type=AnswerStats)
    if values["error"] is not None:
        values["error"] = msgspec.json.decode(values["error"], type=ErrorReport)
    values["role"], values["status"] = Role(values["role"]), Status(values["status"])
    return Message(**values)


def _json(value: AnswerStats | ErrorReport | None) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
