"""How long a context models are judged and loaded with: a slider from "Automatic" on."""

from __future__ import annotations

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QHBoxLayout, QSlider, QWidget

from app import theme
from app.widgets import second

LENGTHS = (0, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072)
SETTLE_MS = 500
"""After the last move; keys and drags make many."""


class ContextSlider(QWidget):
    moved = Signal(int)
    """Tokens, at every move; 0 is automatic."""
    settled = Signal(int)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setToolTip(
            "How much of a conversation, and of the files in it, a model keeps in mind.\n"
            "More takes more memory. A chat takes at most what its model was trained for."
        )
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, len(LENGTHS) - 1)
        self.slider.setPageStep(1)
        self.slider.setFixedWidth(160)
        self.slider.setAccessibleName("Context")
        self._words = second("")
        self._words.setWordWrap(False)
        self._settle = QTimer(self, singleShot=True, interval=SETTLE_MS)
        self._settle.timeout.connect(lambda: self.settled.emit(self.value))
        self.slider.valueChanged.connect(self._on_moved)
        caption = second("Context")
        caption.setWordWrap(False)
        box = QHBoxLayout(self)
        box.setContentsMargins(theme.SPACE_8, 0, theme.SPACE_8, 0)
        box.setSpacing(theme.SPACE_8)
        for part in (caption, self.slider, self._words):
            box.addWidget(part)
        box.addStretch(1)
        self._tell()

    @property
    def value(self) -> int:
        """Tokens of context; 0 leaves it to Snug."""
        return LENGTHS[self.slider.value()]

    def set_value(self, n_ctx: int) -> None:
        """Show `n_ctx`, or the longest step that is no longer."""
        if self._settle.isActive():  # what the user is choosing right now goes first
            return
        step = max(i for i, length in enumerate(LENGTHS) if length <= n_ctx)
        self.slider.blockSignals(True)
        self.slider.setValue(step)
        self.slider.blockSignals(False)
        self._tell()

    def _on_moved(self) -> None:
        self._tell()
        self.moved.emit(self.value)
        self._settle.start()

    def _tell(self) -> None:
        words = f"{self.value:,} tokens" if self.value else "Automatic: as much as fits"
        self._words.setText(words)
        self.slider.setAccessibleDescription(words)
