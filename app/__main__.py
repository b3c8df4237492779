"""Starts the window: `python -m app [MODEL]`, installed as `snug`.

Imports as little as it can before the first paint; what is slow waits until the window is there.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from app import __version__

if TYPE_CHECKING:
    import argparse

    from PySide6.QtWidgets import QApplication

    from app.context import AppContext
    from app.window import Window

log = logging.getLogger(__name__)

LOG_BYTES = 1 << 20
LOG_FILES = 3
LISTEN_MS = 500
SWITCH_S = 0.0001
"""How long a thread that takes in models may keep Python from the window's."""


def main(arguments: list[str] | None = None) -> int:
    """Run the app until its window closes; returns the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if words and _parse(words).selftest:
        from app.selftest import selftest

        return selftest(_has_display())
    model = _model(words)
    if not _has_display():
        return _in_terminal(model)

    from app.single_instance import SingleInstance
    from engine.folders import folders

    instance = SingleInstance(folders().data)
    if not instance.claim():
        if instance.hand_over(model):
            return 0
        if not instance.claim():  # it may have closed meanwhile
            return _tell_deaf()
    app, window, _context = start(words)
    instance.asked.connect(partial(_answer, window))
    window.show()

    from PySide6.QtCore import QTimer

    QTimer.singleShot(LISTEN_MS, instance.listen)  # after the first paint
    QTimer.singleShot(LISTEN_MS, partial(_close_on_interrupt, window))
    status = app.exec()
    instance.close()
    return status


def _has_display() -> bool:
    """Whether a window can be shown; only Linux is ever without."""
    if not sys.platform.startswith("linux") or os.environ.get("QT_QPA_PLATFORM"):
        return True
    if os.environ.get("WAYLAND_DISPLAY"):
        return True
    return bool(os.environ.get("DISPLAY")) and _answers()


def _answers() -> bool:
    """Whether there is an X server behind DISPLAY, and the way to it. Without, Qt aborts."""
    import ctypes

    try:
        xcb = ctypes.CDLL("libxcb.so.1")
    except OSError:
        return False
    xcb.xcb_connect.restype = ctypes.c_void_p
    connection = ctypes.c_void_p(xcb.xcb_connect(None, None))
    has_failed = bool(xcb.xcb_connection_has_error(connection))
    xcb.xcb_disconnect(connection)
    return not has_failed


def _in_terminal(model: str) -> int:
    """Do the window's main job without one, with `model` or the starter; returns the status."""
    from engine.cli import main as run_engine
    from engine.folders import folders

    print("There is no display here, so Snug does without its window.", flush=True)
    return run_engine(["try", *([model] if model else []), "--folder", str(folders().models)])


def start(words: list[str]) -> tuple[QApplication, Window, AppContext]:
    """Build everything up to the window, not yet shown; the caller keeps all three alive."""
    # From here on `GarbageCollector` collects; until it does, nothing of the start is garbage.
    gc.disable()
    sys.setswitchinterval(SWITCH_S)
    model = _model(words)

    from app import theme
    from app.application import Application
    from app.bugs import BugReporter
    from app.context import AppContext
    from app.garbage import GarbageCollector
    from app.window import Window
    from engine.folders import folders

    _start_log(folders().log)
    app = Application([sys.argv[0]])
    app.setApplicationName("Snug")
    app.setApplicationVersion(__version__)
    app.setDesktopFileName("snug")
    BugReporter(app).install()
    GarbageCollector(app)
    context = AppContext()
    appearance = theme.apply(app, context.settings.value.theme)
    context.settings.changed.connect(lambda: appearance.choose(context.settings.value.theme))
    window = Window(context)
    app.file_opened.connect(partial(_answer, window))
    if model:
        _open(window, model)
    return app, window, context


def _model(words: list[str]) -> str:
    """The absolute path that the command line asks for, or nothing. No words need no argparse."""
    model = _parse(words).model if words else None
    return str(Path(model).absolute()) if model else ""


def _open(window: Window, path: str) -> None:
    open_it = window.add_and_shrink if Path(path).is_dir() else window.chat_with
    open_it(path)


def _answer(window: Window, path: str) -> None:
    """Another start asked for the window."""
    from PySide6.QtCore import Qt

    window.setWindowState(window.windowState() & ~Qt.WindowState.WindowMinimized)
    window.raise_()
    window.activateWindow()
    if path:
        _open(window, path)


def _close_on_interrupt(window: Window) -> None:
    """Let Ctrl+C in the terminal close the window: Python hears it only when Qt hands over."""
    import signal
    import socket

    from PySide6.QtCore import QSocketNotifier

    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.detach(), warn_on_full_buffer=False)  # it stays open
    notifier = QSocketNotifier(reader.fileno(), QSocketNotifier.Type.Read, window)
    notifier.activated.connect(lambda: reader.recv(64))
    signal.signal(signal.SIGINT, lambda *_: window.close())


def _tell_deaf() -> int:
    """Say that the window which has the conversations does not answer; returns the exit status."""
    from PySide6.QtWidgets import QApplication, QMessageBox

    sentence = "Snug is open already, but does not answer. Close it, then start it again."
    print(sentence, file=sys.stderr)
    _app = QApplication.instance() or QApplication([sys.argv[0]])
    QMessageBox.warning(None, "Snug", sentence)
    return 1


def _parse(words: list[str]) -> argparse.Namespace:
    import argparse

    parser = argparse.ArgumentParser("snug", description="Shrink models and chat with them.")
    parser.add_argument(
        "model", nargs="?", help="a GGUF file to chat with, or a checkpoint folder to shrink"
    )
    parser.add_argument(
        "--selftest", action="store_true", help="try this installation, and tell as JSON"
    )
    parser.add_argument("--version", action="version", version=f"snug {__version__}")
    return parser.parse_args(words)


def _start_log(folder: Path) -> None:
    """Log to a file; a computer without room for it still gets its window."""
    handler: logging.Handler
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _rotate(folder / "snug.log")
        handler = logging.FileHandler(folder / "snug.log", encoding="utf-8")
        # A crash of the process itself leaves its stack here.
        faulthandler.enable((folder / "crash.log").open("a", encoding="utf-8"))
    except OSError as error:
        handler = logging.StreamHandler()
        handler.setLevel(logging.WARNING)
        log.warning("no log file: %s", error)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])


def _rotate(newest: Path) -> None:
    """Rotate at the start only: a session writes little, and logging.handlers costs 10 ms."""
    if not newest.exists() or newest.stat().st_size < LOG_BYTES:
        return
    for number in range(LOG_FILES, 0, -1):
        older = newest.with_suffix(f".{number}.log")
        younger = newest.with_suffix(f".{number - 1}.log") if number > 1 else newest
        if younger.exists():
            younger.replace(older)


if __name__ == "__main__":
    sys.exit(main())
