"""A display nobody sees, and when something is painted on it."""

from __future__ import annotations

import mmap
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

WIDTH, HEIGHT = 1280, 800
BUTTON_HEIGHT = 32


class Display(NamedTuple):
    """`name` is for DISPLAY, `screen` maps what is on it: a header, then 4 bytes a pixel."""

    name: str
    screen: mmap.mmap

    def pixels(self) -> bytes:
        return self.screen[-WIDTH * HEIGHT * 4 :]

    def is_painted(self) -> bool:
        """Whether anything but the black ground of an empty display is there."""
        return any(self.pixels().translate(None, b"\0")[:1])

    def primary_button(self) -> tuple[int, int] | None:
        """A place on the page's one button in the accent colour of the light theme, or None.

        A slider and a bar have that colour too; they are not as high.
        """
        run = bytes((0x5E, 0x6F, 0x2F, 0xFF)) * 60  # as Qt fills it
        pixels, row = self.pixels(), WIDTH * 4
        start = pixels.find(run)
        while start >= 0:
            below = start + BUTTON_HEIGHT // 2 * row
            is_in_one_row = start % 4 == 0 and start % row <= row - len(run)
            if is_in_one_row and pixels.startswith(run, below):
                return start % row // 4 + 30, start // row + 10
            start = pixels.find(run, start + 1)
        return None

    def picture(self, path: Path) -> None:
        """Keeps what is on the display as a picture; needs ImageMagick."""
        convert = [
            "convert",
            "-size",
            f"{WIDTH}x{HEIGHT}",
            "-depth",
            "8",
            "bgra:-",
            "-alpha",
            "off",
        ]
        subprocess.run([*convert, str(path)], input=self.pixels(), check=True)


@contextmanager
def display() -> Iterator[Display]:
    """Starts Xvfb on a free number for as long as the block runs."""
    with tempfile.TemporaryDirectory() as folder:
        read, write = os.pipe()
        screen = f"{WIDTH}x{HEIGHT}x24"
        server = subprocess.Popen(
            [
                "Xvfb",
                "-displayfd",
                str(write),
                "-screen",
                "0",
                screen,
                "-fbdir",
                folder,
                "-nocursor",
            ],
            pass_fds=[write],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            os.close(write)
            with os.fdopen(read) as numbers:
                number = numbers.readline().strip()
            with (Path(folder) / "Xvfb_screen0").open("rb") as file:
                screen_map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            yield Display(f":{number}", screen_map)
        finally:
            server.terminate()
            server.wait()


def first_paint_s(command: list[str], environment: dict[str, str]) -> float:
    """Seconds from the start of `command` to the first pixels of its window; it is ended then."""
    with display() as shown:
        start = time.monotonic()
        process = subprocess.Popen(
            command, env={**environment, "DISPLAY": shown.name}, stdin=subprocess.DEVNULL
        )
        try:
            while not shown.is_painted():
                if process.poll() is not None or time.monotonic() - start > 60:
                    raise RuntimeError(f"{command[0]} showed no window")
                time.sleep(0.002)
            return time.monotonic() - start
        finally:
            process.terminate()
            process.wait()
