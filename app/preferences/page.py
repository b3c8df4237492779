"""Settings: appearance, where models lie, what computes, and what Snug is.

Edits `context.settings` and nothing else; who uses a setting listens to it.
"""

from __future__ import annotations

import os
from pathlib import Path

from PySide6.QtCore import Qt
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QFrame, QVBoxLayout, QWidget

from app import __version__, theme
from app.context import AppContext
from app.preferences.compute import ComputeCard
from app.preferences.models_folder import ModelsFolderCard
from app.preferences.network import NetworkCard
from app.preferences.setting_row import SettingRow
from app.widgets import (
    Card,
    ElidedLabel,
    Scroll,
    SegmentedControl,
    Select,
    body,
    column,
    hline,
    row,
    second,
    section,
    strong,
    title,
)

COLUMN_WIDTH = 680


class PreferencesPage(QWidget):
    """The Settings page."""

    def __init__(self, context: AppContext, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self.setProperty("role", "page")
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        content = QWidget()
        content.setMaximumWidth(COLUMN_WIDTH)
        content.setLayout(
            column(
                title("Settings"),
                theme.SPACE_8,
                section("General"),
                self._build_general(),
                theme.SPACE_12,
                section("Models"),
                self._build_models(),
                theme.SPACE_12,
                section("Network"),
                self._build_network(),
                theme.SPACE_12,
                section("Engine"),
                self._build_engine(),
                theme.SPACE_12,
                section("About"),
                self._build_about(),
                None,
                margin=theme.PAGE_MARGIN,
            )
        )
        holder = QWidget()
        centred = row(None, None)
        centred.insertWidget(1, content, 10)
        holder.setLayout(centred)
        outer = QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(Scroll(holder))
        context.settings.changed.connect(self._on_settings_changed)
        self._on_settings_changed()

    def _build_general(self) -> QFrame:
        self.theme_control = SegmentedControl(
            "Theme", [("system", "System"), ("light", "Light"), ("dark", "Dark")]
        )
        self.theme_control.chosen.connect(
            lambda choice: self._context.settings.update(theme=choice)
        )
        card = Card()
        card.body.addWidget(
            SettingRow(
                self._context,
                "theme",
                "Theme",
                "System follows what the desktop uses, also when it changes.",
                self.theme_control,
            )
        )
        return card

    def _build_models(self) -> QFrame:
        self.models = ModelsFolderCard(self._context)
        self.problem_label = second("")
        self.problem_label.hide()
        self.models.body.addWidget(self.problem_label)
        return self.models

    def _build_network(self) -> QFrame:
        self.network = NetworkCard(self._context)
        return self.network

    def _build_engine(self) -> QFrame:
        n_cores = os.cpu_count() or 1
        self.threads_control = Select("Threads")
        self.threads_control.addItem("Automatic", 0)
        for n_threads in range(1, n_cores + 1):
            self.threads_control.addItem(str(n_threads), n_threads)
        self.threads_control.activated.connect(self._on_threads_activated)
        card = self.compute = ComputeCard(self._context)
        card.body.addWidget(hline())
        card.body.addWidget(
            SettingRow(
                self._context,
                "n_threads",
                "Threads",
                f"How many of this computer's {n_cores} logical cores work at once. Automatic"
                " is best unless other programs need room. Counts from the next load on.",
                self.threads_control,
            )
        )
        return card

    def _build_about(self) -> QFrame:
        card = Card()
        card.body.addWidget(strong(f"Snug {__version__}"))
        card.body.addWidget(
            body(
                "Models, conversations and every answer stay on this computer. Snug counts nothing,"
                " and asks the network only when you search or download."
            )
        )
        card.body.addWidget(hline())
        places = self._context.folders
        card.body.addLayout(_place("Conversations", places.data))
        card.body.addLayout(_place("Settings", places.config))
        card.body.addLayout(_place("Log, without prompts or answers", places.log))
        return card

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        # Not the first control: a ring there would look like a choice that was made.
        self.setFocus()
        self.network.ask()
        self._context.computer.look()

    def _on_settings_changed(self) -> None:
        value = self._context.settings.value
        self.theme_control.set_value(value.theme)
        index = self.threads_control.findData(value.n_threads)
        if index < 0:  # set on a computer with more cores
            self.threads_control.addItem(str(value.n_threads), value.n_threads)
            index = self.threads_control.count() - 1
        self.threads_control.setCurrentIndex(index)
        problem = self._context.settings.problem
        self.problem_label.setText(problem)
        self.problem_label.setVisible(bool(problem))

    def _on_threads_activated(self, index: int) -> None:
        self._context.settings.update(n_threads=self.threads_control.itemData(index))


def _place(name: str, path: Path) -> QVBoxLayout:
    where = ElidedLabel(str(path), role="mono", mode=Qt.TextElideMode.ElideMiddle)
    return column(second(name), where, spacing=2)
