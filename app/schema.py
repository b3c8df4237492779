"""The tables of the conversations file, one script a version.

`PRAGMA user_version` counts how many have run; a script that has been shipped never changes.
"""

from __future__ import annotations

INDEX_AGAIN = (
    "INSERT INTO titles_fts(titles_fts) VALUES ('rebuild')",
    "INSERT INTO messages_fts(messages_fts) VALUES ('delete-all')",
    """INSERT INTO messages_fts(rowid, content)
        SELECT id, content FROM messages WHERE status <> 'streaming'""",
)
"""Builds the search indexes from what they index, statement by statement."""

MIGRATIONS = (
    """
    CREATE TABLE conversations (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        title TEXT NOT NULL,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL,
        deleted_at REAL,
        active_leaf_id INTEGER
    );
    CREATE TABLE messages (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        conversation_id INTEGER NOT NULL REFERENCES conversations(id) ON DELETE CASCADE,
        parent_id INTEGER REFERENCES messages(id) ON DELETE CASCADE,
        role TEXT NOT NULL,
        content TEXT NOT NULL,
        status TEXT NOT NULL,
        model TEXT NOT NULL,
        stats TEXT,
        error TEXT,
        created_at REAL NOT NULL
    );
    CREATE INDEX messages_by_parent ON messages(conversation_id, parent_id);
    CREATE INDEX messages_by_status ON messages(status) WHERE status = 'streaming';
    CREATE TABLE drafts (conversation_id INTEGER PRIMARY KEY, text TEXT NOT NULL);

    CREATE VIRTUAL TABLE titles_fts USING fts5(
        title, content='conversations', content_rowid='id',
        tokenize='unicode61 remove_diacritics 2');
    CREATE TRIGGER title_added AFTER INSERT ON conversations BEGIN
        INSERT INTO titles_fts(rowid, title) VALUES (new.id, new.title);
    END;
    CREATE TRIGGER title_changed AFTER UPDATE OF title ON conversations BEGIN
        INSERT INTO titles_fts(titles_fts, rowid, title) VALUES ('delete', old.id, old.title);
        INSERT INTO titles_fts(rowid, title) VALUES (new.id, new.title);
    END;
    CREATE TRIGGER title_removed AFTER DELETE ON conversations BEGIN
        INSERT INTO titles_fts(titles_fts, rowid, title) VALUES ('delete', old.id, old.title);
        DELETE FROM drafts WHERE conversation_id = old.id;
    END;

    -- An answer is indexed once, when it has ended: not with every flush of the stream.
    CREATE VIRTUAL TABLE messages_fts USING fts5(
        content, content='messages', content_rowid='id',
        tokenize='unicode61 remove_diacritics 2');
    CREATE TRIGGER message_added AFTER INSERT ON messages
    WHEN new.status <> 'streaming' BEGIN
        INSERT INTO messages_fts(rowid, content) VALUES (new.id, new.content);
    END;
    CREATE TRIGGER message_ended AFTER UPDATE OF content, status ON messages
    WHEN old.status = 'streaming' AND new.status <> 'streaming' BEGIN
        INSERT INTO messages_fts(rowid, content) VALUES (new.id, new.content);
    END;
    CREATE TRIGGER message_removed AFTER DELETE ON messages
    WHEN old.status <> 'streaming' BEGIN
        INSERT INTO messages_fts(messages_fts, rowid, content)
        VALUES ('delete', old.id, old.content);
    END;
    """,
    # An ended answer may be written once more: what the index held of it goes first.
    """
    DROP TRIGGER message_ended;
    CREATE TRIGGER message_changed AFTER UPDATE OF content, status ON messages BEGIN
        INSERT INTO messages_fts(messages_fts, rowid, content)
        SELECT 'delete', old.id, old.content WHERE old.status <> 'streaming';
        INSERT INTO messages_fts(rowid, content)
        SELECT new.id, new.content WHERE new.status <> 'streaming';
    END;
    INSERT INTO titles_fts(titles_fts) VALUES ('rebuild');
    INSERT INTO messages_fts(messages_fts) VALUES ('delete-all');
    INSERT INTO messages_fts(rowid, content)
        SELECT id, content FROM messages WHERE status <> 'streaming';
    """,
)
