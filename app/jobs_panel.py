"""The running jobs: a ring with their count in the rail, and the panel it opens.

Shows what `app.tasks` knows; starts nothing.
"""

from __future__ import annotations

from PySide6.QtCore import QPoint, QRectF, Qt, QTimer
from PySide6.QtGui import QHideEvent, QPainter, QPaintEvent, QShowEvent
from PySide6.QtWidgets import (
    QFrame,
    QPushButton,
    QSizePolicy,
    QStyle,
    QStyleOption,
    QVBoxLayout,
    QWidget,
)

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
TICK_MS = 1000
"""How often an open panel is looked at anew: the speed of a job that says nothing falls too."""


KEPT = "What is there so far is kept: see the Models page"


def describe(task: Task) -> str:
    """One quiet line about where `task` is."""
    match task.state:
        case TaskState.QUEUED:
            return "Waiting for its turn"
        case TaskState.SUCCEEDED:
            return "Done"
        case TaskState.PAUSED:
            done = task.pace.fraction
            return "Paused" if done is None else f"Paused at {format_percent(done)}"
        case TaskState.CANCELLED:
            return f"Cancelled. {KEPT}" if task.has_kept else "Cancelled"
        case TaskState.FAILED:
            return task.error.message if task.error else "Failed"
        case TaskState.RUNNING:
            return _describe_running(task)


def _describe_running(task: Task) -> str:
    if task.is_cancelling:
        return "Stopping"
    if task.is_pausing:
        return "Pausing"
    if task.progress is None:
        return "Starting"
    parts = [task.progress.stage]
    if task.pace.fraction is not None and task.pace.fraction < 1:
        parts.append(format_percent(task.pace.fraction))
    if task.progress.unit == "bytes" and task.progress.total:
        parts.append(format_speed(task.pace.per_second, "bytes"))
    parts.append(time_left(task))
    return " · ".join(part for part in parts if part)


def time_left(task: Task) -> str:
    """How long the task takes, or its stage where it has several; nothing while not known."""
    words = format_time_left(task.pace.seconds_left)
    return f"{words} of this step" if words and task.job.stages else words


class JobsButton(QPushButton):
    """The ring: how far all unfinished jobs are, and how many. Hidden while there is none."""

    def __init__(self, tasks: Tasks, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._tasks = tasks
        self.setProperty("role", "rail")
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setFixedSize(40, 40)
        tasks.changed.connect(self._on_changed)
        self._on_changed()

    def _on_changed(self) -> None:
        numbers = (len(self._tasks.active), "running"), (len(self._tasks.paused), "paused")
        said = ", ".join(f"{plural(number, 'job')} {state}" for number, state in numbers if number)
        self.setVisible(bool(self._tasks.listed))
        name = said or ("Jobs: one failed" if self._has_failed else "Jobs: all finished")
        if name != self.accessibleName():
            self.setAccessibleName(name)
            self.setToolTip(name)
        self.update()

    @property
    def _has_failed(self) -> bool:
        return any(task.state == TaskState.FAILED for task in self._tasks.listed)

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        left = self._tasks.active + self._tasks.paused
        fractions = [task.pace.fraction or 0.0 for task in left]
        done = sum(fractions) / len(fractions) if fractions else 1.0
        area = QRectF(0, 0, 28, 28)
        area.moveCenter(QRectF(self.rect()).center())
        text = str(len(left)) if left else "!" if self._has_failed else "✓"
        paint_ring(QPainter(self), area, done, text)


class JobsPanel(QFrame):
    """Every job since the list was cleared: name, bar, speed, time left, pause, cancel."""

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
        self._ticker = QTimer(self, interval=TICK_MS)
        self._ticker.timeout.connect(self._on_tick)
        tasks.changed.connect(self._on_changed)
        self._on_changed()

    def paintEvent(self, event: QPaintEvent) -> None:
        # Of a window that lets its corners be seen through nobody else paints the ground.
        option = QStyleOption()
        option.initFrom(self)
        ground = QStyle.PrimitiveElement.PE_Widget
        self.style().drawPrimitive(ground, option, QPainter(self), self)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._ticker.start()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._ticker.stop()

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

    def _on_tick(self) -> None:
        for task_row in self._rows.values():
            task_row.refresh()

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
        self.pause_button = IconButton("pause", f"Pause {task.title}", size_px=24)
        self.pause_button.clicked.connect(task.pause_or_resume)
        self.cancel_button = IconButton("close", f"Cancel {task.title}", size_px=24)
        self.cancel_button.clicked.connect(task.cancel)
        if task.job.keeps_when_cancelled:
            self.cancel_button.setToolTip(f"Cancel {task.title}\n{KEPT}")
        buttons = row(self.pause_button, self.cancel_button, spacing=0)
        heading = row(ElidedLabel(task.title, role="strong"), buttons)
        self.setLayout(column(heading, self._bar, self._line, spacing=theme.SPACE_4))
        task.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show the task as it is now."""
        task = self._task
        self._line.setText(describe(task))
        is_paused = task.state == TaskState.PAUSED
        icon, name = ("play", "Resume") if is_paused else ("pause", "Pause")
        name = f"{name} {task.title}"
        if name != self.pause_button.accessibleName():
            self.pause_button.set_icon(icon, name)
        self.pause_button.setVisible(task.job.can_resume and not task.is_over)
        self.cancel_button.setVisible(not task.is_over)
        self.cancel_button.setEnabled(not task.is_cancelling)
        self._bar.setVisible(not task.is_over)
        is_moving = task.state == TaskState.RUNNING
        self._bar.set_fraction(task.pace.fraction if is_moving else task.pace.fraction or 0.0)
