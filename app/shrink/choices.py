"""The widths to choose from: one row a recipe, with its exact size and whether it fits."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QRect, QRectF, QSignalBlocker, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QEnterEvent,
    QFont,
    QFontMetrics,
    QKeyEvent,
    QPainter,
    QPaintEvent,
    QPen,
)
from PySide6.QtWidgets import QButtonGroup, QRadioButton, QSizePolicy, QVBoxLayout, QWidget

from app import theme
from app.models.row import badge_colours
from engine.fit.recommend import Choice, Recommendation
from engine.words import format_bytes, format_bytes_exact

HEIGHT = 34


class ChoiceRow(QRadioButton):
    """A radio button drawn as a row of a table."""

    def __init__(self, choice: Choice, *, is_recommended: bool) -> None:
        super().__init__()
        self.choice = choice
        self._is_recommended = is_recommended
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMouseTracking(True)
        fits = "fits" if choice.fits else "too large"
        recommended = ", recommended" if is_recommended else ""
        self.setAccessibleName(
            f"{choice.recipe}{recommended}, {choice.bits_per_weight:.2f} bits per weight, "
            f"{format_bytes(choice.size_bytes)}, {fits}"
        )
        needed = format_bytes(choice.memory.total_bytes)
        self.setToolTip(f"{format_bytes_exact(choice.size_bytes)}\nNeeds {needed} of memory")

    def sizeHint(self) -> QSize:
        return QSize(320, HEIGHT)

    def hitButton(self, position: object) -> bool:
        return True

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self.update()

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        now = theme.current()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        ground = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        painter.setPen(QPen(now.colour("accent"), 1) if self.hasFocus() else Qt.PenStyle.NoPen)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        if self.isChecked():
            painter.setBrush(QColor(now.tint("accent", 0.12)))
        elif self.underMouse():
            painter.setBrush(QColor(theme.mix(now.surface, now.raised, 0.7)))
        painter.drawRoundedRect(ground, theme.RADIUS, theme.RADIUS)
        self._paint_mark(painter)
        self._paint_words(painter)

    def _paint_mark(self, painter: QPainter) -> None:
        now = theme.current()
        ring = QRectF(11, (self.height() - 14) / 2, 14, 14)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        ink = now.colour("accent" if self.isChecked() else "outline")
        painter.setPen(QPen(ink, 1.5))
        painter.drawEllipse(ring)
        if self.isChecked():
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(ink)
            painter.drawEllipse(ring.adjusted(3.5, 3.5, -3.5, -3.5))

    def _paint_words(self, painter: QPainter) -> None:
        now, choice = theme.current(), self.choice
        left = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        line = self.rect().adjusted(36, 0, -12, 0)
        strong = theme.ui_font(13, QFont.Weight.DemiBold)
        painter.setFont(strong)
        painter.setPen(now.colour("text"))
        painter.drawText(line, left, choice.recipe)
        # Sizes stand under one another; the fit follows in a column of its own.
        painter.setFont(theme.ui_font(13))
        size_end = line.right() - 84
        painter.drawText(
            QRect(line.left(), 0, size_end - line.left(), line.height()),
            right,
            format_bytes(choice.size_bytes),
        )
        painter.setFont(theme.ui_font(12))
        painter.setPen(now.colour("second"))
        painter.drawText(line.adjusted(70, 0, 0, 0), left, f"{choice.bits_per_weight:.2f} bits")
        painter.setPen(now.colour("good" if choice.fits else "bad"))
        painter.drawText(line, right, "Fits" if choice.fits else "Too large")
        if self._is_recommended:
            self._paint_chip(painter, line.left() + 138)

    def _paint_chip(self, painter: QPainter, x: int) -> None:
        font = theme.ui_font(12, QFont.Weight.Medium)
        text = "Recommended"
        width = QFontMetrics(font).horizontalAdvance(text) + 16
        chip = QRect(x, (self.height() - 20) // 2, width, 20)
        ink, ground = badge_colours("good", self.isChecked())
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(ground))
        painter.drawRoundedRect(QRectF(chip), theme.RADIUS_CHIP, theme.RADIUS_CHIP)
        painter.setPen(QColor(ink))
        painter.setFont(font)
        painter.drawText(chip, Qt.AlignmentFlag.AlignCenter, text)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            self.setChecked(True)
        else:
            super().keyPressEvent(event)


class ChoiceList(QWidget):
    """The rows of a recommendation; `chosen` carries the `Choice`."""

    chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Widths to shrink to")
        self._group = QButtonGroup(self)
        self._group.buttonToggled.connect(self._on_toggled)
        self.rows: list[ChoiceRow] = []
        self._box = QVBoxLayout(self)
        self._box.setContentsMargins(0, 0, 0, 0)
        self._box.setSpacing(0)

    def show_recommendation(self, recommendation: Recommendation) -> None:
        """List every width and choose the recommended one, or the narrowest where none fits."""
        for row in self.rows:
            self._group.removeButton(row)
            row.hide()
            row.deleteLater()
        self.rows = [
            ChoiceRow(choice, is_recommended=choice.recipe == recommendation.recipe)
            for choice in recommendation.choices
        ]
        for row in self.rows:
            self._group.addButton(row)
            self._box.addWidget(row)
        recommended = (r for r in self.rows if r.choice.recipe == recommendation.recipe)
        next(recommended, self.rows[-1]).setChecked(True)

    def mark(self, choice: Choice) -> None:
        """Mark the row of `choice`, or none where it is between them, without telling `chosen`."""
        with QSignalBlocker(self._group):
            self._group.setExclusive(False)
            for row in self.rows:
                row.setChecked(row.choice is choice)
            self._group.setExclusive(True)

    def _on_toggled(self, row: ChoiceRow, is_checked: bool) -> None:
        if is_checked:
            self.chosen.emit(row.choice)
