"""Paints one model of a list: two lines at the left, size and fit badge at the right."""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter
from PySide6.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem

from app import theme
from app.models.model_list import LINES_ROLE, Lines
from app.models.verdict import Tone

HEIGHT = 60
GAP = 2
PADDING = 12
BADGE_HEIGHT = 20
BADGE_PADDING = 8
DISABLED_OPACITY = 0.55


class RowDelegate(QStyledItemDelegate):
    """`shows_verdict` is off where every row fits alike, as among the sources for shrinking."""

    def __init__(self, *, shows_verdict: bool = True) -> None:
        super().__init__()
        self._shows_verdict = shows_verdict

    def sizeHint(
        self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> QSize:
        return QSize(200, HEIGHT + GAP)

    def paint(
        self,
        painter: QPainter,
        option: QStyleOptionViewItem,
        index: QModelIndex | QPersistentModelIndex,
    ) -> None:
        lines: Lines = index.data(LINES_ROLE)
        area: QRect = option.rect.adjusted(1, 1, -1, -1 - GAP)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if not option.state & QStyle.StateFlag.State_Enabled:
            painter.setOpacity(DISABLED_OPACITY)
        self._paint_ground(painter, QRectF(area), option.state)
        inner = area.adjusted(PADDING, 9, -PADDING, -9)
        upper = QRect(inner.left(), inner.top(), inner.width(), 20)
        lower = QRect(inner.left(), inner.bottom() - 20, inner.width(), BADGE_HEIGHT)
        is_selected = bool(option.state & QStyle.StateFlag.State_Selected)
        self._paint_words(painter, lines, upper, lower, is_selected)
        painter.restore()

    def _paint_ground(self, painter: QPainter, area: QRectF, state: QStyle.StateFlag) -> None:
        now = theme.current()
        painter.setPen(Qt.PenStyle.NoPen)
        if state & QStyle.StateFlag.State_Selected:
            painter.setBrush(QColor(now.tint("accent", 0.12)))
        elif state & QStyle.StateFlag.State_MouseOver:
            painter.setBrush(QColor(theme.mix(now.surface, now.raised, 0.7)))
        else:
            painter.setBrush(Qt.BrushStyle.NoBrush)
        if state & QStyle.StateFlag.State_HasFocus and state & QStyle.StateFlag.State_Selected:
            painter.setPen(now.colour("accent"))
        painter.drawRoundedRect(area.adjusted(0.5, 0.5, -0.5, -0.5), theme.RADIUS, theme.RADIUS)

    def _paint_words(
        self, painter: QPainter, lines: Lines, upper: QRect, lower: QRect, is_selected: bool
    ) -> None:
        now = theme.current()
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        size_font = theme.ui_font(12)
        size_width = QFontMetrics(size_font).horizontalAdvance(lines.size)
        painter.setFont(size_font)
        painter.setPen(now.colour("second"))
        painter.drawText(upper, right, lines.size)
        badge_width = 0
        if self._shows_verdict and lines.badge:
            badge_width = self._paint_badge(painter, lines, lower, is_selected)
        self._line(
            painter,
            upper.adjusted(0, 0, -size_width - PADDING, 0),
            lines.name,
            theme.ui_font(13, QFont.Weight.DemiBold),
            now.text,
        )
        self._line(
            painter,
            lower.adjusted(0, 0, -badge_width - PADDING, 0),
            " · ".join(lines.facts),
            theme.ui_font(12),
            now.second,
        )

    def _line(self, painter: QPainter, area: QRect, text: str, font: QFont, ink: str) -> None:
        painter.setFont(font)
        painter.setPen(QColor(ink))
        shown = QFontMetrics(font).elidedText(text, Qt.TextElideMode.ElideRight, area.width())
        painter.drawText(area, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, shown)

    def _paint_badge(self, painter: QPainter, lines: Lines, line: QRect, is_selected: bool) -> int:
        """Paint the fit badge at the right end of `line`; return its width in px."""
        font = theme.ui_font(12, QFont.Weight.Medium)
        text_width = QFontMetrics(font).horizontalAdvance(lines.badge)
        width = text_width + 2 * BADGE_PADDING
        chip = QRect(line.right() - width + 1, line.top(), width, BADGE_HEIGHT)
        ink, ground = badge_colours(lines.tone, is_selected)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(ground))
        painter.drawRoundedRect(QRectF(chip), theme.RADIUS_CHIP, theme.RADIUS_CHIP)
        painter.setPen(QColor(ink))
        painter.setFont(font)
        painter.drawText(chip, Qt.AlignmentFlag.AlignCenter, lines.badge)
        return width


def badge_colours(tone: Tone, is_selected: bool) -> tuple[str, str]:
    """Ink and ground of a badge, the same as the stylesheet gives a `Badge`.

    On a selected row, which is tinted itself, the chip has the colour of the surface.
    """
    now = theme.current()
    if is_selected:
        return (now.second if tone == "neutral" else getattr(now, tone)), now.surface
    if tone == "neutral":
        return now.second, now.raised
    return getattr(now, tone), now.tint(tone)
