"""Snug's download against curl's: 2 GB over loopback, alternating; memory while it runs.

    python tests/bench/bench_download.py [--gigabytes 2] [--rounds 5]

The server is a process of its own that sends with the kernel's sendfile, so that it is not what is
measured. Snug also hashes all of it; curl does not.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

BLOCK = 1 << 24


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="in memory, the disk is not measured")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve)
        return
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        compare(Path(folder), int(args.gigabytes * 1e9), args.rounds)


def compare(folder: Path, n_bytes: int, n_rounds: int) -> None:
    source = folder / "source"
    digest = hashlib.sha256()
    with source.open("wb") as file:
        for start in range(0, n_bytes, BLOCK):
            block = os.urandom(min(BLOCK, n_bytes - start))
            digest.update(block)
            file.write(block)
    command = [sys.executable, __file__, "--serve", str(source)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        url = server.stdout.readline().strip()
        try:
            ratios: list[float] = []
            peaks: list[float] = []
            for _ in range(n_rounds):
                theirs = timed(["curl", "-s", "-o", str(folder / "curl"), url])
                program = SNUG.format(url=url, size=n_bytes, digest=digest.hexdigest())
                ours = timed([sys.executable, "-c", program, str(folder / "snug")], peaks)
                ratios.append(theirs / ours)
                print(f"curl {theirs:6.2f} s   snug {ours:6.2f} s   ratio {theirs / ours:.2f}")
                (folder / "snug").unlink()
                (folder / "curl").unlink()
            print(f"median ratio {statistics.median(ratios):.3f}, peak {max(peaks) / 1e6:.0f} MB")
        finally:
            server.terminate()


SNUG = """
import resource, sys, time
from pathlib import Path
from engine.hub.transfer import Wanted, transfer
from engine.jobs import finish
started = time.monotonic()
finish(transfer(Wanted({url!r}, {size}, "sha256:{digest}"), Path(sys.argv[1])))
print(time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def timed(command: list[str], peaks: list[float] | None = None) -> float:
    """Seconds: of the download alone where the program tells, else of all of it."""
    started = time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    if peaks is None:
        return time.monotonic() - started
    seconds, peak = map(float, done.stdout.split())
    peaks.append(peak)
    return seconds


def serve(path: Path) -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            size = path.stat().st_size
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            start, stop = (int(asked[1]), int(asked[2]) + 1) if asked else (0, size)
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", str(stop - start))
            self.end_headers()
            self.wfile.flush()
            with path.open("rb") as file:
                while start < stop:
                    start += os.sendfile(
                        self.connection.fileno(), file.fileno(), start, stop - start
                    )

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_port}/file", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
