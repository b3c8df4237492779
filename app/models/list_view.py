"""The view of a list of models: rows that `RowDelegate` paints, scrolled up and down only."""

from __future__ import annotations

from PySide6.QtCore import QAbstractItemModel, Qt
from PySide6.QtWidgets import QListView

from app.models.row import RowDelegate


class ModelListView(QListView):
    """`model` gives LINES_ROLE; `shows_verdict` is off where every row fits alike."""

    def __init__(self, name: str, model: QAbstractItemModel, *, shows_verdict: bool = True) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setModel(model)
        self._delegate = RowDelegate(shows_verdict=shows_verdict)
        self.setItemDelegate(self._delegate)
        self.setUniformItemSizes(True)  # or thousands of rows are measured at every change
        self.setMouseTracking(True)
        self.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setEditTriggers(QListView.EditTrigger.NoEditTriggers)
