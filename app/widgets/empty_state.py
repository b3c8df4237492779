"""A page or list with nothing in it yet."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from app import theme
from app.widgets.buttons import PrimaryButton
from app.widgets.labels import IconLabel, second, section


class EmptyState(QWidget):
    """What will be here, and the button that fills it; more buttons find room in `below`."""

    activated = Signal()

    def __init__(
        self,
        icon: str,
        heading: str,
        text: str,
        button_text: str | None = None,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        picture = IconLabel(icon, 40, "second")
        head = section(heading)
        words = second(text)
        # Wide enough that two short sentences make two lines.
        words.setFixedWidth(360)
        words.ensurePolished()
        words.setMinimumHeight(words.heightForWidth(360))
        centre = Qt.AlignmentFlag.AlignHCenter
        words.setAlignment(centre)
        box = QVBoxLayout(self)
        box.setSpacing(theme.SPACE_8)
        box.addStretch(2)
        box.addWidget(picture, 0, centre)
        box.addSpacing(theme.SPACE_8)
        box.addWidget(head, 0, centre)
        box.addWidget(words, 0, centre)
        self.button: PrimaryButton | None = None
        if button_text:
            self.button = PrimaryButton(button_text)
            self.button.clicked.connect(self.activated)
            box.addSpacing(theme.SPACE_8)
            box.addWidget(self.button, 0, centre)
        self.below = QHBoxLayout()
        box.addLayout(self.below)
        box.addStretch(3)
