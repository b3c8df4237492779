"""The result while it is made: the bar, the stage in plain words, the time left, the buttons."""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QVBoxLayout, QWidget

from app import icons, theme
from app.jobs_panel import KEPT, time_left
from app.tasks import Task, TaskState
from app.widgets import (
    ElidedLabel,
    ProgressBar,
    SecondaryButton,
    body,
    column,
    hline,
    number,
    row,
    second,
    strong,
)
from engine.fit.recommend import Choice
from engine.words import format_bytes, format_percent, format_speed


class RunningView(QWidget):
    """Follows one task; `follow` starts, and the page takes over when the task has finished."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._task: Task | None = None
        self._size = number("")
        self._what = second("")
        self._stage = strong("")
        self._bar = ProgressBar("Shrinking")
        self._bar.setFixedHeight(10)
        self._figures = body("")
        self._where = ElidedLabel("", role="second", mode=Qt.TextElideMode.ElideMiddle)
        self.cancel_button = SecondaryButton("Cancel", "close")
        self.cancel_button.clicked.connect(self._on_cancel_clicked)
        self.pause_button = SecondaryButton("Pause", "pause")
        self.pause_button.clicked.connect(self._on_pause_clicked)
        pad = theme.CARD_PADDING
        upper = column(
            column(self._size, self._what, spacing=2),
            theme.SPACE_24,
            self._stage,
            self._bar,
            self._figures,
            None,
        )
        upper.setContentsMargins(pad, pad, pad, pad)
        lower = row(self._where, self.pause_button, self.cancel_button)
        lower.setContentsMargins(pad, theme.SPACE_12, pad, theme.SPACE_12)
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(0)
        box.addLayout(upper, 1)
        box.addWidget(hline())
        box.addLayout(lower)

    def follow(self, task: Task, name: str, choice: Choice, out: Path) -> None:
        self._task = task
        self._size.setText(format_bytes(choice.size_bytes))
        self._what.setText(
            f"{name} becomes {choice.recipe or format_bytes(choice.size_bytes)},"
            f" {choice.bits_per_weight:.2f} bits per weight"
        )
        self._where.setText(f"{out.name} is there when it is complete")
        task.changed.connect(self._on_changed)
        self._on_changed()

    def _on_changed(self) -> None:
        task = self._task
        if task is None:
            return
        progress, pace = task.progress, task.pace
        is_paused = task.state == TaskState.PAUSED
        icon, words = ("play", "Resume") if is_paused else ("pause", "Pause")
        if words != self.pause_button.text():
            self.pause_button.setText(words)
            self.pause_button.setIcon(icons.icon(icon, "text"))
        self.pause_button.setEnabled(not (task.is_cancelling or task.is_pausing))
        self.cancel_button.setEnabled(not task.is_cancelling)
        self.cancel_button.setToolTip(KEPT if is_paused else "Stop and keep no file")
        self._bar.set_fraction(pace.fraction)
        if task.is_cancelling:
            self._stage.setText("Stopping")
        elif task.is_pausing or is_paused:
            self._stage.setText("Paused" if is_paused else "Pausing")
        elif task.state == TaskState.QUEUED:
            self._stage.setText("Waiting for another job to end")
        elif progress is None:
            self._stage.setText("Starting")
        else:
            self._stage.setText(progress.stage)
        figures = []
        if progress and progress.total and pace.fraction is not None:
            figures.append(format_percent(pace.fraction))
            if pace.per_second > 0 and not is_paused:
                if not task.job.stages:
                    figures.append(format_speed(pace.per_second, progress.unit))
                figures.append(time_left(task))
        self._figures.setText(" · ".join(filter(None, figures)) or " ")

    def _on_pause_clicked(self) -> None:
        if self._task:
            self._task.pause_or_resume()

    def _on_cancel_clicked(self) -> None:
        if self._task:
            self._task.cancel()
