"""This computer as the window knows it: its graphics cards, and what the chat's model holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

if TYPE_CHECKING:
    from app.tasks import Task, Tasks
    from engine.hardware import Device
    from engine.inference import ModelInfo


class ThisComputer(QObject):
    """`changed` when there is something new to judge models by: who hears it must not `look`."""

    changed = Signal()

    def __init__(self, tasks: Tasks, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.devices: tuple[Device, ...] = ()
        self.loads: dict[str, ModelInfo] = {}
        """How each model was loaded last, by its path."""
        self._loaded: ModelInfo | None = None
        self._tasks = tasks
        self._question: Task | None = None
        self._has_answer = False

    @property
    def releasable(self) -> dict[str, int]:
        """The bytes on each device that become free before another model is loaded."""
        return self._loaded.taken if self._loaded else {}

    @property
    def _has_cards(self) -> bool:
        return any(device.kind in ("gpu", "igpu") for device in self.devices)

    def look(self) -> None:
        """Ask the engine which devices there are and what is free on them.

        A computer that has only its processor is asked once.
        """
        if self._question or (self._has_answer and not self._has_cards):
            return
        from engine.detect import Detect

        self._question = self._tasks.ask(Detect())
        self._question.finished.connect(self._on_answered)

    def set_loaded(self, info: ModelInfo | None) -> None:
        """The chat has another model in memory, or none."""
        if info is self._loaded:
            return
        self._loaded = info
        if info:
            self.loads[info.path] = info
        self.changed.emit()

    def _on_answered(self) -> None:
        question, self._question = self._question, None
        assert question
        if question.result:
            self._has_answer = True
            self.devices = question.result.devices
            if self._has_cards:
                self.changed.emit()
