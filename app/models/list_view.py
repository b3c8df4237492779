"""The view of a list of models: rows that `RowDelegate` paints, scrolled up and down only."""

from __future__ import annotations

from PySide6.QtCore import QAbstractItemModel, Qt
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QListView, QWidget

from app import theme
from app.models.row import RowDelegate


class ModelListView(QListView):
    """`model` gives LINES_ROLE; `shows_verdict` is off where every row fits alike.

    It stands on a card. What is under it is painted here, opaque: so Qt moves what stays visible
    while it scrolls, and only the rows that come in are painted.
    """

    def __init__(self, name: str, model: QAbstractItemModel, *, shows_verdict: bool = True) -> None:
        super().__init__()
        self._ground = QWidget()  # see `Scroll`: not the one that Qt makes
        self._ground.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setViewport(self._ground)
        self.setAccessibleName(name)
        self.setModel(model)
        self._delegate = RowDelegate(shows_verdict=shows_verdict)
        self.setItemDelegate(self._delegate)
        self.setUniformItemSizes(True)  # or thousands of rows are measured at every change
        self.setGridSize(self._delegate.size)  # or the model is asked for each of them
        self.setMouseTracking(True)
        self.setVerticalScrollMode(QListView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setEditTriggers(QListView.EditTrigger.NoEditTriggers)

    def paintEvent(self, event: QPaintEvent) -> None:
        with QPainter(self._ground) as painter:
            painter.setBackground(theme.current().colour("surface"))
            painter.eraseRect(event.rect())
        # One by one: Qt paints all rows between the one under the mouse and those that come in.
        for part in event.region():  # type: ignore[attr-defined]
            super().paintEvent(QPaintEvent(part))

    def repaint_rows(self) -> None:
        """Say of the same rows what is true now."""
        self.executeDelayedItemsLayout()  # of rows that came or went: or all is painted twice
        self._ground.update()
