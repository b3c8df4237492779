"""Settings of the network: offline mode, the hub's access token, how fast downloads may be."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLineEdit, QWidget

from app import theme
from app.context import AppContext
from app.preferences.setting_row import SettingRow
from app.tasks import Task, TaskState
from app.widgets import (
    Card,
    QuietButton,
    SecondaryButton,
    SegmentedControl,
    Select,
    column,
    hline,
    row,
    second,
    strong,
)
from engine.hub.token import AskToken, KeepToken

LIMITS = (0, 1_000_000, 5_000_000, 10_000_000, 50_000_000)
NO_TOKEN = (
    "Only models whose owners ask for it need one. Make it on your account's page of the hub."
)
KEPT = {
    "keyring": "A token is kept in this system's keyring.",
    "file": "A token is kept in a file that only you can read: this system offers no keyring.",
    "environment": "The token of the variable HF_TOKEN is used.",
    "": NO_TOKEN,
}


class NetworkCard(Card):
    def __init__(self, context: AppContext) -> None:
        super().__init__()
        self._context = context
        self._has_asked = False
        self.offline_control = SegmentedControl("Offline mode", (("off", "Off"), ("on", "On")))
        self.offline_control.chosen.connect(
            lambda value: context.settings.update(is_offline=value == "on")
        )
        self.limit_control = Select("Download speed")
        for limit in LIMITS:
            words = f"{limit // 1_000_000} MB/s" if limit else "No limit"
            self.limit_control.addItem(words, limit)
        self.limit_control.activated.connect(
            lambda i: context.settings.update(download_limit=self.limit_control.itemData(i))
        )
        offline = "Snug asks the network for nothing. Chat and shrinking never need it."
        room = "So that downloads leave room for others. Counts from the next download on."
        self.body.addWidget(
            SettingRow(context, "is_offline", "Offline mode", offline, self.offline_control)
        )
        self.body.addWidget(hline())
        self.body.addWidget(
            SettingRow(context, "download_limit", "Download speed", room, self.limit_control)
        )
        self.body.addWidget(hline())
        self.body.addWidget(self._build_token())
        self.updates_control = SegmentedControl("New versions", (("off", "Off"), ("on", "On")))
        self.updates_control.chosen.connect(
            lambda value: context.settings.update(looks_for_updates=value == "on")
        )
        if context.updates.is_possible:
            self.body.addWidget(hline())
            self.body.addWidget(self._build_updates())
        context.settings.changed.connect(self._on_settings_changed)
        self._on_settings_changed()

    def _build_updates(self) -> QWidget:
        """What came of a look takes the place of the words."""
        once = (
            "Once a day Snug fetches one small signed file and tells you when there is a newer"
            " version. It installs nothing, and tells nothing about you."
        )
        line = SettingRow(
            self._context, "looks_for_updates", "New versions", once, self.updates_control
        )
        self._context.updates.told.connect(line.meaning.setText)
        return line

    def _build_token(self) -> QWidget:
        self.token_words = second(NO_TOKEN)
        self.token_field = QLineEdit()
        self.token_field.setEchoMode(QLineEdit.EchoMode.Password)
        self.token_field.setPlaceholderText("hf_...")
        self.token_field.setAccessibleName("Access token")
        self.token_field.setMinimumWidth(180)
        self.token_field.returnPressed.connect(self._on_save_clicked)
        self.save_button = SecondaryButton("Save")
        self.save_button.setAccessibleName("Save the access token")
        self.save_button.clicked.connect(self._on_save_clicked)
        self.forget_button = QuietButton("Forget it")
        self.forget_button.clicked.connect(lambda: self._keep(""))
        self.forget_button.hide()
        words = column(strong("Access token for the hub"), self.token_words, spacing=2)
        line = row(spacing=theme.SPACE_8)
        line.addLayout(words, 1)
        for control in (self.forget_button, self.token_field, self.save_button):
            line.addWidget(control, 0, Qt.AlignmentFlag.AlignVCenter)
        whole = QWidget()
        whole.setLayout(line)
        return whole

    def ask(self) -> None:
        """Find out, once, where a token is kept."""
        if not self._has_asked:
            self._has_asked = True
            self._follow(self._context.tasks.ask(AskToken()))

    def _on_save_clicked(self) -> None:
        if token := self.token_field.text().strip():
            self._keep(token)

    def _keep(self, token: str) -> None:
        self._follow(self._context.tasks.ask(KeepToken(token)))

    def _follow(self, task: Task) -> None:
        task.finished.connect(partial(self._on_told, task))

    def _on_told(self, task: Task) -> None:
        if task.state == TaskState.SUCCEEDED:
            self.token_field.clear()
            self.token_words.setText(KEPT[task.result])
            self.forget_button.setVisible(task.result in ("keyring", "file"))
        elif task.error:
            self.token_words.setText(f"{task.error.message} {task.error.hint}")

    def _on_settings_changed(self) -> None:
        value = self._context.settings.value
        self.offline_control.set_value("on" if value.is_offline else "off")
        self.updates_control.set_value("on" if value.looks_for_updates else "off")
        index = self.limit_control.findData(value.download_limit)
        if index < 0:  # written by hand
            self.limit_control.addItem(f"{value.download_limit:,} bytes/s", value.download_limit)
            index = self.limit_control.count() - 1
        self.limit_control.setCurrentIndex(index)
