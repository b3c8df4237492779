"""What is told of a newer version is believed only if its makers signed it."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sign_update import make_key, signed

from engine import __version__, updates
from engine.errors import CorruptFile, NetworkError
from engine.folders import folders
from engine.jobs import finish
from engine.updates import DAY_S, MAX_BYTES, Address, LookForUpdate, Release, read_release
from tests.helpers.update_feed import Feed, update_feed


@pytest.fixture
def feed(tmp_path: Path) -> Iterator[Feed]:
    with update_feed(tmp_path) as made:
        yield made


def look(feed: Feed, *, at_once: bool = False) -> Release | None:
    found: Release | None = finish(LookForUpdate(feed.address, at_once).run())
    return found


def test_a_newer_version_is_told_and_asked_for_once_a_day(feed: Feed) -> None:
    release = feed.tell("7.10.2", "It is faster.", "It is smaller.")
    assert look(feed) == look(feed) == release
    assert feed.n_asked == 1
    assert look(feed, at_once=True) == release
    assert feed.n_asked == 2
    tomorrow()
    assert look(feed) == release
    assert feed.n_asked == 3


def tomorrow() -> None:
    """Let a day pass, as far as files tell."""
    for name in ("update.json", "update-asked"):
        path = folders().cache / name
        if path.exists():
            stat = path.stat()
            os.utime(path, (stat.st_atime, stat.st_mtime - DAY_S - 1))


@pytest.mark.parametrize(("status", "answer"), [(503, b""), (200, b"{}")])
def test_a_server_that_does_not_tell_is_asked_once_a_day_too(
    feed: Feed, status: int, answer: bytes
) -> None:
    feed.status, feed.answer = status, answer
    with pytest.raises((NetworkError, CorruptFile)):
        look(feed)
    for _ in range(3):
        with pytest.raises(NetworkError, match="could not find out today"):
            look(feed)
    assert feed.n_asked == 1
    tomorrow()
    feed.status = 200
    feed.tell(__version__)
    assert look(feed) is look(feed) is None
    assert feed.n_asked == 2
    tomorrow()
    feed.status = 503
    with pytest.raises(NetworkError, match="did not tell"):
        look(feed)
    with pytest.raises(NetworkError, match="could not find out today"):
        look(feed)  # what was so yesterday may not be so any more
    assert feed.n_asked == 3


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"])
def test_a_server_that_takes_for_ever_is_given_up(
    feed: Feed, head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(updates, "DEADLINE_S", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        over = threading.Event()

        def dribble() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(head or b"HTTP/1.1 200 OK\r\nX-Long: ")
                while not over.wait(0.2):
                    connection.sendall(b"x")

        thread = threading.Thread(target=dribble)
        thread.start()
        feed.url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        started = time.monotonic()
        try:
            with pytest.raises(NetworkError, match="within 2 s"):
                look(feed)
            assert time.monotonic() - started < 5
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("version", [__version__, "0.0.9", "0.1"])
def test_no_other_version_is_news(feed: Feed, version: str) -> None:
    feed.tell(version)
    assert look(feed) is None


def test_no_changed_byte_is_believed(feed: Feed) -> None:
    feed.tell("9.0", "It is faster.")
    data = feed.answer
    for at in range(len(data)):
        for flip in (0x01, 0x80):
            changed = data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
            try:
                found = read_release(changed, feed.public_key)
            except CorruptFile:
                continue
            # Only a byte that JSON does not look at may be another one.
            assert found == read_release(data, feed.public_key)


def test_the_key_of_another_is_not_believed(feed: Feed, tmp_path: Path) -> None:
    feed.tell("9.0")
    other = make_key(tmp_path / "other")
    for key in (other, "", "AAAA", "no key", feed.public_key[:-4]):
        with pytest.raises(CorruptFile, match="not from its makers"):
            read_release(feed.answer, key)


@pytest.mark.parametrize(
    ("version", "page"),
    [("9.0", "http://snug.invalid"), ("9.0", "file:///etc/passwd"), ("9", "https://a"), ("x", "")],
)
def test_nothing_is_signed_that_no_window_believes(feed: Feed, version: str, page: str) -> None:
    with pytest.raises(CorruptFile):
        signed(feed.private, Release(version, page))


def test_what_is_refused_leaves_what_was_known(feed: Feed) -> None:
    release = feed.tell("9.0")
    look(feed)
    for feed.status, feed.answer in (
        (404, b"{}"),
        (500, b""),
        (200, b"x" * (MAX_BYTES + 1)),
    ):
        with pytest.raises(NetworkError):
            look(feed, at_once=True)
    feed.answer = msgspec.json.encode({"release": "{}", "signature": ""})
    with pytest.raises(CorruptFile):
        look(feed, at_once=True)
    assert look(feed) == release


def test_no_server_is_an_error_in_words(feed: Feed) -> None:
    with pytest.raises(NetworkError, match="could not find out"):
        finish(LookForUpdate(Address("http://127.0.0.1:9/", feed.public_key)).run())
