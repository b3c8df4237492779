"""This computer as the window knows it: what it computes on, and what the chat's model holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

if TYPE_CHECKING:
    from app.context import SettingsStore
    from app.tasks import Task, Tasks
    from engine.hardware import Computer, Device
    from engine.inference import ModelInfo


class ThisComputer(QObject):
    """`changed` when there is something new to judge models by: who hears it must not `look`."""

    changed = Signal()
    looked = Signal()
    """There is an answer, in `found`."""
    noticed = Signal(str)
    """What about the graphics is not as the user would expect, or nothing any more."""

    def __init__(
        self, tasks: Tasks, settings: SettingsStore, parent: QObject | None = None
    ) -> None:
        super().__init__(parent)
        self.found: Computer | None = None
        self.loads: dict[str, ModelInfo] = {}
        """How each model was loaded last, by its path."""
        self.notice = ""
        self._loaded: ModelInfo | None = None
        self._tasks = tasks
        self._settings = settings
        self._device = settings.value.device
        self._question: Task | None = None
        self._is_outdated = False
        settings.changed.connect(self._on_settings_changed)

    @property
    def devices(self) -> tuple[Device, ...]:
        """Those that models are computed on."""
        return self.found.devices if self.found else ()

    @property
    def releasable(self) -> dict[str, int]:
        """The bytes on each device that become free before another model is loaded."""
        return self._loaded.taken if self._loaded else {}

    @property
    def is_looking(self) -> bool:
        return self._question is not None

    @property
    def _has_cards(self) -> bool:
        return any(device.is_graphics for device in self.devices)

    def look(self) -> None:
        """Ask the engine which devices there are and what is free on them.

        A computer that has only its processor is asked once.
        """
        if self._question is None and (self.found is None or self._has_cards):
            self._ask()

    def try_again(self) -> None:
        """Let the engine try also what crashed or hung before."""
        if self._question is None:
            self._ask(tries_again=True)

    def set_loaded(self, info: ModelInfo | None) -> None:
        """The chat has another model in memory, or none."""
        if info is self._loaded:
            return
        self._loaded = info
        if info:
            self.loads[info.path] = info
            self._note(info.notice)
        self.changed.emit()

    def _ask(self, *, tries_again: bool = False) -> None:
        from engine.detect import Detect

        self._is_outdated = False
        self._question = self._tasks.ask(Detect(tries_again))
        self._question.finished.connect(self._on_answered)

    def _on_answered(self) -> None:
        question, self._question = self._question, None
        assert question
        had_cards = self._has_cards
        if question.result:
            self.found = question.result
            self._note(question.result.graphics.notice)
            if had_cards or self._has_cards:
                self.changed.emit()
        self.looked.emit()
        if self._is_outdated:
            self._ask()

    def _on_settings_changed(self) -> None:
        """Look again at what is computed on, if that was ever asked for."""
        if self._settings.value.device == self._device:
            return
        self._device = self._settings.value.device
        if self._question:
            self._is_outdated = True
        elif self.found:
            self._ask()

    def _note(self, notice: str) -> None:
        if notice != self.notice:
            self.notice = notice
            self.noticed.emit(notice)
