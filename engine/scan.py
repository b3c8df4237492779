"""Looks through the library for the window, in a worker: the two share no lock.

Thousands of models travel in pieces, so that whoever takes them in never holds Python for long. The
pieces lie in a file too, for the first sight of the next start. What is as it was known to be is
not sent again.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Generator, Iterable
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

MODELS_A_PIECE = 100
FILE = "library.jsonl"


class Model(msgspec.Struct, frozen=True, gc=False):
    """`estimate` is what running it would take; None where it does not run as it is."""

    entry: Entry
    estimate: Estimate | None


class Found(msgspec.Struct, frozen=True):
    """The models by name, packed, but none if they are the known ones; the computer as it was."""

    digest: str
    pieces: tuple[msgspec.Raw, ...]
    leftovers: tuple[Leftover, ...]
    disk: DiskUse
    computer: Computer


class ScanLibrary(Job, frozen=True):
    """Look through the models folder, the packed paths `added` and the `places` of other apps.

    `cache` is the folder in which it is remembered what was found; `known` the digest of what the
    one who asks knows already. Raises nothing: what cannot be looked at looks empty.
    """

    Result: ClassVar = Found

    models_folder: str
    added: msgspec.Raw
    places: tuple[Place, ...]
    cache: str
    devices: tuple[Device, ...] = ()
    known: str = ""

    def run(self) -> Generator[Progress, None, Found]:
        folder, cache = Path(self.models_folder), Path(self.cache)
        index = Index(cache / "models.msgpack")
        library = Library(folder, unpack(self.added, tuple[str, ...]), self.places, index)
        entries = yield from library.look()
        models = [Model(entry, library.estimate(entry)) for entry in entries]
        pieces = tuple(
            pack(tuple(models[first : first + MODELS_A_PIECE]))
            for first in range(0, len(models), MODELS_A_PIECE)
        )
        digest = digest_of(pieces)
        if digest != self.known:
            _remember(cache / FILE, pieces)
        return Found(
            digest,
            () if digest == self.known else pieces,
            # Snug names none of its own so that it is no text.
            tuple(left for left in find_leftovers(folder) if is_text(left.path)),
            disk_use(folder, entries),
            detect(self.devices),
        )


def models_of(pieces: Iterable[bytes | msgspec.Raw]) -> tuple[Model, ...]:
    """Unpack the models, a piece at a time."""
    return tuple(model for piece in pieces for model in unpack(piece, tuple[Model, ...]))


def digest_of(pieces: Iterable[bytes | msgspec.Raw]) -> str:
    """Two libraries with the same digest are the same."""
    digest = hashlib.blake2b(digest_size=16)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def recall(cache: Path) -> tuple[str, tuple[Model, ...]]:
    """What the last scan found, with its digest; nothing where it left nothing of use."""
    try:
        version, *pieces = (cache / FILE).read_bytes().split(b"\n")
        if version == __version__.encode():
            return digest_of(pieces), models_of(pieces)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        log.warning("remembered library not used: %s", error)
    return "", ()


def _remember(file: Path, pieces: tuple[msgspec.Raw, ...]) -> None:
    try:
        make_folder(file.parent)
        replace_bytes(file, b"\n".join((__version__.encode(), *map(bytes, pieces))))
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
    value = msgspec.json.decode(data, type=kind | str)
    return msgspec.convert(json.loads(value), kind) if isinstance(value, str) else value
