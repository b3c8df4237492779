"""One setting: what it is called, what it means, its control, and the way back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QWidget

from app import theme
from app.context import AppContext
from app.widgets import IconButton, column, row, second, strong
from engine.settings import standard


class SettingRow(QWidget):
    """Name and meaning at the left, the control at the right, its reset before it.

    `reset` is called for a setting that cannot just be put back.
    """

    def __init__(
        self,
        context: AppContext,
        field: str,
        name: str,
        meaning: str,
        control: QWidget,
        reset: Callable[[], None] | None = None,
    ) -> None:
        super().__init__()
        self._settings = context.settings
        self._field = field
        self.reset_button = IconButton("reset", f"Reset {name.lower()} to the standard", size_px=28)
        self._reset = reset or partial(context.settings.reset, field)
        self.reset_button.clicked.connect(self._on_reset_clicked)
        self.meaning = second(meaning)
        words = column(strong(name), self.meaning, spacing=2)
        line = row(spacing=theme.SPACE_12)
        line.addLayout(words, 1)
        line.addWidget(self.reset_button, 0, Qt.AlignmentFlag.AlignVCenter)
        line.addWidget(control, 0, Qt.AlignmentFlag.AlignVCenter)
        self.setLayout(line)
        context.settings.changed.connect(self._on_settings_changed)
        self._on_settings_changed()

    def _on_settings_changed(self) -> None:
        is_default = getattr(self._settings.value, self._field) == getattr(standard(), self._field)
        self.reset_button.setVisible(not is_default)

    def _on_reset_clicked(self) -> None:
        self._reset()
