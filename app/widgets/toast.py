"""A line over the foot of a page that offers to take back what was just done, for a while."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QObject, QRect, QTimer
from PySide6.QtWidgets import QFrame, QHBoxLayout, QWidget

from app import theme
from app.widgets.buttons import TextLink
from app.widgets.labels import strong

SHOWN_MS = 8000
MOVED = (QEvent.Type.Resize, QEvent.Type.Move, QEvent.Type.Show, QEvent.Type.Hide)


class Toast(QFrame):
    """Stands over `above`, a part of `page`; at the foot of `page` while that part is hidden."""

    def __init__(self, page: QWidget, above: QWidget) -> None:
        super().__init__(page)
        self.setProperty("role", "popup")
        self._page = page
        self._above = above
        self._words = strong("")
        self.undo_button = TextLink("Undo")
        self.undo_button.clicked.connect(self.undo)
        self._undo: Callable[[], None] | None = None
        self._timer = QTimer(self, singleShot=True, interval=SHOWN_MS)
        self._timer.timeout.connect(self.hide)
        box = QHBoxLayout(self)
        box.setContentsMargins(theme.SPACE_16, theme.SPACE_8, theme.SPACE_12, theme.SPACE_8)
        box.setSpacing(theme.SPACE_16)
        box.addWidget(self._words)
        box.addWidget(self.undo_button)
        page.installEventFilter(self)
        above.installEventFilter(self)
        self.hide()

    def offer(self, text: str, undo: Callable[[], None]) -> None:
        """Say what was done; `undo` is called at most once."""
        self._words.setText(text)
        self.setAccessibleName(text)
        self._undo = undo
        self._place()
        self.show()
        self.raise_()
        self._timer.start()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() in MOVED and self.isVisible():
            self._place()
        return False

    def undo(self) -> None:
        """Take it back, as long as that is offered."""
        if self.isVisible() and self._undo:
            self._timer.stop()
            self.hide()
            self._undo()

    def _place(self) -> None:
        self.adjustSize()
        foot = QRect(0, self._page.height() - theme.PAGE_MARGIN, self._page.width(), 0)
        if self._above.isVisible():
            corner = self._above.mapTo(self._page, self._above.rect().topLeft())
            foot = QRect(corner, self._above.size())
        left = foot.x() + (foot.width() - self.width()) // 2
        self.move(left, foot.y() - self.height() - theme.SPACE_12)
