"""The size of the result as a slider from the narrowest width to the widest, with their stops."""

from __future__ import annotations

import msgspec
from PySide6.QtCore import QSignalBlocker, Qt, Signal
from PySide6.QtWidgets import QSlider

from engine.fit.memory import usable_bytes
from engine.fit.recommend import Choice
from engine.hardware import Computer
from engine.words import format_bytes

N_STEPS = 200
SNAP = 2  # steps: so near to a stop, the stop is meant


class SizeSlider(QSlider):
    """`chosen` carries a `Choice`: one of those given, or one in between that has no recipe."""

    chosen = Signal(object)

    def __init__(self) -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self.setRange(0, N_STEPS)
        self.setPageStep(N_STEPS // 10)
        self.setAccessibleName("Size")
        self.setToolTip("Any size in between: types are mixed to fill it")
        self._choices: tuple[Choice, ...] = ()
        self._computer: Computer | None = None
        self.valueChanged.connect(self._on_moved)

    def show_choices(self, choices: tuple[Choice, ...], computer: Computer) -> None:
        self._choices, self._computer = choices, computer

    def show_choice(self, choice: Choice) -> None:
        """Stand at `choice` without telling `chosen`."""
        # One near a stop stays: an arrow key would never leave it.
        if choice.recipe and abs(self._step_of(choice) - self.value()) > SNAP:
            with QSignalBlocker(self):
                self.setValue(self._step_of(choice))
        self.setAccessibleDescription(format_bytes(choice.size_bytes))

    def take_nearest(self) -> None:
        """Choose the stop that is nearest."""
        self.chosen.emit(self._nearest)

    def _on_moved(self, step: int) -> None:
        assert self._computer
        choice = self._nearest
        if abs(self._step_of(choice) - step) > SNAP:
            low, high = self._bounds
            size_bytes = low + (high - low) * step // N_STEPS
            choice = between(self._choices, size_bytes, self._computer)
        self.chosen.emit(choice)

    @property
    def _nearest(self) -> Choice:
        return min(self._choices, key=lambda choice: abs(self._step_of(choice) - self.value()))

    def _step_of(self, choice: Choice) -> int:
        low, high = self._bounds
        return round(N_STEPS * (choice.size_bytes - low) / max(1, high - low))

    @property
    def _bounds(self) -> tuple[int, int]:
        sizes = [choice.size_bytes for choice in self._choices]
        return min(sizes), max(sizes)


def between(choices: tuple[Choice, ...], size_bytes: int, computer: Computer) -> Choice:
    """A result of `size_bytes` that no recipe gives, judged by the next larger of `choices`."""
    larger = min(
        (choice for choice in choices if choice.size_bytes >= size_bytes),
        key=lambda choice: choice.size_bytes,
    )
    saved_bytes = larger.size_bytes - size_bytes
    weights_bytes = larger.memory.weights_bytes - saved_bytes
    memory = msgspec.structs.replace(larger.memory, weights_bytes=weights_bytes)
    fits_memory = memory.total_bytes <= usable_bytes(computer.memory_available_bytes)
    return Choice(
        recipe="",
        size_bytes=size_bytes,
        bits_per_weight=larger.bits_per_weight * weights_bytes / larger.memory.weights_bytes,
        memory=memory,
        where="cpu" if not larger.fits and fits_memory else larger.where,
    )
