"""The result when it is there: before and after, and what to do with it."""

from __future__ import annotations

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QGridLayout, QSizePolicy, QVBoxLayout, QWidget

from app import theme
from app.models.details import quality_words
from app.widgets import (
    Badge,
    ElidedLabel,
    PrimaryButton,
    QuietButton,
    SecondaryButton,
    body,
    column,
    hline,
    number,
    row,
    second,
    strong,
)
from engine.quantize.report import OURS, STOCK_PREFIX, ShrinkReport
from engine.quantize.shrink import Shrunk
from engine.quantize.shrink_to_size import ShrunkToSize
from engine.words import (
    format_bytes,
    format_bytes_exact,
    format_duration,
    format_path,
    format_percent,
)


class DoneView(QWidget):
    chat_clicked = Signal()
    report_clicked = Signal()
    reveal_clicked = Signal()
    again_clicked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._size = number("")
        self._badge = Badge("Done", "good")
        self._what = second("")
        self._before, self._after = SizeBar("outline", 0.55), SizeBar("accent", 1.0)
        self._before_size, self._after_size = body(""), body("")
        self._verdict, self._figures, self._kept = strong(""), second(""), second("")
        self._failures = body("")
        self._path = ElidedLabel("", mode=Qt.TextElideMode.ElideMiddle)
        self.chat_button = PrimaryButton("Chat with it", "chat")
        self.chat_button.clicked.connect(self.chat_clicked)
        self.report_button = SecondaryButton("Report", "info")
        self.report_button.clicked.connect(self.report_clicked)
        self.reveal_button = SecondaryButton("Show in folder", "reveal")
        self.reveal_button.clicked.connect(self.reveal_clicked)
        self.again_button = QuietButton("Shrink another")
        self.again_button.clicked.connect(self.again_clicked)
        self._lay_out()

    def _lay_out(self) -> None:
        bars = QGridLayout()
        bars.setHorizontalSpacing(theme.SPACE_12)
        bars.setVerticalSpacing(theme.SPACE_8)
        bars.setColumnStretch(1, 1)
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        lines = (
            ("Before", self._before, self._before_size),
            ("After", self._after, self._after_size),
        )
        for line, (word, bar, size) in enumerate(lines):
            size.setWordWrap(False)
            bars.addWidget(second(word), line, 0)
            bars.addWidget(bar, line, 1)
            bars.addWidget(size, line, 2, right)
        pad = theme.CARD_PADDING
        heading = row(self._size, self._badge, None, spacing=theme.SPACE_12)
        upper = column(
            column(heading, self._what, spacing=2),
            theme.SPACE_24,
            bars,
            theme.SPACE_24,
            column(self._verdict, self._figures, self._kept, self._failures, spacing=2),
            theme.SPACE_16,
            column(second("Saved as"), self._path, spacing=2),
            None,
        )
        upper.setContentsMargins(pad, pad, pad, pad)
        lower = row(
            self.chat_button, self.report_button, self.reveal_button, None, self.again_button
        )
        lower.setContentsMargins(pad, theme.SPACE_12, pad, theme.SPACE_12)
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(0)
        box.addLayout(upper, 1)
        box.addWidget(hline())
        box.addLayout(lower)

    def show_result(self, result: Shrunk | ShrunkToSize, report: ShrinkReport | None) -> None:
        self._size.setText(format_bytes(result.size_bytes))
        self._size.setToolTip(format_bytes_exact(result.size_bytes))
        share = result.size_bytes / max(1, result.source_bytes)
        named = f"{result.recipe}, " if result.recipe else ""
        self._what.setText(
            f"{format_percent(share)} of what it was, {named}"
            f"{result.bits_per_weight:.2f} bits per weight, in {format_duration(result.seconds)}"
        )
        largest = max(result.size_bytes, result.source_bytes)
        pairs = (
            (self._before, self._before_size, result.source_bytes),
            (self._after, self._after_size, result.size_bytes),
        )
        for bar, label, size_bytes in pairs:
            bar.set_fraction(size_bytes / max(1, largest))
            label.setText(format_bytes(size_bytes))
            label.setToolTip(format_bytes_exact(size_bytes))
        self._path.setText(format_path(result.path))
        self._path.setAccessibleName(f"Saved as {result.path}")
        kept = kept_words(result.kept) if isinstance(result, ShrunkToSize) else ""
        self._kept.setText(kept)
        self._kept.setVisible(bool(kept))
        self._show_report(report)

    def _show_report(self, report: ShrinkReport | None) -> None:
        self.report_button.setVisible(report is not None)
        quality = report.quality if report else None
        self._verdict.setVisible(quality is not None)
        self._figures.setVisible(quality is not None)
        failures = report.failures if report else ()
        self._failures.setText("\n".join(failure.words for failure in failures))
        self._failures.setVisible(bool(failures))
        if failures:
            self._badge.set("Done, not as good as asked for", "caution")
        else:
            self._badge.set("Done", "good")
        if quality:
            words, figures = quality_words(quality)
            self._verdict.setText(words)
            self._figures.setText(
                f"KL divergence {quality.kld_mean:.4f} on average, measured against the original"
                f" on {quality.n_tokens:,} tokens"
            )
            self._figures.setToolTip(figures)


def kept_words(kept: str) -> str:
    """Which version of a shrink was kept, where it is not the first one of ours."""
    if kept == OURS:
        return ""
    if kept.startswith(STOCK_PREFIX):
        recipe = kept.removeprefix(STOCK_PREFIX)
        return f"{recipe} as llama-quantize makes it did better here than Snug's own, and was kept."
    return "A first version was not good enough, so a larger one was made."


class SizeBar(QWidget):
    """A plain bar; the figure beside it says the same."""

    HEIGHT = 16

    def __init__(self, colour: str, amount: float, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._colour, self._amount = colour, amount
        self._fraction = 0.0
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        return QSize(120, self.HEIGHT)

    def set_fraction(self, fraction: float) -> None:
        self._fraction = fraction
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(theme.current().tint(self._colour, self._amount)))
        length = max(4.0, self.width() * self._fraction)
        painter.drawRoundedRect(QRectF(0, 0, length, self.HEIGHT), 3, 3)
