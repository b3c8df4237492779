"""Downloads a model as one thing: a GGUF with all its parts, or a whole checkpoint.

It goes to FOLDER/owner/name/, as other apps lay it out. Until everything is there and verified it
lies in a hidden folder beside its place, with a note of what is being fetched: that is what a later
start resumes or discards.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Generator
from io import FileIO
from pathlib import Path
from typing import ClassVar

import msgspec

from engine.errors import AccessDenied, AlreadyExists, NotFound
from engine.files import bytes_on_disk, disk_full, lock, make_folder, replace_bytes, write_error
from engine.hub.hub import Hub, access_denied
from engine.hub.names import safe_path, safe_paths
from engine.hub.part import KEPT_FREE_BYTES
from engine.hub.provenance import Source, note_source, read
from engine.hub.repo import HubFile, Repo, Variant
from engine.hub.token import load_token
from engine.jobs import Job, Progress

log = logging.getLogger(__name__)

STAGING = ".download-"
NOTE = "download.json"
MAX_TITLE = 150
BETWEEN_FILES_S = 2.0
"""After so long without a part a download is not merely between two of its files."""


class Downloaded(msgspec.Struct, frozen=True):
    """`path` is the GGUF (its first part) or the checkpoint's folder."""

    path: str
    repo: str
    revision: str
    label: str
    size_bytes: int


class Download(Job, frozen=True):
    """Fetch one variant of `repo` below `folder`, verified; what is here already is not fetched.

    `wanted` is the label of a variant (Q4_K_M, Checkpoint) or the name of a file; empty takes the
    only one. Cancelled or broken off it keeps what it has, and the same job goes on from there.
    Raises NotFound, AccessDenied, NetworkError, UnsafeFile for names that are no plain names,
    AlreadyExists where another file has the place, DiskFull and its kin, CorruptFile.
    """

    Result: ClassVar = Downloaded
    can_resume: ClassVar = True
    keeps_when_cancelled: ClassVar = True

    repo: str
    folder: str
    wanted: str = ""
    revision: str = ""
    bytes_per_second: int = 0
    is_offline: bool = False

    def run(self) -> Generator[Progress, None, Downloaded]:
        yield Progress("Asking the hub", 0, None, "bytes")
        hub = Hub(load_token(), is_offline=self.is_offline)
        repo = hub.repo(self.repo, self.revision)
        variant = choose(repo, self.wanted)
        place = Place(Path(self.folder), repo, variant)
        if not place.is_finished():
            place.prepare(self)
            try:
                yield from self._fetch(hub, repo, variant, place)
            finally:
                place.tidy()
            place.publish()
        return Downloaded(
            path=str(place.path),
            repo=repo.id,
            revision=repo.revision,
            label=variant.label,
            size_bytes=variant.size_bytes,
        )

    def _fetch(
        self, hub: Hub, repo: Repo, variant: Variant, place: Place
    ) -> Generator[Progress, None, None]:
        from engine.hub.transfer import transfer  # and with it the connections: 40 ms

        done_bytes = 0
        for file in variant.files:
            target = place.staged(file.name)
            if not (target.exists() or place.has(file)):
                steps = transfer(
                    hub.wanted(repo, file), target, hub.headers(), self.bytes_per_second
                )
                try:
                    for step in steps:
                        done = done_bytes + step.done
                        yield Progress(step.stage, done, variant.size_bytes, "bytes")
                except AccessDenied as error:
                    raise access_denied(hub.page(repo.id), error.details) from error
                finally:
                    steps.close()
            done_bytes += file.size_bytes


def choose(repo: Repo, wanted: str) -> Variant:
    """The variant of that label, or with that file; raises NotFound with what there is."""
    variants = repo.variants()
    if not variants:
        raise NotFound(
            f"{repo.id} has neither a GGUF file nor a checkpoint in safetensors.",
            hint="Look for the same model with GGUF in its name.",
        )
    labels = ", ".join(variant.label for variant in variants)
    if not wanted:
        if len(variants) > 1:
            raise NotFound(f"{repo.id} has several files.", hint=f"Choose one of: {labels}.")
        return variants[0]
    for variant in variants:
        if any(file.name == wanted for file in variant.files):
            return variant
    matching = [v for v in variants if v.label.upper() == wanted.upper()]
    if not matching:
        raise NotFound(f"{repo.id} has no {wanted}.", hint=f"Choose one of: {labels}.")
    if len(matching) > 1:
        names = ", ".join(variant.main_file.name for variant in matching)
        raise NotFound(f"{repo.id} has several {wanted}.", hint=f"Choose a file: {names}.")
    return matching[0]


