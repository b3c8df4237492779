"""Outline icons of resources/icons, painted in a colour of the theme worn at that moment.

An icon follows a change of theme by itself: its engine asks for the colour when it paints.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QByteArray, QPoint, QRectF, Qt
from PySide6.QtGui import QIcon, QIconEngine, QPainter, QPixmap, QPixmapCache

from app import theme

if TYPE_CHECKING:
    from PySide6.QtCore import QRect, QSize

_DISABLED_OPACITY = 0.45
_GRID = 24
_STROKE_PX = 1.5


def icon(name: str, colour: str = "text", checked_colour: str = "") -> QIcon:
    """The icon `name` (a file name without .svg) in a token ("second") or "#RRGGBB".

    `checked_colour` is for buttons that are on.
    """
    return QIcon(_SvgEngine(name, colour, checked_colour or colour))


def pixmap(name: str, size_px: int, colour: str = "text", ratio: float = 1.0) -> QPixmap:
    """`name` drawn at `size_px` for a screen of device pixel `ratio`, from Qt's pixmap cache."""
    ink = theme.current().colour(colour).name()
    key = f"snug/{name}/{ink}/{size_px}/{ratio}"
    cached = QPixmap()
    if QPixmapCache.find(key, cached):
        return cached
    side = round(size_px * ratio)
    drawn = QPixmap(side, side)
    drawn.fill(Qt.GlobalColor.transparent)
    painter = QPainter(drawn)
    _draw(painter, name, ink, size_px, side)
    painter.end()
    drawn.setDevicePixelRatio(ratio)
    QPixmapCache.insert(key, drawn)
    return drawn


def _draw(painter: QPainter, name: str, ink: str, size_px: int, side: int) -> None:
    # QtSvg is loaded with the first icon that is painted, not with the first import.
    from PySide6.QtSvg import QSvgRenderer

    svg = (theme.RESOURCES / "icons" / f"{name}.svg").read_bytes()
    svg = svg.replace(b"currentColor", ink.encode())
    # Small icons keep a stroke that can be seen, large ones do not get fat.
    stroke = min(2.0, max(1.1, _STROKE_PX * _GRID / size_px))
    svg = svg.replace(b'stroke-width="1.5"', f'stroke-width="{stroke}"'.encode())
    QSvgRenderer(QByteArray(svg)).render(painter, QRectF(0, 0, side, side))


class _SvgEngine(QIconEngine):
    def __init__(self, name: str, colour: str, checked_colour: str) -> None:
        super().__init__()
        self._name = name
        self._colour = colour
        self._checked_colour = checked_colour

    def _drawn(self, side: int, ratio: float, state: QIcon.State) -> QPixmap:
        colour = self._checked_colour if state == QIcon.State.On else self._colour
        return pixmap(self._name, side, colour, ratio)

    def paint(self, painter: QPainter, rect: QRect, mode: QIcon.Mode, state: QIcon.State) -> None:
        # Not `painter.device()`: to wrap what it returns PySide builds a Python class for every
        # kind of paint device, 8 ms of the start. What paints icons never scales its painter.
        ratio = painter.deviceTransform().m11()
        side = min(rect.width(), rect.height())
        left = rect.x() + (rect.width() - side) // 2
        top = rect.y() + (rect.height() - side) // 2
        if mode == QIcon.Mode.Disabled:
            painter.setOpacity(painter.opacity() * _DISABLED_OPACITY)
        painter.drawPixmap(QPoint(left, top), self._drawn(side, ratio, state))

    def scaledPixmap(
        self, size: QSize, mode: QIcon.Mode, state: QIcon.State, scale: float
    ) -> QPixmap:
        """`size` is in device-independent pixels (Qt 6.8 and later)."""
        side = min(size.width(), size.height())
        drawn = self._drawn(side, scale, state)
        if mode != QIcon.Mode.Disabled:
            return drawn
        faded = QPixmap(drawn.size())
        faded.setDevicePixelRatio(scale)
        faded.fill(Qt.GlobalColor.transparent)
        painter = QPainter(faded)
        painter.setOpacity(_DISABLED_OPACITY)
        painter.drawPixmap(0, 0, drawn)
        painter.end()
        return faded

    def pixmap(self, size: QSize, mode: QIcon.Mode, state: QIcon.State) -> QPixmap:
        return self.scaledPixmap(size, mode, state, 1.0)

    def clone(self) -> QIconEngine:
        return _SvgEngine(self._name, self._colour, self._checked_colour)

    def key(self) -> str:
        return "snug"
