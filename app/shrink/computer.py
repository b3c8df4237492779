"""The card with this computer in a sentence."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from app.widgets import Card, body, second, section
from app.words import format_bytes
from engine.hardware import Computer


class ComputerCard(Card):
    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self._sentence = body("")
        self._free = second("")
        self.body.setSpacing(4)
        self.body.addWidget(section("This computer"))
        self.body.addWidget(self._sentence)
        self.body.addWidget(self._free)

    def show_computer(self, computer: Computer) -> None:
        self._sentence.setText(computer.sentence())
        self._free.setText(f"{format_bytes(computer.memory_available_bytes)} of memory free now")
        self._free.setToolTip("GB are 1,000,000,000 bytes. Close programs to have more.")
