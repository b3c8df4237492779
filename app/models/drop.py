"""Lets files and folders be dropped anywhere on a page, and shows where they will land."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QDropEvent, QFont, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QWidget

from app import theme

INSET = 8
RADIUS = 12


class DropArea(QObject):
    """Makes `page` take local files: `dropped` carries their paths as a list of str."""

    dropped = Signal(list)

    def __init__(self, page: QWidget, invitation: str) -> None:
        super().__init__(page)
        self._page = page
        self._veil = _Veil(page, invitation)
        page.setAcceptDrops(True)
        page.installEventFilter(self)

    def set_open(self, is_open: bool) -> None:
        """Take drops, or refuse them for a while."""
        self._page.setAcceptDrops(is_open)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        match event.type():
            case QEvent.Type.DragEnter | QEvent.Type.DragMove:
                assert isinstance(event, QDropEvent)
                if not local_paths(event):
                    return False
                event.acceptProposedAction()
                self._veil.cover()
                return True
            case QEvent.Type.DragLeave:
                self._veil.hide()
                return True
            case QEvent.Type.Drop:
                assert isinstance(event, QDropEvent)
                self._veil.hide()
                event.acceptProposedAction()
                self.dropped.emit(local_paths(event))
                return True
            case QEvent.Type.Resize:
                self._veil.resize(self._page.size())
        return False


def local_paths(event: QDropEvent) -> list[str]:
    """The files and folders of this computer that a drag carries."""
    return [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]


class _Veil(QWidget):
    """Covers the page while something droppable hangs over it."""

    def __init__(self, page: QWidget, invitation: str) -> None:
        super().__init__(page)
        self._page = page
        self._invitation = invitation
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.hide()

    def cover(self) -> None:
        self.resize(self._page.size())
        self.raise_()
        self.show()

    def paintEvent(self, event: QPaintEvent) -> None:
        colours = theme.current()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        veil = QColor(colours.window)
        veil.setAlphaF(0.94)
        painter.fillRect(self.rect(), veil)
        frame = QRectF(self.rect()).adjusted(INSET, INSET, -INSET, -INSET)
        painter.setPen(QPen(QColor(colours.accent), 2))
        painter.drawRoundedRect(frame, RADIUS, RADIUS)
        font = QFont(self.font())
        font.setPixelSize(15)
        font.setWeight(QFont.Weight.DemiBold)
        painter.setFont(font)
        painter.drawText(frame, Qt.AlignmentFlag.AlignCenter, self._invitation)
