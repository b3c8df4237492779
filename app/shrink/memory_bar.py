"""This computer's memory as a bar: what is in use, what the model would take, what stays free."""

from __future__ import annotations

import msgspec
from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from app import theme
from engine.fit.memory import Memory, usable_bytes
from engine.hardware import Computer
from engine.words import format_bytes

BAR_HEIGHT = 14
GAP = 2
LEGEND_TOP = BAR_HEIGHT + 10
LINE_HEIGHT = 20
N_COLUMNS = 3
DOT = 8
MISSING = "Missing"


class Part(msgspec.Struct, frozen=True):
    """One stretch of the bar."""

    name: str
    size_bytes: int
    colour: str

    @property
    def words(self) -> str:
        return f"{self.name} {format_bytes(self.size_bytes)}"


class MemoryBar(QWidget):
    """Its legend says in words and figures all that the bar shows; so does its accessible text."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._memory: Memory | None = None
        self._computer: Computer | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Memory")

    def sizeHint(self) -> QSize:
        return QSize(300, LEGEND_TOP + 2 * LINE_HEIGHT)

    def show_memory(self, memory: Memory, computer: Computer) -> None:
        self._memory, self._computer = memory, computer
        words = ", ".join(part.words for part in self.parts())
        self.setAccessibleDescription(words)
        self.setToolTip(words.replace(", ", "\n") + "\nGB are 1,000,000,000 bytes.")
        self.update()

    def parts(self) -> list[Part]:
        """What the memory would hold, from the left; the last is what is free or missing."""
        if self._memory is None or self._computer is None:
            return []
        now, memory, computer = theme.current(), self._memory, self._computer
        free_bytes = computer.memory_available_bytes
        usable = usable_bytes(free_bytes)
        in_use_bytes = computer.memory_total_bytes - free_bytes
        buffer_bytes = memory.compute_bytes + memory.runtime_bytes
        rest_bytes = usable - memory.total_bytes

        def grey(amount: float) -> str:
            return theme.mix(now.surface, now.outline, amount)

        def tint(amount: float) -> str:
            return theme.mix(now.surface, now.accent, amount)

        return [
            Part("In use", in_use_bytes, grey(0.8)),
            Part("Kept free", free_bytes - usable, grey(0.48)),
            Part("Weights", memory.weights_bytes, tint(1.0)),
            Part("Context", memory.kv_cache_bytes, tint(0.62)),
            Part("Buffers", buffer_bytes, tint(0.34)),
            Part("Free", rest_bytes, grey(0.2))
            if rest_bytes >= 0
            else Part(MISSING, -rest_bytes, now.bad),
        ]

    def paintEvent(self, event: QPaintEvent) -> None:
        parts = self.parts()
        if not parts:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        self._paint_bar(painter, parts)
        self._paint_legend(painter, parts)

    def _paint_bar(self, painter: QPainter, parts: list[Part]) -> None:
        assert self._computer
        missing = parts[-1].name == MISSING
        # What is missing lies past the end of the memory, over the last of what is needed.
        shown = parts[:-1] if missing else parts
        whole_bytes = sum(part.size_bytes for part in shown)
        width = self.width() - GAP * (len(shown) - 1)
        x = 0.0
        painter.setPen(Qt.PenStyle.NoPen)
        for part in shown:
            length = max(2.0, width * part.size_bytes / whole_bytes)
            painter.setBrush(QColor(part.colour))
            painter.drawRoundedRect(QRectF(x, 0, min(length, self.width() - x), BAR_HEIGHT), 3, 3)
            x += length + GAP
        if missing:
            end = self.width() * self._computer.memory_total_bytes / whole_bytes
            over = QRectF(end, BAR_HEIGHT - 4, self.width() - end, 4)
            painter.setBrush(QColor(parts[-1].colour))
            painter.drawRect(over)
            painter.setPen(QPen(theme.current().colour("bad"), 2))
            painter.drawLine(QPointF(end, 0), QPointF(end, BAR_HEIGHT))

    def _paint_legend(self, painter: QPainter, parts: list[Part]) -> None:
        font = theme.ui_font(12)
        painter.setFont(font)
        column_width = min(150.0, self.width() / N_COLUMNS)
        for number, part in enumerate(parts):
            x = (number % N_COLUMNS) * column_width
            y = LEGEND_TOP + (number // N_COLUMNS) * LINE_HEIGHT
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(part.colour))
            painter.drawRoundedRect(QRectF(x, y + (LINE_HEIGHT - DOT) / 2, DOT, DOT), 2, 2)
            painter.setPen(theme.current().colour("second"))
            area = QRectF(x + DOT + 6, y, column_width - DOT - 10, LINE_HEIGHT)
            words = QFontMetrics(font).elidedText(
                part.words, Qt.TextElideMode.ElideRight, int(area.width())
            )
            painter.drawText(
                area, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, words
            )
