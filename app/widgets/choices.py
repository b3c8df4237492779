"""Fields: a few choices side by side, a drop-down, a search."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QEvent, QRect, Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent, QWheelEvent
from PySide6.QtWidgets import (
    QAbstractButton,
    QButtonGroup,
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QWidget,
)

from app import icons


class SegmentedControl(QFrame):
    """A few exclusive choices side by side; arrow keys move between them."""

    chosen = Signal(str)

    def __init__(
        self, name: str, options: Sequence[tuple[str, str]], parent: QWidget | None = None
    ) -> None:
        """`options` are (value, text)."""
        super().__init__(parent)
        self.setProperty("role", "segments")
        self.setAccessibleName(name)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self._group = QButtonGroup(self)
        self._buttons: dict[str, QAbstractButton] = {}
        box = QHBoxLayout(self)
        box.setContentsMargins(2, 2, 2, 2)
        box.setSpacing(2)
        for value, text in options:
            button = QPushButton(text)
            button.setProperty("role", "segment")
            button.setCheckable(True)
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
            button.setAutoDefault(False)
            button.setAccessibleName(f"{name}: {text}")
            button.setProperty("value", value)
            self._group.addButton(button)
            self._buttons[value] = button
            box.addWidget(button)
        self._group.buttonToggled.connect(self._on_toggled)

    @property
    def value(self) -> str:
        button = self._group.checkedButton()
        return str(button.property("value")) if button else ""

    def set_value(self, value: str) -> None:
        """Show `value` as chosen, without telling `chosen`."""
        was = self._group.blockSignals(True)
        self._buttons[value].setChecked(True)
        self._group.blockSignals(was)

    def _on_toggled(self, button: QAbstractButton, is_checked: bool) -> None:
        if is_checked:
            self.chosen.emit(str(button.property("value")))


class SearchField(QLineEdit):
    """A quiet field with a magnifier and a button that clears it."""

    def __init__(self, placeholder: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "search")
        self.setPlaceholderText(placeholder)
        self.setAccessibleName(placeholder)
        self.addAction(icons.icon("search", "second"), QLineEdit.ActionPosition.LeadingPosition)
        self.setClearButtonEnabled(True)

    def event(self, event: QEvent) -> bool:
        # Esc first empties the field and only then means something to the page.
        if (
            event.type() == QEvent.Type.ShortcutOverride
            and getattr(event, "key", lambda: None)() == Qt.Key.Key_Escape
            and self.text()
        ):
            self.clear()
            event.accept()
            return True
        return super().event(event)


class Select(QComboBox):
    """A drop-down of a few choices; the wheel scrolls the page, not the value."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setMinimumContentsLength(10)

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        # Here and not in the stylesheet: a picture there cannot follow the theme's colours.
        chevron = icons.icon("chevron-down", "second")
        place = QRect(self.width() - 26, (self.height() - 16) // 2, 16, 16)
        chevron.paint(QPainter(self), place)
