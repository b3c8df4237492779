"""The first run: what this computer can do, and two ways to a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QPushButton, QWidget

from app import theme
from app.widgets import (
    Card,
    IconLabel,
    PrimaryButton,
    SecondaryButton,
    column,
    row,
    second,
    section,
    title,
)
from engine.words import format_count

if TYPE_CHECKING:
    from engine.hardware import Computer

DOOR_WIDTH = 300
SMALLEST_REAL = 300_000_000
"""Parameters: below this no model is worth a mention."""


class FirstRun(QWidget):
    """Shown while no model is chosen; the page knows where the buttons lead."""

    def __init__(self) -> None:
        super().__init__()
        self.starter_button = PrimaryButton("Try the starter")
        self.models_button = SecondaryButton("Find a model")
        self._computer = _centred(second("This computer runs language models by itself."))
        try_it = _door(
            "chat",
            "Start right now",
            "The starter comes with Snug and needs no network. It is a toy: it knows Snug's help,"
            " small talk and tiny stories.",
            self.starter_button,
        )
        bring = _door(
            "models",
            "Get a real model",
            "Choose from a few good ones, or search the Hugging Face hub. Snug says what fits this"
            " computer first. Your own files work too: drop one here.",
            self.models_button,
        )
        doors = row(None, try_it, bring, None, spacing=theme.SPACE_16)
        welcome = _centred(title("Welcome to Snug"))
        self.setLayout(column(None, welcome, self._computer, theme.SPACE_16, doors, None, margin=8))

    def show_computer(self, computer: Computer) -> None:
        """Say what this computer is and how large a model it runs."""
        from engine.fit.memory import largest_n_params

        n_params = largest_n_params(computer.memory_available_bytes)
        if n_params > SMALLEST_REAL:
            what = f"runs models of up to about {format_count(n_params)} parameters at 4 bits"
        else:
            what = "little of it is free now, close other programs for a real model"
        self._computer.setText(f"{computer.sentence()}: {what}")


def _centred(label: QLabel) -> QLabel:
    label.setAlignment(Qt.AlignmentFlag.AlignHCenter)
    return label


def _door(icon: str, heading: str, text: str, button: QPushButton) -> Card:
    card = Card()
    card.setMaximumWidth(DOOR_WIDTH)
    words = second(text)
    words.setMinimumHeight(words.heightForWidth(DOOR_WIDTH - 2 * theme.CARD_PADDING))
    card.body.addLayout(row(IconLabel(icon, 24, "second"), None))
    card.body.addWidget(section(heading))
    card.body.addWidget(words, 1, Qt.AlignmentFlag.AlignTop)
    card.body.addSpacing(theme.SPACE_8)
    card.body.addLayout(row(button, None))
    return card
