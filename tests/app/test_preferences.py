from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QApplication, QDialog, QFileDialog, QLabel, QLineEdit, QPushButton
from pytestqt.qtbot import QtBot

from app import theme
from app.chat.session import Session
from app.context import AppContext
from app.jobs_panel import TaskRow
from app.preferences.models_folder import MoveDialog
from app.preferences.page import PreferencesPage
from app.preferences.setting_row import SettingRow
from engine.hub.verify import Verify
from engine.settings import SettingsFile
from tests.helpers.gestures import click, problems


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


def choose(page: PreferencesPage, folder: Path) -> None:
    def choose_it(dialog: QFileDialog) -> None:
        dialog.findChildren(QLineEdit)[0].setText(str(folder))
        QDialog.done(dialog, QDialog.DialogCode.Accepted)

    in_dialog(choose_it)
    click(page.models.choose_button)


def test_a_folder_without_models_is_just_another_one(
    qtbot: QtBot, page: PreferencesPage, tmp_path: Path
) -> None:
    choose(page, tmp_path)
    qtbot.waitUntil(lambda: stored(page).value.models_folder == str(tmp_path))
    assert page.models.folder_label.text() == str(tmp_path)
    standard_folder = page._context.folders.models
    click(reset_of(page, "models_folder"))
    qtbot.waitUntil(lambda: stored(page).value.models_folder == str(standard_folder))


def test_cancelled_choice_changes_nothing(page: PreferencesPage) -> None:
    in_dialog(lambda dialog: dialog.reject())
    before = page.models.folder_label.text()
    click(page.models.choose_button)
    assert page.models.folder_label.text() == before


@pytest.fixture
def model(page: PreferencesPage, tiny_gguf: Path) -> Path:
    """A model in the models folder; it was chatted with last."""
    folder = page._context.folders.models
    folder.mkdir(parents=True)
    path = Path(shutil.copy(tiny_gguf, folder))
    page._context.settings.update(last_model=str(path))
    return path


def asked(qtbot: QtBot, page: PreferencesPage) -> MoveDialog:
    qtbot.waitUntil(lambda: any(d.isVisible() for d in page.findChildren(MoveDialog)))
    (dialog,) = [d for d in page.findChildren(MoveDialog) if d.isVisible()]
    return dialog


def test_models_move_along(
    qtbot: QtBot, page: PreferencesPage, model: Path, tmp_path: Path
) -> None:
    session = Session(page._context.store, page._context.settings)
    session.choose(str(model))
    choose(page, tmp_path)
    dialog = asked(qtbot, page)
    words = " ".join(label.text() for label in dialog.findChildren(QLabel))
    assert "1 model (" in words and str(tmp_path) in words
    click(dialog.move_button)
    (row,) = page.models.findChildren(TaskRow)
    qtbot.waitUntil(row.isVisible)
    assert not page.models.choose_button.isEnabled()

    qtbot.waitUntil(lambda: page.models.told_label.text() == "1 model moved.", timeout=30_000)

    moved = tmp_path / model.name
    assert moved.exists() and not model.exists()
    value = stored(page).value
    assert (value.models_folder, value.last_model) == (str(tmp_path), str(moved))
    assert session.model_path == str(moved)
    assert page.models.choose_button.isEnabled()
    qtbot.waitUntil(lambda: not page.models.findChildren(TaskRow))


def test_models_may_stay_where_they_are(
    qtbot: QtBot, page: PreferencesPage, model: Path, tmp_path: Path
) -> None:
    choose(page, tmp_path)
    click(asked(qtbot, page).leave_button)
    assert stored(page).value.models_folder == str(tmp_path)
    assert model.exists() and not list(tmp_path.glob("*.gguf"))


def test_a_change_of_mind_changes_nothing(
    qtbot: QtBot, page: PreferencesPage, model: Path, tmp_path: Path
) -> None:
    choose(page, tmp_path)
    qtbot.keyClick(asked(qtbot, page), Qt.Key.Key_Escape)
    assert stored(page).value.models_folder == str(model.parent)
    assert model.exists() and page.models.choose_button.isEnabled()


def test_a_move_that_fails_is_told_and_the_folder_stays(
    qtbot: QtBot, page: PreferencesPage, model: Path, tmp_path: Path
) -> None:
    (tmp_path / model.name).write_bytes(b"another model")
    choose(page, tmp_path)
    click(asked(qtbot, page).move_button)
    qtbot.waitUntil(lambda: bool(problems(page)), timeout=30_000)
    assert model.name in problems(page)[0].error.message
    assert stored(page).value.models_folder == str(model.parent)
    assert model.exists() and (tmp_path / model.name).read_bytes() == b"another model"


@pytest.mark.skipif(os.name == "nt", reason="names files as POSIX does")
@pytest.mark.parametrize(
    ("hangs_in", "told"),
    [("unlink", "had moved by then"), ("link", "Cancelled half-way")],
)
def test_a_cancel_that_the_disk_does_not_hear_is_told_as_it_ends(
    qtbot: QtBot,
    page: PreferencesPage,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hangs_in: str,
    told: str,
) -> None:
    """The disk is one that hangs with a model's name, as a network drive may."""
    reached, target = tmp_path / "reached", tmp_path / "new"
    (tmp_path / "sitecustomize.py").write_text(
        f"""
import os, pathlib, time
real = os.{hangs_in}
def hang(path, *args, **kwargs):
    if str(path) == {str(model)!r}:
        pathlib.Path({str(reached)!r}).touch()
        time.sleep(600)
    return real(path, *args, **kwargs)
os.{hangs_in} = hang
"""
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    choose(page, target)
    click(asked(qtbot, page).move_button)
    qtbot.waitUntil(reached.exists, timeout=30_000)
    (row,) = page.models.findChildren(TaskRow)
    click(row.cancel_button)
    qtbot.waitUntil(lambda: told in page.models.told_label.text(), timeout=30_000)
    listed = Path(stored(page).value.models_folder)
    assert page._context.settings.value.models_folder == str(listed)
    assert listed == (target if hangs_in == "unlink" else model.parent)
    assert (listed / model.name).exists()


def test_no_move_while_jobs_run(
    qtbot: QtBot, page: PreferencesPage, model: Path, tmp_path: Path
) -> None:
    verify = page._context.tasks.start(Verify(str(model)), "Verify")
    page.models.change(str(tmp_path))  # a dialog would give the job time to end
    qtbot.waitUntil(lambda: bool(problems(page)))
    assert "while jobs are running" in problems(page)[0].error.message
    assert stored(page).value.models_folder == str(model.parent)
    qtbot.waitUntil(lambda: verify.is_over, timeout=30_000)


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
