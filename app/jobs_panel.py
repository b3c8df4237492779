"""The running jobs: a ring with their count in the rail, and the panel it opens.

Shows what `app.tasks` knows; starts nothing.
"""

from __future__ import annotations

from PySide6.QtCore import QPoint, QRectF, Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QFrame, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from app import theme
from app.tasks import Task, Tasks, TaskState
from app.widgets import (
    ElidedLabel,
    IconButton,
    ProgressBar,
    QuietButton,
    Scroll,
    column,
    paint_ring,
    row,
    second,
    section,
)
from engine.words import format_percent, format_speed, format_time_left, plural

PANEL_WIDTH = 360


def describe(task: Task) -> str:
    """One quiet line about where `task` is."""
    match task.state:
        case TaskState.QUEUED:
            return "Waiting for its turn"
        case TaskState.SUCCEEDED:
            return "Done"
        case TaskState.CANCELLED:
            return "Cancelled"
        case TaskState.FAILED:
            return task.error.message if task.error else "Failed"
        case TaskState.RUNNING:
            return _describe_running(task)


def _describe_running(task: Task) -> str:
    if task.is_cancelling:
        return "Stopping"
    if task.progress is None:
        return "Starting"
    parts = [task.progress.stage]
    if task.pace.fraction is not None:
        parts.append(format_percent(task.pace.fraction))
    if task.progress.unit == "bytes" and task.pace.per_second > 0:
        parts.append(format_speed(task.pace.per_second, "bytes"))
    parts.append(format_time_left(task.pace.seconds_left))
    return " · ".join(part for part in parts if part)


class JobsButton(QPushButton):
    """The ring: how far all active jobs are, and how many there are. Hidden while there is none."""

    def __init__(self, tasks: Tasks, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._tasks = tasks
        self.setProperty("role", "rail")
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setFixedSize(40, 40)
        tasks.changed.connect(self._on_changed)
        self._on_changed()

    def _on_changed(self) -> None:
        n_active = len(self._tasks.active)
        self.setVisible(bool(self._tasks.listed))
        name = f"{plural(n_active, 'job')} running" if n_active else "Jobs: all finished"
        if name != self.accessibleName():
            self.setAccessibleName(name)
            self.setToolTip(name)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        active = self._tasks.active
        fractions = [task.pace.fraction or 0.0 for task in active]
        done = sum(fractions) / len(fractions) if fractions else 1.0
        area = QRectF(0, 0, 28, 28)
        area.moveCenter(QRectF(self.rect()).center())
        paint_ring(QPainter(self), area, done, str(len(active)) if active else "✓")


class JobsPanel(QFrame):
    """Every job since the list was cleared: name, bar, speed, time left, cancel."""

    def __init__(self, tasks: Tasks, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Popup | Qt.WindowType.FramelessWindowHint)
        self._tasks = tasks
        self.setAttribute(Qt.WidgetAttribute.WA_TranslucentBackground)
        self.setProperty("role", "popup")
        self.setAccessibleName("Jobs")
        self.setFixedWidth(PANEL_WIDTH)
        self._rows: dict[Task, TaskRow] = {}
        content = QWidget()
        self._content = content
        self._list = QVBoxLayout(content)
        self._list.setContentsMargins(0, 0, theme.SPACE_8, 0)
        self._list.setSpacing(theme.SPACE_16)
        self._clear = QuietButton("Clear finished")
        self._clear.clicked.connect(tasks.clear_finished)
        self._scroll = Scroll(content)
        box = QVBoxLayout(self)
        box.setContentsMargins(theme.SPACE_16, theme.SPACE_12, theme.SPACE_8, theme.SPACE_16)
        box.setSpacing(theme.SPACE_12)
        box.addLayout(row(section("Jobs"), None, self._clear))
        box.addWidget(self._scroll)
        tasks.changed.connect(self._on_changed)
        self._on_changed()

    def open_beside(self, anchor: QWidget) -> None:
        """Show the panel right of `anchor`, its lower edge level with it."""
        self._fit()
        corner = anchor.mapToGlobal(QPoint(anchor.width() + theme.SPACE_8, anchor.height()))
        self.move(corner.x(), corner.y() - self.height())
        self.show()

    def _fit(self) -> None:
        self._content.adjustSize()
        self._scroll.setFixedHeight(min(360, self._content.sizeHint().height()))
        self.adjustSize()

    def _on_changed(self) -> None:
        listed = self._tasks.listed
        for task in [task for task in self._rows if task not in listed]:
            gone = self._rows.pop(task)
            self._list.removeWidget(gone)
            gone.deleteLater()
        for task in listed:
            if task not in self._rows:
                self._rows[task] = TaskRow(task)
                self._list.insertWidget(0, self._rows[task])
        self._clear.setVisible(any(task.is_over for task in listed))
        if not listed:
            self.hide()
        elif self.isVisible():
            self._fit()


class TaskRow(QWidget):
    """One job in the panel."""

    def __init__(self, task: Task, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._task = task
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self._line = second("")
        self._bar = ProgressBar(f"Progress of {task.title}")
        self._cancel = IconButton("close", f"Cancel {task.title}", size_px=24)
        self._cancel.clicked.connect(task.cancel)
        heading = ElidedLabel(task.title, role="strong")
        box = column(row(heading, self._cancel), self._bar, self._line, spacing=theme.SPACE_4)
        self.setLayout(box)
        task.changed.connect(self._on_changed)
        self._on_changed()

    def _on_changed(self) -> None:
        self._line.setText(describe(self._task))
        is_over = self._task.is_over
        self._cancel.setVisible(not is_over)
        self._cancel.setEnabled(not self._task.is_cancelling)
        self._bar.setVisible(self._task.state in (TaskState.RUNNING, TaskState.QUEUED))
        is_queued = self._task.state == TaskState.QUEUED
        self._bar.set_fraction(0.0 if is_queued else self._task.pace.fraction)
