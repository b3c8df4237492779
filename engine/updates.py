"""Whether there is a newer Snug: one small signed file, fetched only if the user agreed to it.

The file is `{"release": TEXT, "signature": BASE64}`: TEXT is the JSON of a `Release`, signed with
Ed25519 (RFC 8032) by the key of which resources/updates.json holds the public half. What is not
signed so is not believed, whoever served it. Nothing is ever installed; an old file that is served
again only says nothing new. `packaging/sign_update.py` makes keys and files.
"""

from __future__ import annotations

import base64
import binascii
import re
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
MAX_BYTES = 64 << 10
STALLED_S = 10.0


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

    Raises NetworkError if the file cannot be had, CorruptFile if it is not signed as it should be.
    """

    Result: ClassVar = Release | None

    address: Address
    at_once: bool = False

    def run(self) -> Generator[Progress, None, Release | None]:
        yield Progress("Looking for a newer Snug", 0, None, "steps")
        kept = folders().cache / "update.json"
        if self.at_once or not _is_of_today(kept):
            data = _fetch(self.address.feed)
            read_release(data, self.address.public_key)
            make_folder(kept.parent)
            replace_bytes(kept, data)
        release = read_release(kept.read_bytes(), self.address.public_key)
        return release if _number(release.version) > _number(__version__) else None


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


def _fetch(feed: str) -> bytes:
    import urllib3
    from urllib3.exceptions import HTTPError

    from engine.hub.connections import open_pool

    hint = "Check the connection; Snug looks again tomorrow."
    try:
        with open_pool(feed, 1, STALLED_S) as pool:
            answer: urllib3.BaseHTTPResponse = pool.request(
                "GET", feed, headers={"User-Agent": "Snug"}, preload_content=False
            )
            data = answer.read(MAX_BYTES + 1)
    except HTTPError as error:
        raise NetworkError(
            "Snug could not find out whether there is a newer version.",
            hint=hint,
            details=str(error),
        ) from error
    if answer.status != 200 or len(data) > MAX_BYTES:
        raise NetworkError(
            "The server did not tell whether there is a newer Snug.",
            hint=hint,
            details=f"status {answer.status}, {len(data)} bytes",
        )
    return data
