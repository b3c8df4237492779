"""Looks through the library for the window, in a worker: the two share no lock.

Each model is known by the digest of what is said of it. Only what is new is told, one by one, so
that whoever takes in thousands of models never holds Python for long. All of it lies in a file too,
for the first sight of the next start.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Generator
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec

from engine import __version__
from engine.contents import Index
from engine.disk_use import DiskUse, disk_use
from engine.errors import StorageError
from engine.files import make_folder, replace_bytes
from engine.fit.estimate import Estimate
from engine.hardware import Computer, Device, detect
from engine.jobs import Job, Progress
from engine.leftovers import Leftover, find_leftovers
from engine.library import Entry, Library
from engine.other_apps import Place
from engine.walk import is_text

log = logging.getLogger(__name__)
T = TypeVar("T")

FILE = "library.jsonl"


class Model(msgspec.Struct, frozen=True, gc=False):
    """`estimate` is what running it would take; None where it does not run as it is."""

    entry: Entry
    estimate: Estimate | None


class Found(msgspec.Struct, frozen=True):
    """The digests of all models, by name, and what is `new`; the computer as it was then."""

    digests: tuple[str, ...]
    new: dict[str, msgspec.Raw]
    """By its digest each model that was not known, packed."""
    leftovers: tuple[Leftover, ...]
    disk: DiskUse
    computer: Computer


class ScanLibrary(Job, frozen=True):
    """Look through the models folder, the packed paths `added` and the `places` of other apps.

    In `cache_folder` it is remembered what was found; `known` are the digests of the models that
    the one who asks has, in order. Raises nothing: what cannot be looked at looks empty.
    """

    Result: ClassVar = Found

    models_folder: str
    added: msgspec.Raw
    places: tuple[Place, ...]
    cache_folder: str
    devices: tuple[Device, ...] = ()
    known: tuple[str, ...] = ()

    def run(self) -> Generator[Progress, None, Found]:
        folder, kept = Path(self.models_folder), Path(self.cache_folder)
        index = Index(kept / "models.msgpack")
        library = Library(folder, unpack(self.added, tuple[str, ...]), self.places, index)
        entries = yield from library.look()
        packed = [pack(Model(entry, library.estimate(entry))) for entry in entries]
        by_digest = {_digest(model): model for model in packed}
        if tuple(by_digest) != self.known:
            _remember(kept / FILE, packed)
        return Found(
            tuple(by_digest),
            {digest: by_digest[digest] for digest in by_digest.keys() - set(self.known)},
            # Snug names none of its own so that it is no text.
            tuple(left for left in find_leftovers(folder) if is_text(left.path)),
            disk_use(folder, entries),
            detect(self.devices),
        )


def recall(cache_folder: Path) -> dict[str, Model]:
    """What the last scan found, by digest; nothing where it left nothing of use."""
    try:
        version, *packed = (cache_folder / FILE).read_bytes().split(b"\n")
        if version == __version__.encode():
            return {_digest(model): unpack(model, Model) for model in packed}
    except FileNotFoundError:
        pass
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        log.warning("remembered library not used: %s", error)
    return {}


def _digest(packed: bytes | msgspec.Raw) -> str:
    return hashlib.blake2b(packed, digest_size=12).hexdigest()


def _remember(file: Path, models: list[msgspec.Raw]) -> None:
    try:
        make_folder(file.parent)
        replace_bytes(file, b"\n".join((__version__.encode(), *map(bytes, models))))
    except StorageError as error:  # the next start only sees nothing until its scan has ended
        log.warning("library not remembered: %s", error.details)


def pack(value: Any) -> msgspec.Raw:
    """JSON of `value`; as a string in JSON where a name in it is no text.

    On Unix a name may be any bytes. msgspec's JSON cannot hold them, that of Python can.
    """
    try:
        return msgspec.Raw(msgspec.json.encode(value))
    except UnicodeEncodeError:
        return msgspec.Raw(msgspec.json.encode(json.dumps(msgspec.to_builtins(value))))


def unpack(data: bytes | msgspec.Raw, kind: type[T]) -> T:
    """What was packed; raises msgspec.MsgspecError or ValueError for what was not."""
    value: T | str = _decoder(kind).decode(data)  # type: ignore[arg-type]  # types are hashable
    return msgspec.convert(json.loads(value), kind) if isinstance(value, str) else value


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind | str)
