"""`python -m app.screenshots OUT_DIR [SCENE ...]`: offscreen, at two pixels a point."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(words: list[str]) -> int:
    if not words:
        print("usage: python -m app.screenshots OUT_DIR [SCENE ...]", file=sys.stderr)
        return 2
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ["QT_SCALE_FACTOR"] = "2"
    from PySide6.QtWidgets import QApplication

    from app import theme
    from app.garbage import GarbageCollector
    from app.screenshots.scenes import take_all

    app = QApplication(["snug"])
    app.setQuitOnLastWindowClosed(False)
    GarbageCollector(app)
    theme.apply(app, "light")
    report = take_all(app, Path(words[0]), words[1:])
    print(f"{report.n_pictures} pictures in {words[0]}, {report.seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