class Place:
    """Where a variant goes, and the hidden folder in which it is put together."""

    def __init__(self, models_folder: Path, repo: Repo, variant: Variant) -> None:
        self._repo, self._variant = repo, variant
        self._names = safe_paths(file.name for file in variant.files)
        self._home = models_folder / safe_path(repo.id)
        title = "--".join(safe_path(variant.main_file.name).parts)
        self.staging = self._home / f"{STAGING}{title[-MAX_TITLE:]}"

    @property
    def path(self) -> Path:
        """What a finished download is called by."""
        if self._variant.format == "safetensors":
            return self._home
        return self._home / self._names[self._variant.main_file.name]

    def source(self) -> Source | None:
        """Where the main file that is in its place came from, if a download brought it."""
        name = self._variant.main_file.name
        if not (self._home / self._names[name]).exists():
            return None
        return read(self._home).files.get(name)

    def staged(self, name: str) -> Path:
        return self.staging / self._names[name]

    def is_finished(self) -> bool:
        return not self.staging.exists() and all(map(self.has, self._variant.files))

    def has(self, file: HubFile) -> bool:
        """Whether `file` is in its place, by the note of an earlier download.

        Raises AlreadyExists for any other file of that name: it may be the user's own.
        """
        target = self._home / self._names[file.name]
        if not target.exists():
            return False
        source = read(self._home).files.get(file.name)
        is_it = source and source.digest == file.digest
        if not is_it or target.stat().st_size != file.size_bytes:
            raise self._taken(file)
        return True

    def _taken(self, file: HubFile) -> AlreadyExists:
        return AlreadyExists(
            f"Another {file.name} is in {self._home} already.",
            hint="Move it away or remove it, or download to another folder.",
        )

    def prepare(self, job: Download) -> None:
        """Make room, and leave the note by which a later start finds what it can resume."""
        self._drop_other_versions()
        files = self._variant.files
        # In its place already: fetched before, or moved there when a kill came between.
        placed = [f for f in files if not self.staged(f.name).exists() and self.has(f)]
        for file in files:
            make_folder(self.staged(file.name).parent)
        here_bytes = size_on_disk(self.staging) + sum(file.size_bytes for file in placed)
        missing_bytes = self._variant.size_bytes - here_bytes
        free_bytes = shutil.disk_usage(self.staging).free
        if free_bytes < missing_bytes + KEPT_FREE_BYTES:
            if not size_on_disk(self.staging):
                discard(self.staging)
            raise disk_full(
                self.path, needed_bytes=missing_bytes + KEPT_FREE_BYTES, free_bytes=free_bytes
            )
        note = Note(
            msgspec.structs.replace(job, repo=self._repo.id, revision=self._repo.revision),
            self._variant.label,
            self._variant.size_bytes,
            {file.name: file.digest for file in files},
        )
        replace_bytes(self.staging / NOTE, msgspec.json.encode(note))

    def _drop_other_versions(self) -> None:
        """Take away whole files that are not those of this version; a part tells by itself."""
        note = read_note(self.staging)
        if note is None or note.job.revision == self._repo.revision:
            return
        for file in self._variant.files:
            if not file.digest or note.digests.get(file.name) != file.digest:
                self.staged(file.name).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Leave no note of a download of which nothing came."""
        files = [path.name for path in self.staging.rglob("*") if path.is_file()]
        if files == [NOTE]:
            discard(self.staging)

    def publish(self) -> None:
        """Give all files their places, the one that makes it a model last.

        Raises AlreadyExists where something has taken a place meanwhile; what was fetched stays.
        """
        missing = [file for file in self._variant.files if self.staged(file.name).exists()]
        for file in missing:
            if (self._home / self._names[file.name]).exists():
                raise self._taken(file)
        note_source(self._home, self._repo, self._variant)
        for file in reversed(missing):  # the others were moved before a kill
            target = self._home / self._names[file.name]
            make_folder(target.parent)
            try:
                self.staged(file.name).replace(target)
            except OSError as error:
                raise write_error(error, target) from error
        discard(self.staging)


class Note(msgspec.Struct, frozen=True):
    """What lies in a hidden folder: the job that goes on with it, and how large it will be."""

    job: Download
    label: str
    size_bytes: int
    digests: dict[str, str] = {}
    """Of its files, by their names on the hub."""

    @property
    def title(self) -> str:
        """What one calls the download: the model and the variant."""
        return f"{self.job.repo.rpartition('/')[2]}, {self.label}"


def read_note(staging: Path) -> Note | None:
    """The note in a hidden folder; None where there is none that can be read."""
    try:
        return msgspec.json.decode((staging / NOTE).read_bytes(), type=Note)
    except (OSError, msgspec.DecodeError) as error:
        log.info("no download to go on with: %s", error)
        return None


def is_busy(staging: Path) -> bool:
    """Whether a process is fetching into this folder, or was a moment ago."""
    for path in staging.rglob("*"):
        if path.suffix == ".part":
            try:
                with FileIO(path, "r+") as part:
                    if not lock(part):
                        return True
            except OSError:
                return True
        elif time.time() - path.stat().st_mtime < BETWEEN_FILES_S:
            return True
    return False


def size_on_disk(folder: Path) -> int:
    """What the files of a download in the making take; sparse ones count as far as they are."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += bytes_on_disk(path)
    return total


def discard(staging: Path) -> None:
    """Remove what a download has so far, and folders that it leaves empty."""
    shutil.rmtree(staging, ignore_errors=True)
    for folder in (staging.parent, staging.parent.parent):
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()
