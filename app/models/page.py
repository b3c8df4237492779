"""The Models page: what is on this computer, its details, and what can be done with it.

Files are only ever added by reference; what is removed can be brought back.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, QTimer, Signal
from PySide6.QtGui import QKeySequence, QShortcut, QShowEvent
from PySide6.QtWidgets import QStackedWidget, QVBoxLayout, QWidget

from app import theme
from app.background import in_background
from app.context import AppContext
from app.models.add import AddButtons
from app.models.details import Details
from app.models.drop import DropArea
from app.models.exact_fit import ExactFit
from app.models.leftovers import LeftoverStrip
from app.models.remove import Remover
from app.models.scan import Row, Shelf
from app.models.shelf_card import ShelfCard
from app.models.verdict import say
from app.problems import ProblemCard
from app.widgets import SegmentedControl, Toast, column, row, second, title
from engine.errors import EngineError
from engine.quantize.report import ShrinkReport, read_report
from engine.words import format_bytes, plural

if TYPE_CHECKING:
    from app.discover.page import DiscoverPage
    from engine.fit.job import Fitted

TABS = (("here", "On this computer"), ("discover", "Discover"))


class ModelsPage(QWidget):
    chat_requested = Signal(str)
    shrink_requested = Signal(str)
    scanned = Signal()

    def __init__(self, context: AppContext, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self._shelf: Shelf | None = None
        self._scan_problem: ProblemCard | None = None
        self.discover: DiscoverPage | None = None
        self.setProperty("role", "page")
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self._exact = ExactFit(context.tasks, self)
        self._exact.found.connect(self._on_exact)
        # What a cancelled download leaves looks for two seconds as if somebody fetched it.
        self._soon = QTimer(self, singleShot=True, interval=2500)
        self._soon.timeout.connect(self._refresh_if_shown)
        self._build()
        self.toast = Toast(self, above=self.shelf.foot)
        self._remover = Remover(self, context.settings, self.toast)
        self._remover.changed.connect(self._on_removed_or_back)
        self._remover.failed.connect(self._show_problem)
        QShortcut(QKeySequence.StandardKey.Undo, self, self.toast.undo)
        QShortcut(QKeySequence.StandardKey.Refresh, self, self.refresh)
        self._drop = DropArea(self, "Drop to add; nothing is copied")
        self._drop.dropped.connect(self.add)
        context.scan.found.connect(self._on_found)
        context.scan.failed.connect(self._on_scan_failed)
        context.tasks.added.connect(self._on_task_added)
        context.settings.changed.connect(self._refresh_if_shown)
        # To look again here would never end.
        context.computer.changed.connect(self.shelf.show_devices)

    # What it is made of

    def _build(self) -> None:
        self._sum = second("Looking for models")
        self._sum.setWordWrap(False)
        self.tabs = SegmentedControl("Models", TABS)
        self.tabs.set_value("here")
        self.tabs.chosen.connect(self._on_tab_chosen)
        self._add_buttons = AddButtons(self._context)
        self._add_buttons.added.connect(self._on_added)
        self._add_buttons.failed.connect(self._show_problem)
        self._problems = QVBoxLayout()
        self._problems.setSpacing(theme.SPACE_8)
        self._stack = QStackedWidget()
        self._stack.addWidget(QWidget())
        self._stack.addWidget(self._build_here())
        self.leftovers = LeftoverStrip(self._context)
        self.leftovers.discarded.connect(self.refresh)
        self.leftovers.failed.connect(self._show_problem)
        margin = theme.PAGE_MARGIN
        outer = QVBoxLayout(self)
        outer.setContentsMargins(margin, margin - 4, margin, margin)
        outer.setSpacing(theme.SPACE_16)
        heading = column(title("Models"), self._sum, spacing=2)
        outer.addLayout(row(heading, theme.SPACE_24, self.tabs, None, self._add_buttons))
        outer.addLayout(self._problems)
        outer.addWidget(self._stack, 1)
        outer.addWidget(self.leftovers)

    def _build_here(self) -> QWidget:
        self.shelf = ShelfCard(self._context)
        self.shelf.current_shown.connect(self._show_details)
        self.shelf.opened.connect(self._chat_or_shrink)
        self.shelf.remove_requested.connect(self._remove)
        self.shelf.failed.connect(self._show_problem)
        self.details = Details()
        self.details.chat_clicked.connect(self._chat_or_shrink)
        self.details.shrink_clicked.connect(self._shrink)
        self.details.reveal_clicked.connect(self._reveal)
        self.details.remove_clicked.connect(self._remove)
        here = QWidget()
        box = row(self.shelf, self.details, spacing=theme.SPACE_16)
        box.setStretch(0, 1)
        here.setLayout(box)
        return here

    def show_discover(self) -> None:
        """Show what can be had from the hub."""
        self.tabs.set_value("discover")
        self._on_tab_chosen("discover")

    def _on_tab_chosen(self, tab: str) -> None:
        if tab == "discover" and self.discover is None:
            from app.discover.page import DiscoverPage

            self.discover = DiscoverPage(self._context)
            self.discover.chat_requested.connect(self.chat_requested)
            self.discover.shrink_requested.connect(self.shrink_requested)
            self._stack.addWidget(self.discover)
        self._add_buttons.setVisible(tab == "here")
        if tab == "discover" and self.discover:
            self._stack.setCurrentWidget(self.discover)
            self.leftovers.hide()
        else:
            self._stack.setCurrentIndex(1)
            self.refresh()

    # What is there

    def refresh(self) -> None:
        """Look again; the list changes when the scan has ended."""
        self._context.scan.start()

    def add(self, paths: list[str]) -> None:
        """Add files and folders by reference; each that is no model gets a card that says why."""
        self._add_buttons.add(paths)

    def select(self, path: str) -> None:
        """Select the model at `path`, now or as soon as it is listed."""
        self.shelf.select(path)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._show_shelf()  # as it is known by now, until we have looked
        if self.tabs.value == "here":
            here = self if self.shelf.is_empty else self.shelf.view
            here.setFocus(Qt.FocusReason.OtherFocusReason)
        self.refresh()

    def _on_found(self) -> None:
        if self.isVisible():
            self._show_shelf()

    def _show_shelf(self) -> None:
        shelf = self._context.shelf
        if shelf is None or shelf is self._shelf:
            return
        self._shelf = shelf
        self._forget_scan_problem()
        memory = format_bytes(shelf.computer.memory_available_bytes)
        self._sum.setText(f"{plural(len(shelf.models), 'model')} · {memory} of memory free")
        self.shelf.show_shelf(shelf)
        if self.tabs.value == "here":
            self._stack.setCurrentIndex(1)
            self.leftovers.show_leftovers(shelf.leftovers)
            if self.hasFocus():
                self.shelf.view.setFocus(Qt.FocusReason.OtherFocusReason)
        self._context.computer.look()  # not before: it starts a process
        self.scanned.emit()

    def _show_details(self, row: Row) -> None:
        self.details.show_row(row, self._context.computer.loads.get(row.entry.path))
        self._exact.ask(row)
        if row.entry.summary and row.entry.summary.kind == "gguf":
            read = partial(read_report, Path(row.entry.path))
            in_background(self, read, partial(self._on_report, row), self._show_problem)

    def _on_report(self, row: Row, report: ShrinkReport | None) -> None:
        current = self.shelf.current_row
        if current and current.entry.path == row.entry.path:
            self.details.show_report(report)

    def _on_exact(self, row: Row, fitted: Fitted) -> None:
        self.details.show_exact(say(fitted.as_verdict(), row.conditions), fitted.tokens_per_second)

    def _on_task_added(self, task: QObject) -> None:
        # A shrunk or converted model is on the shelf once its task has ended.
        task.finished.connect(self._refresh_if_shown)  # type: ignore[attr-defined]
        task.finished.connect(self._soon.start)  # type: ignore[attr-defined]

    def _refresh_if_shown(self) -> None:
        if self.isVisible():
            self.refresh()

    def _on_added(self, path: str) -> None:
        if path:
            self.shelf.select(path)
            self.shelf.foot.show_all()
        self.refresh()

    # What went wrong

    def _show_problem(self, error: EngineError) -> ProblemCard:
        card = ProblemCard(error)
        card.dismissed.connect(partial(_discard, card))
        self._problems.addWidget(card)
        card.show()
        return card

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

    # Acting on the selected one

    def _chat_or_shrink(self) -> None:
        """Chat with the selected model; a checkpoint has to be shrunk before."""
        row = self.shelf.current_row
        if row is None or row.entry.summary is None:
            return
        if row.entry.summary.kind == "checkpoint":
            self.shrink_requested.emit(row.entry.path)
        else:
            self.chat_requested.emit(row.entry.path)

    def _shrink(self) -> None:
        if row := self.shelf.current_row:
            self.shrink_requested.emit(row.entry.path)

    def _reveal(self) -> None:
        from app.models.reveal import reveal

        if row := self.shelf.current_row:
            reveal(row.entry.path)

    def _remove(self) -> None:
        row = self.shelf.current_row
        if row and not (row.entry.is_starter or row.entry.origin):
            self._remover.remove(row)

    def _on_removed_or_back(self, path: str) -> None:
        self.shelf.select(path)
        self.refresh()


def _discard(card: QWidget) -> None:
    card.hide()
    card.deleteLater()
