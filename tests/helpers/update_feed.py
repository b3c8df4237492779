"""A server on loopback that tells of a new version, as packaging/sign_update.py signs it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from sign_update import make_key, signed

from engine.updates import Address, Release


@dataclass
class Feed:
    """`answer` is what the next request gets, with `status`; `n_asked` counts them."""

    private: Path
    public_key: str
    url: str = ""
    answer: bytes = b""
    status: int = 200
    n_asked: int = field(default=0)

    @property
    def address(self) -> Address:
        return Address(self.url, self.public_key)

    def tell(self, version: str, *news: str) -> Release:
        release = Release(version, "https://snug.invalid/new", news)
        self.answer = signed(self.private, release)
        return release


@contextmanager
def update_feed(folder: Path) -> Iterator[Feed]:
    feed = Feed(folder / "key", make_key(folder / "key"))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            feed.n_asked += 1
            self.send_response(feed.status)
            self.send_header("Content-Length", str(len(feed.answer)))
            self.end_headers()
            self.wfile.write(feed.answer)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        feed.url = f"http://127.0.0.1:{server.server_port}/latest.json"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield feed
        finally:
            server.shutdown()
            thread.join()
