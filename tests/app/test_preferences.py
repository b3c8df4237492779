from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QApplication, QDialog, QFileDialog, QLineEdit, QPushButton
from pytestqt.qtbot import QtBot

from app import theme
from app.context import AppContext
from app.preferences.page import PreferencesPage
from app.preferences.setting_row import SettingRow
from engine.settings import SettingsFile


@pytest.fixture
def page(qtbot: QtBot, qapp: QApplication) -> Iterator[PreferencesPage]:
    theme.apply(qapp, "light")
    context = AppContext()
    made = PreferencesPage(context)
    qtbot.addWidget(made)
    made.resize(900, 600)
    made.show()
    yield made
    context.shutdown()


def stored(page: PreferencesPage) -> SettingsFile:
    return SettingsFile(page._context.folders.config / "settings.json")


def reset_of(page: PreferencesPage, field: str) -> QPushButton:
    (row,) = [row for row in page.findChildren(SettingRow) if row._field == field]
    return row.reset_button


def test_theme_is_stored_by_a_click_and_reset(qtbot: QtBot, page: PreferencesPage) -> None:
    reset = reset_of(page, "theme")
    assert reset.isHidden()
    dark = page.theme_control.findChildren(QPushButton)[2]
    qtbot.mouseClick(dark, Qt.MouseButton.LeftButton)
    assert stored(page).value.theme == "dark"
    qtbot.mouseClick(reset, Qt.MouseButton.LeftButton)
    assert page.theme_control.value == "system"
    assert stored(page).value.theme == "system"
    assert reset.isHidden()


def test_theme_moves_with_the_arrow_keys(qtbot: QtBot, page: PreferencesPage) -> None:
    system, light, _dark = page.theme_control.findChildren(QPushButton)
    system.setFocus()
    qtbot.keyClick(system, Qt.Key.Key_Right)
    assert light.isChecked()
    assert stored(page).value.theme == "light"


def test_threads_go_up_to_the_cores(page: PreferencesPage) -> None:
    control = page.threads_control
    assert control.itemText(0) == "Automatic"
    assert control.count() == 1 + (os.cpu_count() or 1)
    control.setCurrentIndex(1)
    control.activated.emit(1)
    assert stored(page).value.n_threads == 1
    assert not reset_of(page, "n_threads").isHidden()
    reset_of(page, "n_threads").click()
    assert control.currentText() == "Automatic"


def test_more_threads_than_cores_are_shown_as_they_are(page: PreferencesPage) -> None:
    page._context.settings.update(n_threads=999)
    assert page.threads_control.currentText() == "999"


def in_dialog(act: Callable[[QFileDialog], object]) -> None:
    """Do `act` in the file dialog that is about to open."""

    def find_and_act() -> None:
        dialog = QApplication.activeModalWidget()
        assert isinstance(dialog, QFileDialog)
        act(dialog)

    QTimer.singleShot(100, find_and_act)


def test_models_folder_is_chosen(page: PreferencesPage, tmp_path: Path) -> None:
    def choose_it(dialog: QFileDialog) -> None:
        dialog.findChildren(QLineEdit)[0].setText(str(tmp_path))
        QDialog.done(dialog, QDialog.DialogCode.Accepted)

    in_dialog(choose_it)
    (choose,) = [b for b in page.findChildren(QPushButton) if b.text() == "Choose"]
    choose.click()
    assert stored(page).value.models_folder == str(tmp_path)
    assert page.folder_label.text() == str(tmp_path)
    assert page._context.library.models_folder == tmp_path


def test_cancelled_choice_changes_nothing(page: PreferencesPage) -> None:
    in_dialog(lambda dialog: dialog.reject())
    before = page.folder_label.text()
    (choose,) = [b for b in page.findChildren(QPushButton) if b.text() == "Choose"]
    choose.click()
    assert page.folder_label.text() == before


def test_settings_that_cannot_be_saved_are_told(page: PreferencesPage) -> None:
    folder = page._context.folders.config
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file where the folder should be")
    page._context.settings.update(theme="dark")
    assert "could not be saved" in page.problem_label.text()
    assert not page.problem_label.isHidden()


def test_a_token_is_kept_where_only_the_user_reads_it_and_forgotten(
    qtbot: QtBot, page: PreferencesPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = page.network
    network.token_field.setText("hf_sesame")
    qtbot.mouseClick(network.save_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "kept" in network.token_words.text(), timeout=10_000)
    assert network.token_field.text() == ""
    kept = page._context.folders.config / "token"
    if "file" in network.token_words.text():  # no keyring here
        assert kept.read_text() == "hf_sesame"
        assert os.name == "nt" or kept.stat().st_mode & 0o777 == 0o600
    assert "hf_sesame" not in stored(page).path.read_text() if stored(page).path.exists() else True
    qtbot.mouseClick(network.forget_button, Qt.MouseButton.LeftButton)
    qtbot.waitUntil(lambda: "owners" in network.token_words.text(), timeout=10_000)
    assert not kept.exists()


def test_offline_mode_and_the_limit_are_stored(qtbot: QtBot, page: PreferencesPage) -> None:
    on = page.network.offline_control.findChildren(QPushButton)[1]
    qtbot.mouseClick(on, Qt.MouseButton.LeftButton)
    assert stored(page).value.is_offline
    control = page.network.limit_control
    control.setCurrentIndex(2)
    control.activated.emit(2)
    assert stored(page).value.download_limit == 5_000_000
