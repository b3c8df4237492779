"""`snug --selftest`: tries an installation, its window and its engine, and tells as JSON."""

from __future__ import annotations

import os
import sys
from typing import Any

import msgspec

from engine.errors import EngineError


def selftest(has_display: bool) -> int:
    """Print what is here and works; returns the exit status, 0 if all of it does."""
    if not has_display:
        os.environ["QT_QPA_PLATFORM"] = "offscreen"
    from engine.client import Worker
    from engine.selftest import SelfTest

    report: dict[str, Any] = {"window": _window()}
    worker = Worker.start()
    try:
        report["engine"] = worker.finish(SelfTest())
    except EngineError as error:
        report["problem"] = error.report()
    finally:
        worker.stop()
    print(msgspec.json.format(msgspec.json.encode(report)).decode())
    return 1 if "problem" in report or not report["window"]["has_icons"] else 0


def _window() -> dict[str, Any]:
    """Start Qt as the window does, and draw one of its icons."""
    from PySide6 import __version__
    from PySide6.QtWidgets import QApplication

    from app import icons, theme

    app = QApplication(sys.argv[:1])
    theme.apply(app, "light")
    image = icons.pixmap("chat", 24).toImage()
    has_icons = any(
        image.pixelColor(x, y).alpha() for x in range(image.width()) for y in range(image.height())
    )
    return {
        "qt": __version__,
        "platform": app.platformName(),
        "has_icons": has_icons,
    }
