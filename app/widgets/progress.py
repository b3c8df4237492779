"""How far something is: a bar, and the ring of the rail."""

from __future__ import annotations

from PySide6.QtCore import QRectF, Qt, QVariantAnimation
from PySide6.QtGui import QHideEvent, QPainter, QPaintEvent, QPen, QShowEvent
from PySide6.QtWidgets import QProgressBar, QWidget

from app import theme


def has_motion(widget: QWidget) -> bool:
    """False where the desktop asks for reduced motion."""
    from PySide6.QtWidgets import QStyle

    hint = QStyle.StyleHint.SH_Widget_Animation_Duration
    return widget.style().styleHint(hint, None, widget) > 0


class ProgressBar(QProgressBar):
    """A thin bar; `set_fraction(None)` sweeps while the end is not known.

    The sweep's timer runs only while it is on screen, so an idle window stays idle.
    """

    HEIGHT = 6

    def __init__(self, name: str = "Progress", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setTextVisible(False)
        self.setRange(0, 1000)
        self.setFixedHeight(self.HEIGHT)
        self._token = "accent"
        self._sweep = QVariantAnimation(self)
        self._sweep.setStartValue(0.0)
        self._sweep.setEndValue(1.0)
        self._sweep.setDuration(1400)
        self._sweep.setLoopCount(-1)
        self._sweep.valueChanged.connect(lambda _value: self.update())

    def set_fraction(self, fraction: float | None) -> None:
        self.setRange(0, 0 if fraction is None else 1000)
        if fraction is not None:
            self.setValue(round(max(0.0, min(1.0, fraction)) * 1000))
        self._turn_sweep()
        self.update()

    def set_colour(self, token: str) -> None:
        """A theme token, or a "#RRGGBB" such as a bit colour."""
        self._token = token
        self.update()

    def _turn_sweep(self) -> None:
        wanted = self.maximum() == 0 and self.isVisible() and has_motion(self)
        if wanted and self._sweep.state() != QVariantAnimation.State.Running:
            self._sweep.start()
        elif not wanted:
            self._sweep.stop()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._turn_sweep()

    def hideEvent(self, event: QHideEvent) -> None:
        super().hideEvent(event)
        self._turn_sweep()

    def paintEvent(self, _event: QPaintEvent) -> None:
        now = theme.current()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        area = QRectF(self.rect())
        radius = area.height() / 2
        painter.setBrush(now.colour(theme.mix(now.surface, now.outline, 0.35)))
        painter.drawRoundedRect(area, radius, radius)
        bar = QRectF(area)
        if self.maximum() == 0:
            at = self._sweep.currentValue() if has_motion(self) else 0.35
            bar.setWidth(area.width() * 0.3)
            bar.moveLeft((area.width() * 1.3) * float(at or 0.0) - bar.width())
            bar = bar.intersected(area)
        else:
            bar.setWidth(area.width() * self.value() / self.maximum())
            if 0 < bar.width() < area.height():
                bar.setWidth(area.height())
        if bar.width() > 0:
            painter.setBrush(now.colour(self._token))
            painter.drawRoundedRect(bar, radius, radius)


def paint_ring(painter: QPainter, area: QRectF, fraction: float | None, text: str) -> None:
    """Draw a progress ring with `text` in its middle into the square `area`."""
    now = theme.current()
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    circle = area.adjusted(2, 2, -2, -2)
    pen = QPen(now.colour(theme.mix(now.surface, now.outline, 0.35)), 2.5)
    pen.setCapStyle(Qt.PenCapStyle.RoundCap)
    painter.setPen(pen)
    painter.drawEllipse(circle)
    pen.setColor(now.colour("accent"))
    painter.setPen(pen)
    part = 0.25 if fraction is None else fraction
    painter.drawArc(circle, 90 * 16, -round(part * 360 * 16))
    painter.setPen(now.colour("text"))
    painter.setFont(theme.ui_font(11))
    painter.drawText(area, Qt.AlignmentFlag.AlignCenter, text)
