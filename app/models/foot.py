"""The line under the list of models: what they take of the disk, and which are there twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QWidget

from app import theme
from app.context import AppContext
from app.tasks import Task, TaskState
from app.widgets import ElidedLabel, QuietButton
from engine.errors import EngineError
from engine.words import format_bytes, plural

if TYPE_CHECKING:
    from engine.disk_use import DiskUse
    from engine.scan import Model


class ShelfFoot(QWidget):
    """Looks for duplicates when asked; until `show_all` the list shows nothing but them."""

    arranged = Signal()
    """`arrange` now gives other models than before."""
    failed = Signal(EngineError)

    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self._models: tuple[Model, ...] = ()
        self._groups: list[list[str]] = []
        self._disk: DiskUse | None = None
        self._task: Task | None = None
        self.words = ElidedLabel(role="second")
        self.find_button = QuietButton("Find duplicates")
        self.find_button.setToolTip("Look for models that lie on this computer twice")
        self.find_button.clicked.connect(self.look)
        self.cancel_button = QuietButton("Cancel")
        self.cancel_button.clicked.connect(self._on_cancel_clicked)
        self.all_button = QuietButton("Show all models")
        self.all_button.clicked.connect(self.show_all)
        box = QHBoxLayout(self)
        box.setContentsMargins(theme.SPACE_8, 0, 0, 0)
        box.addWidget(self.words, 1, Qt.AlignmentFlag.AlignVCenter)
        for button in (self.find_button, self.cancel_button, self.all_button):
            box.addWidget(button)
        self._refresh()

    @property
    def is_filtering(self) -> bool:
        return bool(self._groups)

    def show_found(self, models: tuple[Model, ...], disk: DiskUse | None) -> None:
        """Take what a scan has found; copies that are gone are none any more."""
        self._models, self._disk = models, disk
        if self._groups:
            listed = {model.entry.path for model in models}
            groups = [[path for path in group if path in listed] for group in self._groups]
            self._groups = [group for group in groups if len(group) > 1]
        self._refresh()

    def arrange(self) -> tuple[Model, ...]:
        """The models to show: all of them, or copy beside copy."""
        if not self.is_filtering:
            return self._models
        by_path = {model.entry.path: model for model in self._models}
        return tuple(by_path[path] for group in self._groups for path in group)

    def look(self) -> None:
        from engine.duplicates import FindDuplicates, comparable

        models = comparable(model.entry for model in self._models)
        job = FindDuplicates(models, str(self._context.folders.cache / "hashes.json"))
        self._task = self._context.tasks.ask(job)
        self._task.changed.connect(self._refresh)
        self._task.finished.connect(self._on_finished)
        self._refresh()

    def show_all(self) -> None:
        self._groups = []
        self._refresh()
        self.arranged.emit()

    def _on_cancel_clicked(self) -> None:
        if self._task:
            self._task.cancel()

    def _on_finished(self) -> None:
        task, self._task = self._task, None
        assert task
        if task.error:
            self.failed.emit(task.error)
        if task.state == TaskState.SUCCEEDED:
            self._groups = [list(same.paths) for same in task.result.groups]
            self.show_found(self._models, self._disk)
            self.arranged.emit()
        self._refresh()
        if task.state == TaskState.SUCCEEDED and not self._groups:
            self.words.setText("No model is here twice.")

    def _refresh(self) -> None:
        self.find_button.setVisible(not (self._task or self._groups))
        self.cancel_button.setVisible(self._task is not None)
        self.all_button.setVisible(self.is_filtering and not self._task)
        self.words.setText(self._say())

    def _say(self) -> str:
        if self._task:
            from app.jobs_panel import describe

            return describe(self._task)
        if self._groups:
            n_models = plural(len(self._groups), "model")
            return f"More copies of {n_models} take {format_bytes(self._extra())}."
        if self._disk:
            used, free = format_bytes(self._disk.used_bytes), format_bytes(self._disk.free_bytes)
            return f"Models folder: {used} · {free} free on its disk"
        return ""

    def _extra(self) -> int:
        sizes = {
            model.entry.path: model.entry.summary.size_bytes
            for model in self._models
            if model.entry.summary
        }
        return sum(sizes.get(path, 0) for group in self._groups for path in group[1:])
