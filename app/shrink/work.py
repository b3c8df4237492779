"""How much work goes into a shrink: three stops in words, and the stock way for tinkerers."""

from __future__ import annotations

from typing import Literal

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from app import icons, theme
from app.widgets import QuietButton, SegmentedControl, column, row, second, strong
from engine.quantize.effort import (
    CHUNK_TOKENS,
    EFFORTS,
    EffortName,
    effort_for,
    expected_seconds,
)

STOCK: Literal["stock"] = "stock"
WORDS: dict[EffortName, tuple[str, str]] = {
    "fast": ("Quick", "A short look at what each part of the model matters."),
    "balanced": ("Balanced", "What each part matters is measured, and rounded with care."),
    "best": ("Best", "What each part matters is measured more finely, and more ways are tried."),
}
_MINUTE, _HOUR = 60.0, 3600.0
_TIMES = (
    (2 * _MINUTE, "A minute or so"),
    (15 * _MINUTE, "Some minutes"),
    (1.5 * _HOUR, "Up to an hour or so"),
    (10 * _HOUR, "Some hours"),
)


def time_words(seconds: float) -> str:
    """An estimate is good for the order of magnitude, and is said so."""
    return next((words for limit, words in _TIMES if seconds < limit), "A day or more")


class WorkChoice(QWidget):
    """`value` is an effort, or `STOCK`."""

    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._n_weights = 0
        stops = [(str(name), words) for name, (words, _) in WORDS.items()]
        self.stops = SegmentedControl("How much work", stops)
        self.stops.set_value("balanced")
        self.stops.chosen.connect(self._tell)
        self._what = second("")
        self.fold = QuietButton("Details", "chevron-right")
        self.fold.setStyleSheet("padding-left: 0;")  # in line with what is above
        self.fold.clicked.connect(self._on_fold_clicked)
        ways = [("measured", "Measured"), (str(STOCK), "As llama-quantize does")]
        self.rounding = SegmentedControl("Types and rounding", ways)
        self.rounding.set_value("measured")
        self.rounding.chosen.connect(self._tell)
        self._terms = second("")
        self._folded = QWidget()
        self._folded.setLayout(_choice("Types and rounding", self.rounding, self._terms))
        self._folded.hide()
        self.details = QWidget()  # for tinkerers; it stands elsewhere
        fold = row(self.fold, None)
        self.details.setLayout(column(fold, self._folded, spacing=theme.SPACE_4))
        self.setLayout(_choice("How much work", self.stops, self._what))
        self._tell()

    @property
    def value(self) -> Literal["stock", "fast", "balanced", "best"]:
        return STOCK if self.rounding.value == STOCK else self.effort

    @property
    def effort(self) -> EffortName:
        return next(name for name in EFFORTS if name == self.stops.value)

    def show_model(self, n_weights: int) -> None:
        """Estimate for a model of so many weights."""
        self._n_weights = n_weights
        self._tell()

    def _tell(self) -> None:
        if self.value == STOCK:
            self._what.setText("The stock types and rounding. Nothing is measured; soon done.")
        else:
            time = time_words(expected_seconds(self.effort, self._n_weights))
            self._what.setText(f"{WORDS[self.effort][1]} {time} on this computer.")
        effort = effort_for(self.effort, self._n_weights)
        chunks = str(effort.chunks) if effort.chunks else "all"
        self._terms.setText(
            "--effort stock: byte for byte what llama-quantize makes without an imatrix."
            if self.value == STOCK
            else f"--effort {self.effort}: {chunks} chunks of {CHUNK_TOKENS} tokens to calibrate"
            f" with, up to {effort.most_runs} runs to find out what matters."
        )
        self.stops.setEnabled(self.value != STOCK)
        self.changed.emit()

    def _on_fold_clicked(self) -> None:
        is_open = self._folded.isHidden()
        self.fold.setIcon(icons.icon("chevron-down" if is_open else "chevron-right", "second"))
        self.fold.setText("Hide details" if is_open else "Details")
        self._folded.setVisible(is_open)


def _choice(name: str, control: SegmentedControl, words: QLabel) -> QVBoxLayout:
    caption = strong(name)
    caption.setWordWrap(False)
    return column(row(caption, None, control), words, spacing=theme.SPACE_4)
