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
PADDING = theme.CARD_PADDING - theme.SPACE_8  # under the headings of the card around it
BADGE_HEIGHT = 20
BADGE_PADDING = 8
DISABLED_OPACITY = 0.55
LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter


class RowDelegate(QStyledItemDelegate):
    """`shows_verdict` is off where every row fits alike, as among the sources for shrinking."""

    def __init__(self, *, shows_verdict: bool = True) -> None:
        super().__init__()
        self.size = QSize(200, HEIGHT + GAP)
        """In px; at least so wide."""
        self._shows_verdict = shows_verdict
        self._name = _Face(13, QFont.Weight.DemiBold)
        self._second = _Face(12)
        self._badge = _Face(12, QFont.Weight.Medium)

    def sizeHint(
        self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> QSize:
        return self.size

    def paint(
        self,
        painter: QPainter,
        option: QStyleOptionViewItem,
        index: QModelIndex | QPersistentModelIndex,
    ) -> None:
        lines: Lines = index.data(LINES_ROLE)
        state = option.state
        area: QRect = option.rect.adjusted(1, 1, -1, -1 - GAP)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if not state & QStyle.StateFlag.State_Enabled:
            painter.setOpacity(DISABLED_OPACITY)
        is_selected = bool(state & QStyle.StateFlag.State_Selected)
        if is_selected or state & QStyle.StateFlag.State_MouseOver:
            has_focus = bool(state & QStyle.StateFlag.State_HasFocus)
            self._paint_ground(painter, QRectF(area), is_selected, has_focus)
        inner = option.rect.adjusted(PADDING, 10, -PADDING, -10 - GAP)
        upper = QRect(inner.left(), inner.top(), inner.width(), 20)
        lower = QRect(inner.left(), inner.bottom() - 20, inner.width(), BADGE_HEIGHT)
        self._paint_words(painter, lines, upper, lower, is_selected)
        painter.restore()

    def _paint_ground(
        self, painter: QPainter, area: QRectF, is_selected: bool, has_focus: bool
    ) -> None:
        now = theme.current()
        ground = (
            now.tint("accent", 0.12) if is_selected else theme.mix(now.surface, now.raised, 0.7)
        )
        painter.setBrush(QColor(ground))
        painter.setPen(now.colour("accent") if is_selected and has_focus else Qt.PenStyle.NoPen)
        painter.drawRoundedRect(area.adjusted(0.5, 0.5, -0.5, -0.5), theme.RADIUS, theme.RADIUS)

    def _paint_words(
        self, painter: QPainter, lines: Lines, upper: QRect, lower: QRect, is_selected: bool
    ) -> None:
        now = theme.current()
        size_width = self._second.width(lines.size)
        painter.setFont(self._second.font)
        painter.setPen(now.colour("second"))
        painter.drawText(upper, RIGHT, lines.size)
        badge_width = 0
        if self._shows_verdict and lines.badge:
            badge_width = self._paint_badge(painter, lines, lower, is_selected)
        upper.setRight(upper.right() - size_width - theme.SPACE_12)
        self._name.paint(painter, upper, lines.name, now.text)
        lower.setRight(lower.right() - badge_width - theme.SPACE_12)
        self._second.paint(painter, lower, " · ".join(lines.facts), now.second)

    def _paint_badge(self, painter: QPainter, lines: Lines, line: QRect, is_selected: bool) -> int:
        """Paint the fit badge at the right end of `line`; return its width in px."""
        width = self._badge.width(lines.badge) + 2 * BADGE_PADDING
        chip = QRect(line.right() - width + 1, line.top(), width, BADGE_HEIGHT)
        ink, ground = badge_colours(lines.tone, is_selected)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(ground))
        painter.drawRoundedRect(QRectF(chip), theme.RADIUS_CHIP, theme.RADIUS_CHIP)
        painter.setPen(QColor(ink))
        painter.setFont(self._badge.font)
        painter.drawText(chip, Qt.AlignmentFlag.AlignCenter, lines.badge)
        return width


class _Face:
    """A font and its metrics, made once for all rows."""

    def __init__(self, size_px: int, weight: QFont.Weight = QFont.Weight.Normal) -> None:
        self.font = theme.ui_font(size_px, weight)
        self._metrics = QFontMetrics(self.font)

    def width(self, text: str) -> int:
        return self._metrics.horizontalAdvance(text)

    def paint(self, painter: QPainter, area: QRect, text: str, ink: str) -> None:
        """Paint one line at the left of `area`, with "..." where it is too long."""
        painter.setFont(self.font)
        painter.setPen(QColor(ink))
        shown = self._metrics.elidedText(text, Qt.TextElideMode.ElideRight, area.width())
        painter.drawText(area, LEFT, shown)


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
