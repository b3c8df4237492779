"""The card at the left of the Shrink page: which model to make smaller."""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, Signal
from PySide6.QtWidgets import QWidget

from app import theme
from app.models.details import can_shrink
from app.models.list_view import ModelListView
from app.models.model_list import ROW_ROLE, ModelList
from app.models.scan import Row, Shelf
from app.models.verdict import Conditions
from app.widgets import Card, QuietButton, row, second, section


class SourceCard(Card):
    """Lists what can be shrunk; `chosen` carries the path of what was picked in the list."""

    chosen = Signal(str)
    file_clicked = Signal()
    folder_clicked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self._path = ""
        self._list = ModelList(self)
        self.view = ModelListView("Models to shrink", self._list, shows_verdict=False)
        self._list.repainted.connect(self.view.repaint_rows)
        self.view.selectionModel().currentChanged.connect(self._on_current_changed)
        self._hint = second(
            "The starter is here to try it with. What can be shrunk besides is a checkpoint folder,"
            " or a GGUF file of 16 or 32 bits: drop one here, or choose it."
        )
        self._hint.hide()
        self.file_button = QuietButton("Choose a file", "file")
        self.file_button.clicked.connect(self.file_clicked)
        self.folder_button = QuietButton("Choose a folder", "folder")
        self.folder_button.clicked.connect(self.folder_clicked)
        # The rows have a ground of their own: they reach a little into the card's padding.
        self.body.setContentsMargins(8, theme.CARD_PADDING, 8, 8)
        heading = section("Source")
        heading.setContentsMargins(8, 0, 8, 0)
        self._hint.setContentsMargins(8, 0, 8, 8)
        self.body.addWidget(heading)
        self.body.addWidget(self.view, 1)
        self.body.addWidget(self._hint)
        self.body.addLayout(row(self.file_button, self.folder_button, None, spacing=0))

    def row_of(self, path: str) -> Row | None:
        found: Row | None = self._list.index_of(path).data(ROW_ROLE)
        return found

    def show_shelf(self, shelf: Shelf) -> None:
        models = tuple(model for model in shelf.listed if can_shrink(model.entry))
        if self._path not in (model.entry.path for model in models):
            self.view.setCurrentIndex(QModelIndex())  # nor the one beside it is chosen
        self._list.show(models, Conditions(shelf.computer))
        self._hint.setVisible(all(model.entry.is_starter for model in models))
        self.select(self._path)

    def select(self, path: str) -> None:
        """Mark the model at `path`, now or as soon as it is listed, without telling `chosen`."""
        self._path = path
        index = self._list.index_of(path)
        if index.isValid():
            self.view.setCurrentIndex(index)
        else:
            self.view.setCurrentIndex(QModelIndex())

    def _on_current_changed(self, current: QModelIndex, _previous: QModelIndex) -> None:
        row: Row | None = current.data(ROW_ROLE)
        if row and row.entry.path != self._path:
            self._path = row.entry.path
            self.chosen.emit(self._path)
