"""The card with this computer in a sentence."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from app.widgets import Card, body, second, section
from engine.hardware import Computer
from engine.words import format_bytes, format_percent


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
        share = computer.memory_available_bytes / computer.memory_total_bytes
        self._free.setText(f"{format_percent(share)} of the memory is free now")
        free = format_bytes(computer.memory_available_bytes)
        self._free.setToolTip(f"{free}; a GB is 1,000,000,000 bytes. Close programs to have more.")
