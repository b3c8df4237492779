"""A hub on loopback that serves files as the real one does, and misbehaves on request.

`/OWNER/NAME/resolve/REVISION/FILE` answers with a redirect to `/cdn/...`, as the hub sends to its
storage; `/api/models/...` describes what there is. What goes wrong is a `Fault`, taken one by one.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Fault:
    """What the storage does wrong with one answer (`times` answers).

    `kind` is "cut" (after `at` bytes of the body), "stall" (for `seconds`, after `at` bytes),
    "flip" (the byte at `at` of the file), "status" (`status`, with `retry_after`), "no ranges"
    (200 and all of it), "wrong range" (a Content-Range one byte off), "changed" (another ETag and
    other bytes from now on), "loop" (redirects to itself), "short" (says and sends less), "empty"
    (says that it has what was asked for, and sends nothing).
    """

    kind: str
    at: int = 0
    status: int = 0
    seconds: float = 0.0
    retry_after: str = ""
    times: int = 1


@dataclass
class Repo:
    """A model repository: file names and their bytes; gated ones want a token."""

    files: dict[str, bytes]
    revision: str = "0" * 40
    token: str = ""
    tags: tuple[str, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class FakeHub:
    """The state of the server: what it has, what goes wrong next, what it was asked."""

    url: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[tuple[str, str, str]] = field(default_factory=list)
    """(method, path, Range) of every request to the storage."""
    searches: list[dict[str, list[str]]] = field(default_factory=list)
    answer: tuple[int, Any] | None = None
    """What the next searches and descriptions are answered with, whatever is asked."""
    tokens_at_storage: list[str] = field(default_factory=list)
    n_body_bytes: int = 0
    version: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next_fault(self) -> Fault | None:
        with self.lock:
            if not self.faults:
                return None
            fault = self.faults.pop(0)
            if fault.times > 1:
                self.faults.insert(0, Fault(**{**fault.__dict__, "times": fault.times - 1}))
            return fault


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Serve until the block ends."""
    hub = FakeHub()

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="fake-hub")
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: FakeHub

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def _answer(self, *, has_body: bool) -> None:
        url = urlsplit(self.path)
        path = unquote(url.path)
        if path.startswith("/cdn/"):
            self._storage(*path.removeprefix("/cdn/").split("\n"), has_body=has_body)
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(found[1], found[3])
        elif path == "/api/models":
            self._search(parse_qs(url.query))
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/revision/[^/]+)?", path):
            self._describe(found[1])
        else:
            self._say(404, {"error": "Not Found"})

    # the hub

    def _resolve(self, repo_id: str, name: str) -> None:
        repo = self.state.repos.get(repo_id)
        if repo is None or name not in repo.files:
            self._say(404, {"error": "Entry not found"})
        elif repo.token and self.headers.get("Authorization") != f"Bearer {repo.token}":
            is_known = self.headers.get("Authorization") is not None
            self.send_response(403 if is_known else 401)
            self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            data = repo.files[name]
            self.send_response(302)
            # Another name of this computer, so another origin: a token must not get there.
            storage = self.state.url.replace("127.0.0.1", "localhost")
            self.send_header("Location", f"{storage}/cdn/" + quote(f"{repo_id}\n{name}"))
            self.send_header("X-Repo-Commit", repo.revision)
            self.send_header("X-Linked-Size", str(len(data)))
            self.send_header("X-Linked-ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _search(self, query: dict[str, list[str]]) -> None:
        self.state.searches.append(query)
        if self.state.answer is not None:
            self._say(self.state.answer[0], self.state.answer[1])
            return
        wanted = query.get("search", [""])[0].lower()
        tags = query.get("filter", [])
        repos = self.state.repos
        found = [r for r in repos if wanted in r.lower() and set(tags) <= set(repos[r].tags)]
        found.sort(key=lambda r: repos[r].extra.get(query.get("sort", [""])[0], 0), reverse=True)
        start = int(query.get("cursor", ["0"])[0])
        limit = int(query.get("limit", ["1000"])[0])
        page = [self._summary(repo_id) for repo_id in found[start : start + limit]]
        # The address is of no server: only the cursor in it is to be taken.
        following = f'<http://nowhere.invalid/?cursor={start + limit}>; rel="next"'
        self._say(200, page, link=following if start + limit < len(found) else "")

    def _describe(self, repo_id: str) -> None:
        if self.state.answer is not None:
            self._say(self.state.answer[0], self.state.answer[1])
        elif repo_id in self.state.repos:
            self._say(200, self._summary(repo_id))
        else:
            # As the hub says it to strangers, who are not to know which private ones there are.
            self._say(401, {"error": "Invalid username or password."}, code="RepoNotFound")

    def _summary(self, repo_id: str) -> dict[str, Any]:
        repo = self.state.repos[repo_id]
        siblings = [_sibling(name, data) for name, data in repo.files.items()]
        about = {"id": repo_id, "modelId": repo_id, "sha": repo.revision, "tags": list(repo.tags)}
        gated = "manual" if repo.token else False
        return {**about, "gated": gated, "siblings": siblings, "private": False, **repo.extra}

    def _say(self, status: int, content: Any, *, code: str = "", link: str = "") -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if link:
            self.send_header("Link", link)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")  # or this thread would wait for its pool to end
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    # its storage

    def _storage(self, repo_id: str, name: str, *, has_body: bool) -> None:
        hub = self.state
        if token := self.headers.get("Authorization"):
            hub.tokens_at_storage.append(token)
        with hub.lock:
            hub.requests.append((self.command, name, self.headers.get("Range", "")))
        fault = hub.next_fault() if has_body else None
        kind = fault.kind if fault else ""
        if kind == "changed":
            hub.version += 1
        data = hub.repos[repo_id].files[name]
        if hub.version:
            data = bytes(byte ^ 0xFF for byte in data[:64]) + data[64:]
        etag = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'
        if fault and kind == "flip":
            flipped = bytearray(data)
            flipped[fault.at] ^= 1
            data = bytes(flipped)
        if fault and kind == "status":
            self.send_response(fault.status)
            if fault.retry_after:
                self.send_header("Retry-After", fault.retry_after)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if kind == "loop":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start, stop = self._range(len(data), etag, ignores=kind == "no ranges")
        if start is None:
            self.send_response(200)
            start, stop = 0, len(data)
        else:
            self.send_response(206)
            shift = 1 if kind == "wrong range" else 0
            said = f"bytes {start + shift}-{stop - 1 + shift}/{len(data)}"
            self.send_header("Content-Range", said)
        if kind == "empty":
            stop = start
        if kind == "short":
            stop -= min(10, stop - start)
        self.send_header("ETag", etag)
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if has_body:
            self._send_body(memoryview(data)[start:stop], fault)

    def _range(self, size: int, etag: str, *, ignores: bool) -> tuple[int | None, int]:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked or ignores or self.headers.get("If-Range", etag) != etag:
            return None, size
        last = int(asked[2]) if asked[2] else size - 1
        return int(asked[1]), min(last + 1, size)

    def _send_body(self, body: memoryview, fault: Fault | None) -> None:
        stops_at = len(body)
        if fault and fault.kind in ("cut", "stall"):
            stops_at = min(fault.at, len(body))
        try:
            self._send(body[:stops_at])
            if fault and fault.kind == "stall":
                time.sleep(fault.seconds)
                self._send(body[stops_at:])
            elif stops_at < len(body):
                self.close_connection = True
        except OSError:  # the other side has gone
            self.close_connection = True

    def _send(self, body: memoryview) -> None:
        for at in range(0, len(body), CHUNK_BYTES):
            chunk = body[at : at + CHUNK_BYTES]
            self.wfile.write(chunk)
            with self.state.lock:
                self.state.n_body_bytes += len(chunk)

    def log_message(self, *_: Any) -> None:
        pass


def _sibling(name: str, data: bytes) -> dict[str, Any]:
    """As the hub lists a file: large ones by SHA-256, small ones by what git calls them."""
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
    about = {"rfilename": name, "size": len(data), "blobId": blob}
    if name.endswith((".gguf", ".safetensors")):
        sha256 = hashlib.sha256(data).hexdigest()
        about["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
    return about
