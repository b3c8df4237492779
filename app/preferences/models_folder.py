"""Where the models lie: choosing another folder, and taking the models along."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from PySide6.QtCore import Qt, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QDialog, QFileDialog, QVBoxLayout, QWidget

from app import theme
from app.background import in_background
from app.context import AppContext
from app.jobs_panel import TaskRow
from app.preferences.setting_row import SettingRow
from app.problems import ProblemCard, paragraph
from app.tasks import Task, TaskState
from app.widgets import (
    Card,
    ElidedLabel,
    IconButton,
    PrimaryButton,
    SecondaryButton,
    row,
    second,
    section,
)
from engine.errors import EngineError, StorageError
from engine.leftovers import MOVING
from engine.move import MoveModels
from engine.settings import standard
from engine.survey import Load, survey
from engine.walk import is_dir
from engine.words import format_bytes, format_path, plural


class ModelsFolderCard(Card):
    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self.choose_button = SecondaryButton("Choose")
        self.choose_button.setAccessibleName("Choose the models folder")
        self.choose_button.clicked.connect(self._on_choose_clicked)
        self.reveal_button = IconButton("reveal", "Show the models folder")
        self.reveal_button.clicked.connect(self._on_reveal_clicked)
        controls = QWidget()
        controls.setLayout(row(self.reveal_button, self.choose_button, spacing=theme.SPACE_4))
        self.setting = SettingRow(
            context,
            "models_folder",
            "Models folder",
            "Snug lists what is in it and puts shrunk models there."
            " Models elsewhere stay where they are.",
            controls,
            reset=lambda: self.change(standard().models_folder),
        )
        self.folder_label = ElidedLabel(role="mono", mode=Qt.TextElideMode.ElideMiddle)
        self.told_label = second("")
        self.told_label.hide()
        self._below = QVBoxLayout()
        self.body.addWidget(self.setting)
        self.body.addWidget(self.folder_label)
        self.body.addWidget(self.told_label)
        self.body.addLayout(self._below)
        context.settings.changed.connect(self._on_settings_changed)
        self._on_settings_changed()

    def change(self, folder: str) -> None:
        """Use `folder` from now on, after asking whether the models go along, if there are any."""
        old = self._context.settings.value.models_folder
        if folder == old:
            return
        self._clear_below()
        if self._is_written_to():
            return
        self.setting.setEnabled(False)
        work = partial(survey, Path(old), Path(folder))
        in_background(self, work, partial(self._on_surveyed, folder), self._on_failed)

    def _on_surveyed(self, folder: str, load: Load) -> None:
        self.setting.setEnabled(True)
        if self._is_written_to():  # by a job that was begun since
            return
        if not load.files:
            self._context.settings.update(models_folder=folder)
            return
        dialog = MoveDialog(self, self._context.settings.value.models_folder, folder, load)
        dialog.accepted.connect(partial(self._move, folder, load))
        dialog.left.connect(partial(self._context.settings.update, models_folder=folder))
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def _is_written_to(self) -> bool:
        """Whether a job has the folder in hand, now or when it goes on; says so."""
        tasks = self._context.tasks
        if tasks.active:
            error = StorageError(
                "The models folder cannot be changed while jobs are running.",
                hint="Wait until downloads and shrinks have ended, then choose it again.",
            )
        elif tasks.paused:
            error = StorageError(
                "The models folder cannot be changed while a job is paused.",
                hint="Let it go on to its end, or cancel it: what is there so far is kept and goes"
                " along, and you can resume it on the Models page.",
            )
        else:
            return False
        self._show_problem(error)
        return True

    def _move(self, folder: str, load: Load) -> None:
        settings = self._context.settings
        job = MoveModels(settings.value.models_folder, folder, str(settings.path))
        task = self._context.tasks.start(job, f"Move {_what(load)}", lane="disk")
        task.finished.connect(partial(self._on_moved, task, folder))
        self.setting.setEnabled(False)
        self._below.addWidget(TaskRow(task))

    def _on_moved(self, task: Task, folder: str) -> None:
        self.setting.setEnabled(True)
        self._clear_below()
        settings = self._context.settings
        settings.refresh()  # the job has written them
        if task.state == TaskState.SUCCEEDED:
            self._tell(_done(task.result.n_models, task.result.left))
        elif Path(settings.value.models_folder) == Path(folder).absolute():
            self._tell(
                "The models had moved by then. What is left in the old folder is there twice."
            )
        elif task.state == TaskState.CANCELLED:
            is_cut_off = partial(is_dir, Path(folder) / MOVING)
            in_background(self, is_cut_off, self._on_cancelled, self._on_failed)
        if task.error:
            self._show_problem(task.error)

    def _on_cancelled(self, is_cut_off: bool) -> None:
        self._tell(
            "Cancelled half-way: the disk did not answer in time. Choose that folder again, and the"
            " move goes on. No model is lost."
            if is_cut_off
            else "Cancelled. The models are where they were."
        )

    def _on_failed(self, error: EngineError) -> None:
        self.setting.setEnabled(True)
        self._show_problem(error)

    def _show_problem(self, error: EngineError) -> None:
        card = ProblemCard(error)
        card.dismissed.connect(self._clear_below)
        self._below.addWidget(card)

    def _tell(self, words: str) -> None:
        self.told_label.setText(words)
        self.told_label.setVisible(bool(words))

    def _clear_below(self) -> None:
        self._tell("")
        while item := self._below.takeAt(0):
            if widget := item.widget():
                widget.hide()
                widget.deleteLater()

    def _on_settings_changed(self) -> None:
        self.folder_label.setText(self._context.settings.value.models_folder)

    def _on_choose_clicked(self) -> None:
        now = Path(self._context.settings.value.models_folder)
        # The dialog takes the name of a folder that is not there yet for a choice.
        start = now if now.is_dir() else Path.home()
        if chosen := QFileDialog.getExistingDirectory(self, "Models folder", str(start)):
            self.change(chosen)

    def _on_reveal_clicked(self) -> None:
        folder = Path(self._context.settings.value.models_folder)
        folder.mkdir(parents=True, exist_ok=True)
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))


class MoveDialog(QDialog):
    """Asks what becomes of the models in the old folder; Esc changes nothing."""

    left = Signal()
    """They stay there, and the new folder is used."""

    def __init__(self, parent: QWidget, old: str, new: str, load: Load) -> None:
        super().__init__(parent)
        heading = "Move the models along?"
        self.setWindowTitle(heading)
        self.setModal(True)
        self.cancel_button = SecondaryButton("Cancel")
        self.cancel_button.clicked.connect(self.reject)
        self.leave_button = SecondaryButton("Leave behind")
        self.leave_button.clicked.connect(self.reject)
        self.leave_button.clicked.connect(self.left)
        self.move_button = PrimaryButton("Move")
        self.move_button.clicked.connect(self.accept)
        words = paragraph(
            f"{format_path(old)} holds {_what(load)}. Snug can move that to {format_path(new)}."
            " What is left behind stays on the disk, but is no longer listed.",
            420,
        )
        box = QVBoxLayout(self)
        box.setContentsMargins(*(theme.PAGE_MARGIN,) * 4)
        box.setSpacing(theme.SPACE_12)
        box.addWidget(section(heading))
        box.addWidget(words)
        box.addSpacing(theme.SPACE_8)
        box.addLayout(row(None, self.cancel_button, self.leave_button, self.move_button))
        self.move_button.setDefault(True)
        self.move_button.setFocus()


def _what(load: Load) -> str:
    what = plural(load.n_models, "model") if load.n_models else "unfinished jobs"
    return f"{what} ({format_bytes(load.size_bytes)})"


def _done(n_models: int, left: tuple[str, ...]) -> str:
    words = f"{plural(n_models, 'model')} moved."
    if left:
        folder = format_path(Path(left[0]).parent)
        words += f" {plural(len(left), 'file')} could not be removed from {folder}."
    return words
