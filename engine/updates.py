"""Whether there is a newer Snug: one small signed file, fetched only if the user agreed to it.

The file is `{"release": TEXT, "signature": BASE64}`: TEXT is the JSON of a `Release`, signed with
Ed25519 (RFC 8032) by the key of which resources/updates.json holds the public half. What is not
signed so is not believed, whoever served it. Nothing is ever installed; an old file that is served
again only says nothing new. `packaging/sign_update.py` makes keys and files.
"""

from __future__ import annotations

import base64
import binascii
import queue
import re
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import ClassVar

import msgspec

from engine import __version__
from engine.errors import CorruptFile, NetworkError
from engine.files import make_folder, replace_bytes
from engine.folders import folders
from engine.jobs import Job, Progress

ADDRESS = Path(__file__).resolve().parent.parent / "resources" / "updates.json"
DAY_S = 86_400
STAGE = "Looking for a newer Snug"
HINT = "Check the connection; Snug looks again tomorrow."
MAX_BYTES = 64 << 10
STALLED_S = 10.0
DEADLINE_S = 30.0
"""For all of it: a server that says a word now and then would keep it for days."""
POLL_S = 0.1


class Address(msgspec.Struct, frozen=True):
    """Where this build's updates are told, and the key, in base64; both empty: nowhere."""

    feed: str = ""
    public_key: str = ""


class Release(msgspec.Struct, frozen=True):
    """A version, the https page to get it from, and what is new in it, a sentence each."""

    version: str
    page: str
    news: tuple[str, ...] = ()


class _Signed(msgspec.Struct, frozen=True):
    release: str
    signature: str


def address() -> Address:
    """That of this build; a build from source has none."""
    return msgspec.json.decode(ADDRESS.read_bytes(), type=Address)


class LookForUpdate(Job, frozen=True):
    """The newest release, if it is newer than this one; asks the network once a day at most.

    `at_once` asks in any case. Raises NetworkError if the file cannot be had, or could not today;
    CorruptFile if it is not signed as it should be; StorageError if the disk cannot keep the date.
    """

    Result: ClassVar = Release | None

    address: Address
    at_once: bool = False

    def run(self) -> Generator[Progress, None, Release | None]:
        yield Progress(STAGE, 0, None, "steps")
        kept, asked = folders().cache / "update.json", folders().cache / "update-asked"
        if self.at_once or not _is_of_today(asked):
            make_folder(asked.parent)
            replace_bytes(asked, b"")  # also if it fails: its date is what counts
            data = yield from _fetch_in_time(self.address.feed)
            read_release(data, self.address.public_key)
            replace_bytes(kept, data)
        release = None
        if kept.exists():
            release = read_release(kept.read_bytes(), self.address.public_key)
        if release and _number(release.version) > _number(__version__):
            return release
        if release is None or kept.stat().st_mtime < asked.stat().st_mtime:
            raise NetworkError(
                "Snug could not find out today whether there is a newer version.", hint=HINT
            )
        return None


def read_release(data: bytes, public_key: str) -> Release:
    """What a signed file says; raises CorruptFile unless the key's owner has said so."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        signed = msgspec.json.decode(data, type=_Signed)
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key, validate=True))
        key.verify(base64.b64decode(signed.signature, validate=True), signed.release.encode())
        release = msgspec.json.decode(signed.release, type=Release)
        if not release.page.startswith("https://"):
            raise ValueError(f"a page at {release.page[:80]!r}")
        _number(release.version)
    except (InvalidSignature, msgspec.DecodeError, binascii.Error, ValueError) as error:
        raise CorruptFile(
            "What was told of a newer Snug is not from its makers, or was damaged on the way.",
            hint="Nothing was changed. Look on Snug's own page if you like.",
            details=f"{type(error).__name__}: {error}",
        ) from error
    return release


def _number(version: str) -> tuple[int, ...]:
    """ValueError for what is no version such as 1.2.3."""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6}){1,3}", version):
        raise ValueError(f"no version: {version[:40]!r}")
    return tuple(map(int, version.split(".")))


def _is_of_today(kept: Path) -> bool:
    try:
        return 0 <= time.time() - kept.stat().st_mtime < DAY_S
    except OSError:
        return False


def _fetch_in_time(feed: str) -> Generator[Progress, None, bytes]:
    """What is at `feed`; raises NetworkError, after DEADLINE_S at the latest.

    On a thread, as a name server or the head of an answer can take any time too. One that is given
    up ends with the worker.
    """
    ended: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def fetch() -> None:
        try:
            ended.put(_fetch(feed))
        except Exception as error:  # noqa: BLE001 - raised below
            ended.put(error)

    threading.Thread(target=fetch, name="look-for-update", daemon=True).start()
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        yield Progress(STAGE, 0, None, "steps")
        try:
            end = ended.get(timeout=POLL_S)
        except queue.Empty:
            continue
        if isinstance(end, Exception):
            raise end
        return end
    raise NetworkError(
        f"The server did not tell within {DEADLINE_S:.0f} s whether there is a newer Snug.",
        hint=HINT,
    )


def _fetch(feed: str) -> bytes:
    import urllib3
    from urllib3.exceptions import HTTPError

    from engine.hub.connections import open_pool

    try:
        with open_pool(feed, 1, STALLED_S) as pool:
            answer: urllib3.BaseHTTPResponse = pool.request(
                "GET", feed, headers={"User-Agent": "Snug"}, preload_content=False
            )
            data = answer.read(MAX_BYTES + 1)
    except HTTPError as error:
        raise NetworkError(
            "Snug could not find out whether there is a newer version.",
            hint=HINT,
            details=str(error),
        ) from error
    if answer.status != 200 or len(data) > MAX_BYTES:
        raise NetworkError(
            "The server did not tell whether there is a newer Snug.",
            hint=HINT,
            details=f"status {answer.status}, {len(data)} bytes",
        )
    return data
