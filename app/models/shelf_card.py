"""The card with what is on this computer: the context it is judged for, the list, the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QEvent, QModelIndex, QObject, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QWidget

from app.context import AppContext
from app.models.context_slider import ContextSlider
from app.models.foot import ShelfFoot
from app.models.list_view import ModelListView
from app.models.model_list import ROW_ROLE, ModelList
from app.models.scan import Row, Shelf
from app.models.verdict import Conditions
from app.widgets import Card, second

if TYPE_CHECKING:
    from engine.hardware import Computer


class ShelfCard(Card):
    """Shows a `Shelf`; one of its models is the current one."""

    current_shown = Signal(object)
    """The `Row` of the current model, another one or with something new to say."""
    opened = Signal()
    remove_requested = Signal()
    failed = Signal(object)
    """An EngineError."""

    def __init__(self, context: AppContext, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self._context = context
        self._computer: Computer | None = None
        self._wanted_path = ""
        self._list = ModelList(self)
        self.context_slider = ContextSlider()
        self.context_slider.moved.connect(lambda _n_ctx: self._show_models())
        self.context_slider.settled.connect(lambda n_ctx: context.settings.update(n_ctx=n_ctx))
        self.view = ModelListView("Models on this computer", self._list)
        self._list.repainted.connect(self.view.repaint_rows)
        self.view.installEventFilter(self)
        self.view.selectionModel().currentChanged.connect(self._on_current_changed)
        self.view.doubleClicked.connect(lambda _index: self.opened.emit())
        self.hint = second(
            "The starter is a toy. To add a real model, drop a GGUF file or a checkpoint folder on"
            " this page, or choose one above: nothing is copied. What you shrink is listed too."
        )
        self.hint.setContentsMargins(8, 0, 8, 8)
        self.hint.hide()
        self.foot = ShelfFoot(context)
        self.foot.arranged.connect(self._show_models)
        self.foot.failed.connect(self.failed)
        self.body.setContentsMargins(8, 8, 8, 8)
        for part in (self.context_slider, self.view, self.hint, self.foot):
            self.body.addWidget(part)

    @property
    def is_empty(self) -> bool:
        return not self._list.models

    @property
    def rows(self) -> tuple[Row, ...]:
        """All of them; for thousands of models this takes a while."""
        return tuple(self._list.row(at) for at in range(self._list.rowCount()))

    @property
    def current_row(self) -> Row | None:
        row: Row | None = self.view.currentIndex().data(ROW_ROLE)
        return row

    def lists(self, path: str) -> bool:
        return self._list.index_of(path).isValid()

    def select(self, path: str) -> None:
        """Select the model at `path`, now or as soon as it is listed."""
        self._wanted_path = path
        index = self._list.index_of(path)
        if index.isValid():
            self.view.setCurrentIndex(index)

    def show_shelf(self, shelf: Shelf) -> None:
        """Show what a scan has found."""
        self._computer = shelf.computer
        self.context_slider.set_value(self._context.settings.value.n_ctx)
        self.foot.show_found(shelf.listed, shelf.disk)
        self.hint.setVisible(all(model.entry.is_starter for model in shelf.listed))
        self._show_models()

    def show_devices(self) -> None:
        """Judge by the devices that are known by now."""
        if self._computer:
            devices = self._context.computer.devices
            self._computer = msgspec.structs.replace(self._computer, devices=devices)
            self._show_models()

    def _show_models(self) -> None:
        if self._computer is None:  # nothing was looked at so far
            return
        conditions = Conditions(
            self._computer, self.context_slider.value, self._context.computer.releasable
        )
        wanted = self._wanted_path
        self._list.show(self.foot.arrange(), conditions, are_copies=self.foot.is_filtering)
        index = self._list.index_of(wanted)
        if not index.isValid():  # beside what is gone, or at the beginning
            index = self.view.currentIndex()
        self.view.setCurrentIndex(index if index.isValid() else self._list.index(0))
        if row := self.current_row:
            self.current_shown.emit(row)

    def _on_current_changed(self, current: QModelIndex, _previous: QModelIndex) -> None:
        row: Row | None = current.data(ROW_ROLE)
        if row:
            self._wanted_path = row.entry.path
            self.current_shown.emit(row)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if watched is self.view and event.type() == QEvent.Type.KeyPress:
            assert isinstance(event, QKeyEvent)
            if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
                self.opened.emit()
                return True
            if event.key() == Qt.Key.Key_Delete:
                self.remove_requested.emit()
                return True
        return super().eventFilter(watched, event)
