"""What every page gets by its constructor: settings, tasks, scan, store.

Knows no page. All but the settings are made when first asked for.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject, Signal

from app import own_texts
from engine.folders import Folders, folders
from engine.settings import Settings, SettingsFile, standard

if TYPE_CHECKING:
    from collections.abc import Callable

    from app.computer import ThisComputer
    from app.models.scan import Scan, Shelf
    from app.store import Store
    from app.tasks import Tasks
    from app.updates import Updates
    from engine.client import Worker
    from engine.errors import EngineError


class SettingsStore(QObject):
    """The settings of the running app; `changed` fires after every change.

    The command line may change them too: `refresh` takes that over.
    """

    changed = Signal()

    def __init__(self, file: SettingsFile, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._file = file

    @property
    def value(self) -> Settings:
        return self._file.value

    @property
    def path(self) -> Path:
        return self._file.path

    @property
    def problem(self) -> str:
        """Why the settings could not be read or written, or nothing."""
        return self._file.problem

    def refresh(self) -> None:
        before = self._file.value, self._file.problem
        self._file.reload()
        if (self._file.value, self._file.problem) != before:
            self.changed.emit()

    def update(self, **changes: Any) -> None:
        before = self._file.value
        if self._file.update(**changes) != before:
            self.changed.emit()

    def reset(self, name: str) -> None:
        """Put one setting back to its default."""
        self.update(**{name: getattr(standard(), name)})


class AppContext(QObject):
    """One a window; `shutdown` ends every process and closes the database."""

    def __init__(self, where: Folders | None = None, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.folders = where or folders()
        self.settings = SettingsStore(SettingsFile(self.folders.config / "settings.json"), self)
        own_texts.remove_all(self.folders.cache)
        self.shelf: Shelf | None = None
        """What the last look through the library found."""

    @cached_property
    def tasks(self) -> Tasks:
        from app.tasks import Tasks

        return Tasks(self, self.start_worker)

    @cached_property
    def computer(self) -> ThisComputer:
        from app.computer import ThisComputer

        return ThisComputer(self.tasks, self.settings, self)

    @cached_property
    def updates(self) -> Updates:
        from app.updates import Updates

        return Updates(self, self)

    @cached_property
    def scan(self) -> Scan:
        from app.models.scan import Scan

        return Scan(self)

    @cached_property
    def store(self) -> Store:
        from app.store import Store

        return Store(self.folders.data / "conversations.db")

    def start_worker(self, on_exit: Callable[[EngineError | None], None]) -> Worker:
        """Start a worker that computes on what is chosen in the settings by now."""
        from app.tasks import start_worker

        return start_worker(on_exit, self.settings.value.device)

    def shutdown(self) -> None:
        if "scan" in self.__dict__:
            self.scan.shutdown()
        if "tasks" in self.__dict__:
            self.tasks.shutdown()
        own_texts.remove_all(self.folders.cache)
        if "store" in self.__dict__:
            self.store.close()
