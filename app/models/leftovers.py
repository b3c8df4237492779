"""One quiet line about what an interrupted job left behind, and the button to discard it."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from app.widgets import QuietButton, body, row
from app.words import format_bytes, plural
from engine.errors import EngineError
from engine.files import write_error
from engine.library import Leftover


class LeftoverStrip(QWidget):
    discarded = Signal()
    failed = Signal(EngineError)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._leftovers: tuple[Leftover, ...] = ()
        self._words = body("")
        self.discard_button = QuietButton("Discard", "trash")
        self.discard_button.clicked.connect(self._on_discard_clicked)
        box = row(self._words, self.discard_button)
        box.setStretch(0, 1)
        self.setLayout(box)
        self.hide()

    def show_leftovers(self, leftovers: tuple[Leftover, ...]) -> None:
        self._leftovers = leftovers
        self.setVisible(bool(leftovers))
        size = format_bytes(sum(leftover.size_bytes for leftover in leftovers))
        number = plural(len(leftovers), "unfinished file")
        verb = "takes" if len(leftovers) == 1 else "take"
        self._words.setText(f"{number} of an interrupted job {verb} {size}.")
        names = "\n".join(leftover.path for leftover in leftovers)
        self._words.setToolTip(names)
        self.discard_button.setToolTip(f"Delete for good:\n{names}")

    def _on_discard_clicked(self) -> None:
        for leftover in self._leftovers:
            try:
                Path(leftover.path).unlink(missing_ok=True)
            except OSError as error:
                self.failed.emit(write_error(error, Path(leftover.path)))
        self.discarded.emit()
