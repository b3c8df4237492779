"""A model of the hub as a folder of headers: what it is and what it would need, for a few MB.

Every file is there with its full length, but sparse: of a GGUF or safetensors file only the header
is fetched, by HTTP ranges, of a checkpoint the small files too. So all that reads the headers of
models on this disk reads these as well.
"""

from __future__ import annotations

import struct
from collections.abc import Generator
from pathlib import Path

import httpx2

from engine.errors import CorruptFile, NetworkError
from engine.gguf_header import read_header
from engine.hub.hub import Hub, http_error
from engine.hub.names import safe_paths
from engine.hub.repo import HubFile, Repo, Variant
from engine.jobs import Progress

MAX_SMALL_BYTES = 64 << 20
"""A tokenizer in JSON has up to 33 MB; nothing but weights is larger."""
MAX_SEEN_BYTES = 100_000_000
"""Of a file that nobody asked to download yet; a vocabulary of 260,000 tokens takes 16 MB."""
TIMEOUT_S = 4.0
"""Without a byte. A worker that is told to stop has five seconds."""


def fetch_outline(
    hub: Hub, repo: Repo, variant: Variant, folder: Path
) -> Generator[Progress, None, Path]:
    """Make the outline of `variant` in `folder`; returns the path that stands for the model.

    Raises NetworkError, AccessDenied, NotFound, CorruptFile, UnsafeFile; OSError of the disk.
    """
    names = safe_paths(file.name for file in variant.files)
    with httpx2.Client(follow_redirects=True, timeout=TIMEOUT_S) as client:
        for i, file in enumerate(variant.files):
            yield Progress("Reading the header", i, len(variant.files), "steps")
            path = folder / names[file.name]
            path.parent.mkdir(parents=True, exist_ok=True)
            head = _head(_RemoteFile(client, hub, repo, file))
            with path.open("wb") as out:
                out.write(head)
                out.truncate(file.size_bytes)
    return folder if variant.format == "safetensors" else folder / names[variant.main_file.name]


def _head(remote: _RemoteFile) -> bytes:
    """As much of a file as tells what is in the rest of it."""
    name = remote.file.name
    if name.endswith(".gguf"):
        read_header(remote, Path(name).name, remote.file.size_bytes)
        return remote.seen
    if name.endswith(".safetensors"):
        (n_bytes,) = struct.unpack("<Q", remote.read(8).ljust(8, b"\0"))
        remote.read(n_bytes)
        return remote.seen
    if remote.file.size_bytes > MAX_SMALL_BYTES:
        raise CorruptFile(f"{name} is far larger than such a file can be.")
    return remote.read(remote.file.size_bytes)


class _RemoteFile:
    """A file of the hub, read from its beginning on; `seen` is what was read so far."""

    def __init__(self, client: httpx2.Client, hub: Hub, repo: Repo, file: HubFile) -> None:
        self.file = file
        self.seen = b""
        self._client = client
        self._hub, self._repo = hub, repo

    def read(self, n_bytes: int) -> bytes:
        """The next bytes, fewer at the end of the file only; raises NetworkError and its kin."""
        start = len(self.seen)
        stop = min(start + n_bytes, self.file.size_bytes)
        if start == stop:
            return b""
        if stop > MAX_SEEN_BYTES:
            raise CorruptFile(f"The header of {self.file.name} is far larger than it should be.")
        headers = {
            **self._hub.headers(),
            "Range": f"bytes={start}-{stop - 1}",
            "Accept-Encoding": "identity",
        }
        url = self._hub.url(self._repo, self.file.name)
        data = b""
        try:
            with self._client.stream("GET", url, headers=headers) as answer:
                if answer.status_code not in (200, 206):
                    raise http_error(answer.status_code, self._hub.page(self._repo.id), url)
                to_skip = start if answer.status_code == 200 else 0  # it sends all of it
                for piece in answer.iter_raw():
                    data += piece
                    if len(data) >= to_skip + stop - start:
                        break
                data = data[to_skip : to_skip + stop - start]
        except httpx2.HTTPError as error:
            raise NetworkError(
                "The hub cannot be reached.",
                hint="Check the connection and try again.",
                details=str(error)[:300],
            ) from error
        if len(data) < stop - start:
            raise NetworkError("The hub broke off its answer.", hint="Try again.")
        self.seen += data
        return data
