"""What a shrink to a size has found out so far, in a folder beside its output: to go on from there.

It is removed when the job ends well, is cancelled, or its input is refused. A job that was paused
or killed leaves it, and one that the computer failed: what took hours is still there when the disk
has room again. What was found out of the model is gone on from by any shrink of the same model,
texts and effort, results only by the very same one.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial
from io import FileIO
from pathlib import Path
from typing import TypeVar

import msgspec

from engine.errors import (
    AlreadyExists,
    EngineError,
    FormatError,
    InferenceError,
    KeptAside,
    TooSmall,
)
from engine.files import as_write_error, bytes_on_disk, lock, make_folder, replace_bytes
from engine.partial import MAX_NOTE_BYTES, Note, release_on_windows
from engine.quantize.shrink_to_size import Key, ShrinkToSize
from engine.quantize.times import Taken, Times

log = logging.getLogger(__name__)

J = TypeVar("J")

# With the same input they would come again, but for the last: there the result is whole.
FINAL = (FormatError, InferenceError, TooSmall, KeptAside)
WORK = ".shrink-"
KEPT = "What was found out so far is kept: the same shrink goes on from there."
NOTE, KEY, LOCK = "job.json", "key", "lock"
MODEL, READING, STATISTICS = "source.gguf", "reading.gguf", "statistics.gguf"
JUDGED, TIMES = ".judged.json", "times.json"


class Workbench:
    """The folder: `path` names a file in it, `load` and `save` keep values, each written whole."""

    def __init__(self, folder: Path, note: Note | None, *, has_new_texts: bool = False) -> None:
        self.folder = folder
        self._note = note
        self.has_new_texts = has_new_texts
        """Whether something was left by the same job, but for texts that say another thing now."""
        self.times = Times(self.load(TIMES, Taken) or Taken(), partial(self._write, TIMES))

    def note(self, size_bytes: int) -> Note | None:
        """The note of a file of `size_bytes` that is written here, to go on with it."""
        return self._note and msgspec.structs.replace(self._note, size_bytes=size_bytes)

    def path(self, name: str) -> Path:
        return self.folder / name

    def load(self, name: str, kind: type[J]) -> J | None:
        """What was saved as `name`; None if nothing was, or nothing that makes sense."""
        try:
            return msgspec.json.decode(self.path(name).read_bytes(), type=kind)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            log.info("nothing to go on from: %s", error)
            return None

    def save(self, name: str, value: object) -> None:
        """Raises StorageError and its kin."""
        self._write(name, value)
        self.times.save_now_and_then()

    def _write(self, name: str, value: object) -> None:
        replace_bytes(self.path(name), msgspec.json.encode(value))


def folder_of(out: Path) -> Path:
    """The folder of a shrink to `out`: names of files may be as long as a disk allows."""
    name = out.name
    if len(name.encode("utf-8", "surrogateescape")) > 200:
        name = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return out.with_name(WORK + name)


def out_of(folder: Path) -> Path | None:
    """What a shrink with the workbench `folder` makes; None if it does not tell."""
    note = read_note(folder)
    job = note and note.read_job(ShrinkToSize)
    for name in (folder.name.removeprefix(WORK), Path(job.out).name if job else ""):
        is_model = name.lower().endswith(".gguf")  # and no hash
        if is_model and folder_of(folder.with_name(name)) == folder:
            return folder.with_name(name)
    return None


@contextmanager
def workbench(out: Path, note: Note | None, key: Key) -> Generator[Workbench, None, None]:
    """Open the workbench of a shrink to `out`; what was left and is not of `key` goes.

    Without a `note` nothing is ever left. Raises AlreadyExists while another process works on it,
    and StorageErrors.
    """
    folder = folder_of(out)
    if folder.is_symlink():
        raise AlreadyExists(
            f"{folder.name} is a link.", hint="Remove it, or choose another name for the new file."
        )
    make_folder(folder)
    keeps = False
    with _opened(folder) as held:
        if not lock(held):
            raise AlreadyExists(
                f"{out.name} is being made by another job.",
                hint="Wait until it has ended, or choose another name.",
                details=str(folder),
            )
        try:
            with as_write_error(folder):
                has_new_texts = _begin(folder, note, key)
            yield Workbench(folder, note, has_new_texts=has_new_texts)
        except (GeneratorExit, *FINAL):  # cancelled, or refused
            raise
        except BaseException as error:
            keeps = note is not None
            if keeps and isinstance(error, EngineError):
                error.hint = f"{error.hint} {KEPT}".strip()
            raise
        finally:
            if not keeps:
                with suppress(OSError):  # what is wrong with the disk was told already
                    _clear(folder, but=LOCK)  # while it is ours alone
                release_on_windows(held)
                shutil.rmtree(folder, ignore_errors=True)


def read_note(folder: Path) -> Note | None:
    """Which job left `folder`; None if it does not tell."""
    try:
        with (folder / NOTE).open("rb") as file:
            data = file.read(MAX_NOTE_BYTES)
        return msgspec.json.decode(data, type=Note)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        log.info("no job to go on with: %s", error)
        return None


def read_key(folder: Path) -> Key | None:
    """What the file is made from that `folder` was left of; None if it does not tell."""
    try:
        with (folder / KEY).open("rb") as file:
            words = file.read(MAX_NOTE_BYTES).decode("ascii", "replace").split()
    except OSError:
        return None
    return Key(*words) if len(words) == len(Key._fields) else None


def is_busy(folder: Path) -> bool:
    """Whether a job works in `folder`; raises OSError."""
    path = folder / LOCK
    if not path.exists():
        return False
    with FileIO(path, "a+") as file:
        return not lock(file)


def size_on_disk(folder: Path) -> int:
    return sum(bytes_on_disk(file) for file in folder.iterdir() if file.is_file())


def _opened(folder: Path) -> FileIO:
    with as_write_error(folder):
        return FileIO(folder / LOCK, "a+")


def _begin(folder: Path, note: Note | None, key: Key) -> bool:
    """Begin with what was left and is of `key`: all, what was found out of the model, or nothing.

    Returns whether it is the last because of the texts.
    """
    left = read_key(folder)
    if not (note and left and left[:2] == key[:2]):
        _clear(folder, but=LOCK)
    elif left.result != key.result:
        for path in filter(_is_of_result, list(folder.iterdir())):
            path.unlink()
    if note:
        replace_bytes(folder / NOTE, msgspec.json.encode(note))
        replace_bytes(folder / KEY, " ".join(key).encode())
    return bool(left and left.study == key.study and left.texts != key.texts)


def _is_of_result(path: Path) -> bool:
    """Whether it is a model in the making, or the figures of one: not what all are made from."""
    is_studied = path.name.startswith((MODEL, READING, STATISTICS))
    return path.name.endswith(JUDGED) or (".gguf" in path.name and not is_studied)


def _clear(folder: Path, but: str) -> None:
    for path in folder.iterdir():
        if path.name == but:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
