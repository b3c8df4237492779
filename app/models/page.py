"""The Models page: what is on this computer, its details, and what can be done with it.

Files are only ever added by reference; what is removed can be brought back.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QEvent, QModelIndex, QObject, Qt, QTimer, Signal
from PySide6.QtGui import QKeyEvent, QKeySequence, QShortcut, QShowEvent
from PySide6.QtWidgets import (
    QFileDialog,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from app import theme
from app.background import in_background
from app.context import AppContext
from app.models.context_slider import ContextSlider
from app.models.details import Details
from app.models.drop import DropArea
from app.models.exact_fit import ExactFit
from app.models.foot import ShelfFoot
from app.models.leftovers import LeftoverStrip
from app.models.list_view import ModelListView
from app.models.model_list import ROW_ROLE, ModelList
from app.models.remove import Remover
from app.models.reveal import reveal
from app.models.scan import Row, Shelf
from app.models.verdict import Conditions, say
from app.problems import ProblemCard
from app.unfinished import resume, task_of
from app.widgets import (
    Card,
    SecondaryButton,
    SegmentedControl,
    Toast,
    column,
    row,
    second,
    title,
)
from engine.addable import find_addable
from engine.errors import EngineError
from engine.words import format_bytes, plural

if TYPE_CHECKING:
    from app.discover.page import DiscoverPage
    from engine.fit.job import Fitted
    from engine.leftovers import Leftover

log = logging.getLogger(__name__)

TABS = (("here", "On this computer"), ("discover", "Discover"))


class ModelsPage(QWidget):
    chat_requested = Signal(str)
    shrink_requested = Signal(str)
    scanned = Signal()

    def __init__(self, context: AppContext, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self._selected_path = ""
        self.discover: DiscoverPage | None = None
        self.setProperty("role", "page")
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        context.scan.found.connect(self._on_found)
        context.scan.failed.connect(self._on_scan_failed)
        self._shelf: Shelf | None = None
        self._scan_problem: ProblemCard | None = None
        self._list = ModelList(self)
        self._conditions: Conditions | None = None
        self._exact = ExactFit(context.tasks, self)
        self._exact.found.connect(self._on_exact)
        # What a cancelled download leaves looks for two seconds as if somebody fetched it.
        self._soon = QTimer(self, singleShot=True, interval=2500)
        self._soon.timeout.connect(self._refresh_if_shown)
        self._build()
        self.toast = Toast(self, above=self.foot)
        self._remover = Remover(self, context.settings, self.toast)
        self._remover.changed.connect(self._on_removed_or_back)
        self._remover.failed.connect(self._show_problem)
        QShortcut(QKeySequence.StandardKey.Undo, self, self.toast.undo)
        self._drop = DropArea(self, "Drop to add; nothing is copied")
        self._drop.dropped.connect(self.add)
        context.tasks.added.connect(self._on_task_added)
        context.settings.changed.connect(self._on_settings_changed)
        context.computer.changed.connect(self._on_computer_changed)

    # What it is made of

    def _build(self) -> None:
        self._sum = second("Looking for models")
        self._sum.setWordWrap(False)
        self.add_file_button = SecondaryButton("Add a file", "file")
        self.add_file_button.setToolTip("Add a GGUF file from anywhere on this computer")
        self.add_file_button.clicked.connect(self._on_add_file_clicked)
        self.add_folder_button = SecondaryButton("Add a folder", "folder")
        self.add_folder_button.setToolTip("Add a checkpoint folder, or every model in a folder")
        self.add_folder_button.clicked.connect(self._on_add_folder_clicked)
        self._problems = QVBoxLayout()
        self._problems.setSpacing(theme.SPACE_8)
        self.leftovers = LeftoverStrip()
        self.leftovers.discarded.connect(self.refresh)
        self.leftovers.resumed.connect(self._resume)
        self.leftovers.failed.connect(self._show_problem)

        self._stack = QStackedWidget()
        self._stack.addWidget(QWidget())
        self._stack.addWidget(self._build_shelf())
        margin = theme.PAGE_MARGIN
        outer = QVBoxLayout(self)
        outer.setContentsMargins(margin, margin - 4, margin, margin)
        outer.setSpacing(theme.SPACE_16)
        heading = column(title("Models"), self._sum, spacing=2)
        self.tabs = SegmentedControl("Models", TABS)
        self.tabs.set_value("here")
        self.tabs.chosen.connect(self._on_tab_chosen)
        left = row(heading, theme.SPACE_24, self.tabs)
        outer.addLayout(row(left, None, self.add_file_button, self.add_folder_button))
        outer.addLayout(self._problems)
        outer.addWidget(self._stack, 1)
        outer.addWidget(self.leftovers)

    def _build_shelf(self) -> QWidget:
        self.view = ModelListView("Models on this computer", self._list)
        self._list.repainted.connect(self.view.viewport().update)
        self.view.installEventFilter(self)
        self.view.selectionModel().currentChanged.connect(self._on_current_changed)
        self.view.doubleClicked.connect(lambda _index: self._chat_or_shrink())
        self.details = Details()
        self.details.chat_clicked.connect(self._chat_or_shrink)
        self.details.shrink_clicked.connect(self._shrink)
        self.details.reveal_clicked.connect(self._reveal)
        self.details.remove_clicked.connect(self._remove)
        QShortcut(QKeySequence.StandardKey.Refresh, self, self.refresh)
        shelf = Card()
        shelf.body.setContentsMargins(8, 8, 8, 8)
        self.context_slider = ContextSlider()
        self.context_slider.moved.connect(lambda _n_ctx: self._show_rows())
        self.context_slider.settled.connect(
            lambda n_ctx: self._context.settings.update(n_ctx=n_ctx)
        )
        shelf.body.addWidget(self.context_slider)
        shelf.body.addWidget(self.view)
        self.hint = second(
            "The starter is a toy. To add a real model, drop a GGUF file or a checkpoint folder on"
            " this page, or choose one above: nothing is copied. What you shrink is listed too."
        )
        self.hint.setContentsMargins(8, 0, 8, 8)
        shelf.body.addWidget(self.hint)
        self.foot = ShelfFoot(self._context)
        self.foot.arranged.connect(self._show_rows)
        self.foot.failed.connect(self._show_problem)
        shelf.body.addWidget(self.foot)
        whole = QWidget()
        box = row(shelf, self.details, spacing=theme.SPACE_16)
        box.setStretch(0, 1)
        whole.setLayout(box)
        return whole

    def show_discover(self) -> None:
        """Show what can be had from the hub."""
        self.tabs.set_value("discover")
        self._on_tab_chosen("discover")

    def _resume(self, leftover: Leftover) -> None:
        try:
            resume(self._context, leftover)
            self.leftovers.hide()
        except EngineError as error:
            self._show_problem(error)

    def _on_tab_chosen(self, tab: str) -> None:
        if tab == "discover" and self.discover is None:
            from app.discover.page import DiscoverPage

            self.discover = DiscoverPage(self._context)
            self.discover.chat_requested.connect(self.chat_requested)
            self.discover.shrink_requested.connect(self.shrink_requested)
            self._stack.addWidget(self.discover)
        for button in (self.add_file_button, self.add_folder_button):
            button.setVisible(tab == "here")
        if tab == "discover" and self.discover:
            self._stack.setCurrentWidget(self.discover)
            self.leftovers.hide()
        else:
            self._stack.setCurrentIndex(1)
            self.refresh()

    # What is there

    def refresh(self) -> None:
        """Look again; the list changes when the scan has ended."""
        self._context.computer.look()
        self._context.scan.start()

    def current_row(self) -> Row | None:
        row: Row | None = self.view.currentIndex().data(ROW_ROLE)
        return row

    def select(self, path: str) -> None:
        """Select the model at `path`, now or as soon as it is listed."""
        self._selected_path = path
        index = self._list.index_of(path)
        if index.isValid():
            self.view.setCurrentIndex(index)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._show_shelf()  # as it is known by now, until we have looked
        if self.tabs.value == "here":
            (self.view if self._list.rows else self).setFocus(Qt.FocusReason.OtherFocusReason)
        self.refresh()

    def _on_found(self) -> None:
        if self.isVisible():
            self._show_shelf()

    def _on_scan_failed(self, error: EngineError) -> None:
        self._forget_scan_problem()
        self._scan_problem = self._show_problem(error)
        self._scan_problem.dismissed.connect(self._forget_scan_problem)
        if self._shelf is None:
            self._sum.setText("The models could not be looked for")

    def _forget_scan_problem(self) -> None:
        if self._scan_problem:
            _discard(self._scan_problem)
            self._scan_problem = None

    def _show_shelf(self) -> None:
        shelf = self._context.shelf
        if shelf is None or shelf is self._shelf:
            return
        self._shelf = shelf
        self._forget_scan_problem()
        self._conditions = Conditions(shelf.computer)
        self.context_slider.set_value(self._context.settings.value.n_ctx)
        self.foot.show_found(shelf.rows, shelf.disk)
        if self.tabs.value == "here":
            self._stack.setCurrentIndex(1)
            tasks = self._context.tasks
            left = (leftover for leftover in shelf.leftovers if not task_of(tasks, leftover))
            self.leftovers.show_leftovers(tuple(left))
        self.hint.setVisible(all(row.entry.is_starter for row in shelf.rows))
        memory = format_bytes(shelf.computer.memory_available_bytes)
        self._sum.setText(f"{plural(len(shelf.rows), 'model')} · {memory} of memory free")
        self._show_rows()
        self.scanned.emit()

    def _show_rows(self) -> None:
        if self._conditions is None:  # nothing was looked at so far
            return
        wanted = self._selected_path
        self._list.set_rows(self._judged(self.foot.arrange()), are_copies=self.foot.is_filtering)
        index = self._list.index_of(wanted)
        if not index.isValid():  # beside what is gone, or at the beginning
            index = self.view.currentIndex()
        self.view.setCurrentIndex(index if index.isValid() else self._list.index(0))
        if row := self.current_row():
            self._show_details(row)
            if self.hasFocus():
                self.view.setFocus(Qt.FocusReason.OtherFocusReason)

    def _judged(self, rows: tuple[Row, ...]) -> tuple[Row, ...]:
        """The rows, to be judged for the context asked for and the memory as it is."""
        assert self._conditions
        conditions = msgspec.structs.replace(
            self._conditions,
            n_ctx=self.context_slider.value,
            releasable=self._context.computer.releasable,
        )
        return tuple(msgspec.structs.replace(row, conditions=conditions) for row in rows)

    def _show_details(self, row: Row) -> None:
        self.details.show_row(row, self._context.computer.loads.get(row.entry.path))
        self._exact.ask(row)

    def _on_exact(self, row: Row, fitted: Fitted) -> None:
        self.details.show_exact(say(fitted.as_verdict(), row.conditions), fitted.tokens_per_second)

    @property
    def rows(self) -> tuple[Row, ...]:
        return self._list.rows

    def _on_current_changed(self, current: QModelIndex, _previous: QModelIndex) -> None:
        row: Row | None = current.data(ROW_ROLE)
        if row:
            self._selected_path = row.entry.path
            self._show_details(row)

    def _on_task_added(self, task: QObject) -> None:
        # A shrunk or converted model is on the shelf once its task has ended.
        task.finished.connect(self._refresh_if_shown)  # type: ignore[attr-defined]
        task.finished.connect(self._soon.start)  # type: ignore[attr-defined]

    def _on_settings_changed(self) -> None:
        self._refresh_if_shown()

    def _on_computer_changed(self) -> None:
        """Judge by what is known by now; to look again here would never end."""
        if self._conditions:
            devices = self._context.computer.devices
            computer = msgspec.structs.replace(self._conditions.computer, devices=devices)
            self._conditions = msgspec.structs.replace(self._conditions, computer=computer)
            self._show_rows()

    def _refresh_if_shown(self) -> None:
        if self.isVisible():
            self.refresh()

    # Adding

    def add(self, paths: list[str]) -> None:
        """Add files and folders by reference; each that is no model gets a card that says why."""
        in_background(self, partial(_find_all, paths), self._on_addable_found, self._show_problem)

    def _on_addable_found(self, all_found: tuple[list[list[str]], list[EngineError]]) -> None:
        models, problems = all_found
        for error in problems:
            self._show_problem(error)
        added = list(self._context.settings.value.added_models)
        for found in models:
            listed = {row.entry.path for row in self._list.rows} | set(added)
            added += [new for new in found if new not in listed]
            self._selected_path = found[0]
        if added != list(self._context.settings.value.added_models):
            self._context.settings.update(added_models=tuple(added))
            self.foot.show_all()
        self.refresh()

    def _on_add_file_clicked(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(
            self, "Add models", str(Path.home()), "GGUF models (*.gguf);;All files (*)"
        )
        if paths:
            self.add(paths)

    def _on_add_folder_clicked(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Add a folder", str(Path.home()))
        if path:
            self.add([path])

    def _show_problem(self, error: EngineError) -> ProblemCard:
        card = ProblemCard(error)
        card.dismissed.connect(partial(_discard, card))
        self._problems.addWidget(card)
        card.show()
        return card

    # Acting on the selected one

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if watched is self.view and event.type() == QEvent.Type.KeyPress:
            assert isinstance(event, QKeyEvent)
            if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
                self._chat_or_shrink()
                return True
            if event.key() == Qt.Key.Key_Delete:
                self._remove()
                return True
        return super().eventFilter(watched, event)

    def _chat_or_shrink(self) -> None:
        """Chat with the selected model; a checkpoint has to be shrunk before."""
        row = self.current_row()
        if row is None or row.entry.summary is None:
            return
        if row.entry.summary.kind == "checkpoint":
            self.shrink_requested.emit(row.entry.path)
        else:
            self.chat_requested.emit(row.entry.path)

    def _shrink(self) -> None:
        if row := self.current_row():
            self.shrink_requested.emit(row.entry.path)

    def _reveal(self) -> None:
        if row := self.current_row():
            reveal(row.entry.path)

    def _remove(self) -> None:
        row = self.current_row()
        if row and not (row.entry.is_starter or row.entry.origin):
            self._remover.remove(row)

    def _on_removed_or_back(self, path: str) -> None:
        self._selected_path = path
        self.refresh()


def _find_all(paths: list[str]) -> tuple[list[list[str]], list[EngineError]]:
    """The models that each of `paths` leads to, and what is wrong with those that lead to none."""
    models, problems = [], []
    for path in paths:
        try:
            models.append(find_addable(Path(path)))
        except EngineError as error:
            problems.append(error)
    return models, problems


def _discard(card: QWidget) -> None:
    card.hide()
    card.deleteLater()
