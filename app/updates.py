"""Tells of a newer Snug, if the user wants to be told: a card above the pages, and a setting."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import QObject, Qt, QTimer, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QWidget

from app import theme
from app.context import AppContext
from app.tasks import Task, TaskState
from app.widgets import Card, QuietButton, SecondaryButton, column, row, second, strong
from engine.updates import Address, LookForUpdate, Release, address

FIRST_LOOK_MS = 5_000
EVERY_MS = 3_600_000  # the engine asks the network once a day at most


class Updates(QObject):
    """Looks for a newer version while the setting is on and Snug may use the network."""

    found = Signal(object)
    """A Release that the user has not said "not now" to."""
    told = Signal(str)
    """What came of a look, in words."""

    def __init__(
        self, context: AppContext, parent: QObject | None = None, where: Address | None = None
    ) -> None:
        super().__init__(parent)
        self._context = context
        self._address = where or address()
        self._task: Task | None = None
        self._was_on = context.settings.value.looks_for_updates
        self._timer = QTimer(self, interval=EVERY_MS)
        self._timer.timeout.connect(self.look)
        self._timer.start()
        context.settings.changed.connect(self._on_settings_changed)
        QTimer.singleShot(FIRST_LOOK_MS, self, self.look)

    @property
    def is_possible(self) -> bool:
        """Whether this build knows where to look."""
        return bool(self._address.feed and self._address.public_key)

    def look(self, *, at_once: bool = False) -> None:
        settings = self._context.settings.value
        if self._task or not (self.is_possible and settings.looks_for_updates):
            return
        if settings.is_offline:
            self.told.emit("Offline mode is on: Snug looks when it is off.")
            return
        self._task = self._context.tasks.ask(LookForUpdate(self._address, at_once))
        self._task.finished.connect(self._on_looked)

    def dismiss(self, release: Release) -> None:
        """Do not tell of it again."""
        self._context.settings.update(dismissed_update=release.version)

    def _on_settings_changed(self) -> None:
        is_on = self._context.settings.value.looks_for_updates
        if is_on and not self._was_on:
            self.look(at_once=True)
        self._was_on = is_on

    def _on_looked(self) -> None:
        task, self._task = self._task, None
        assert task
        if task.state == TaskState.SUCCEEDED:
            release: Release | None = task.result
            if release is None:
                self.told.emit("You have the newest version.")
                return
            self.told.emit(f"Snug {release.version} is there.")
            if release.version != self._context.settings.value.dismissed_update:
                self.found.emit(release)
        elif task.error:
            self.told.emit(f"{task.error.message} {task.error.hint}")


class UpdateCard(Card):
    """A newer version: what is new, the page to get it from, and a way to be left alone."""

    closed = Signal()

    def __init__(self, release: Release, updates: Updates) -> None:
        super().__init__()
        news = second(" ".join(release.news))
        news.setTextFormat(Qt.TextFormat.PlainText)
        page = SecondaryButton("See what is new")
        page.clicked.connect(lambda: QDesktopServices.openUrl(QUrl(release.page)))
        later = QuietButton("Not now")
        later.clicked.connect(partial(updates.dismiss, release))
        later.clicked.connect(self.closed)
        words = column(strong(f"Snug {release.version} is there"), news, spacing=2)
        line = row(spacing=theme.SPACE_8)
        line.addLayout(words, 1)
        for button in (later, page):
            line.addWidget(button, 0, Qt.AlignmentFlag.AlignVCenter)
        whole = QWidget()
        whole.setLayout(line)
        self.body.addWidget(whole)
