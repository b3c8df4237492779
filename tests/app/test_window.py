"""The window with its real pages, real keys and real clicks."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt, QTimer
from PySide6.QtWidgets import QAbstractButton, QApplication, QComboBox, QLineEdit, QWidget
from pytestqt.qtbot import QtBot

from app import theme
from app.bugs import BugReporter
from app.context import AppContext
from app.problems import BugDialog, ProblemCard, QuestionDialog
from app.tasks import Task, Tasks
from app.window import PAGES, PageName, Window, _what_closing_loses
from engine.client import Worker
from engine.convert.job import Convert
from engine.errors import CorruptFile, EngineError
from engine.move import MoveModels
from engine.settings import SettingsFile

ROOT = Path(__file__).parents[2]
FAKE = ROOT / "tests" / "helpers" / "fake_worker.py"


@pytest.fixture
def window(qtbot: QtBot, qapp: QApplication) -> Iterator[Window]:
    theme.apply(qapp, "light")
    made = Window(AppContext())
    qtbot.addWidget(made)
    with qtbot.waitExposed(made):
        made.show()
    qtbot.waitUntil(lambda: bool(made._pages))
    yield made
    made.context.tasks.shutdown()
    made.close()


def press(qtbot: QtBot, window: Window, key: Qt.Key) -> None:
    qtbot.keyClick(window, key, Qt.KeyboardModifier.ControlModifier)


def test_starts_in_the_chat_and_builds_nothing_else(window: Window) -> None:
    assert window.current_page_name == "chat"
    assert list(window._pages) == ["chat"]


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (Qt.Key.Key_2, "models"),
        (Qt.Key.Key_3, "shrink"),
        (Qt.Key.Key_4, "settings"),
        (Qt.Key.Key_Comma, "settings"),
    ],
)
def test_keys_lead_to_pages_and_back(
    qtbot: QtBot, window: Window, key: Qt.Key, name: PageName
) -> None:
    press(qtbot, window, key)
    assert window.current_page_name == name
    assert window._nav_buttons[name].isChecked()
    press(qtbot, window, Qt.Key.Key_1)
    assert window.current_page_name == "chat"


def test_what_the_command_line_changed_is_noticed(qtbot: QtBot, window: Window) -> None:
    def change(**changes: object) -> None:
        SettingsFile(window.context.folders.config / "settings.json").update(**changes)

    change(n_threads=2)
    press(qtbot, window, Qt.Key.Key_4)
    assert window.page("settings").threads_control.currentText() == "2"

    terminal = QWidget()
    qtbot.addWidget(terminal)
    terminal.show()
    terminal.activateWindow()
    qtbot.waitUntil(lambda: not window.isActiveWindow())
    change(n_threads=1)
    window.activateWindow()
    qtbot.waitUntil(lambda: window.context.settings.value.n_threads == 1)


def test_rail_leads_to_every_page(qtbot: QtBot, window: Window) -> None:
    for name, text, _keys in PAGES:
        button = window._nav_buttons[name]
        assert button.accessibleName() == text
        qtbot.mouseClick(button, Qt.MouseButton.LeftButton, pos=QPoint(10, 10))
        assert window.current_page_name == name


def test_chat_keys_work_from_any_page(qtbot: QtBot, window: Window) -> None:
    press(qtbot, window, Qt.Key.Key_3)
    press(qtbot, window, Qt.Key.Key_K)
    assert window.current_page_name == "chat"
    assert isinstance(window.focusWidget(), QLineEdit)
    press(qtbot, window, Qt.Key.Key_N)
    assert not isinstance(window.focusWidget(), QLineEdit)


def test_every_control_has_a_name(window: Window) -> None:
    nameless = []
    for name, _text, _keys in PAGES:
        page: QWidget = window.page(name)
        for kind in (QAbstractButton, QLineEdit, QComboBox):
            for control in page.findChildren(kind):
                inner = control.objectName().startswith("qt_") or isinstance(
                    control.parent(), QLineEdit | QComboBox
                )
                # A text that is still to come is missing only where it can be seen.
                speaks = isinstance(control, QAbstractButton) and (
                    control.text() or (control.icon().isNull() and not control.isVisible())
                )
                if not (inner or control.accessibleName() or speaks):
                    nameless.append(f"{name}: {control}")
    assert nameless == []


def test_geometry_is_kept(qtbot: QtBot, window: Window) -> None:
    window.resize(900, 640)
    window.close()
    again = Window(AppContext())
    qtbot.addWidget(again)
    assert (again.width(), again.height()) == (900, 640)
    again.close()


def test_broken_geometry_is_forgotten(qtbot: QtBot) -> None:
    context = AppContext()
    context.settings.update(window_geometry="not base64 at all")
    window = Window(context)
    qtbot.addWidget(window)
    assert window.width() == 1180
    window.close()


def test_settings_put_aside_are_told(qtbot: QtBot, own_home: Path) -> None:
    (own_home / "config").mkdir()
    (own_home / "config" / "settings.json").write_text("not json")
    window = Window(AppContext())
    qtbot.addWidget(window)
    window.show()
    qtbot.waitUntil(lambda: window.findChild(ProblemCard) is not None)
    card = window.findChild(ProblemCard)
    assert isinstance(card, ProblemCard)
    assert "settings.broken.json" in card.error.message
    window.close()


def test_closing_asks_only_while_something_would_be_lost(qtbot: QtBot, qapp: QApplication) -> None:
    def fake(mode: str, on_exit: Callable[[EngineError | None], None]) -> Worker:
        return Worker.start(on_exit, command=[sys.executable, str(FAKE), mode])

    context = AppContext()
    context.tasks = Tasks(start=partial(fake, "patient"))
    window = Window(context)
    qtbot.addWidget(window)
    window.show()
    window.complete()
    context.tasks.start(Convert("a", "b"), "Shrinking Tiny")
    asked: list[str] = []

    def answer(button: str) -> None:
        dialog = qapp.activeModalWidget()
        assert isinstance(dialog, QuestionDialog)
        asked.append(dialog.windowTitle())
        getattr(dialog, button).click()

    QTimer.singleShot(50, lambda: answer("keep_button"))
    assert not window.close()
    assert len(context.tasks.active) == 1
    QTimer.singleShot(50, lambda: answer("action_button"))
    assert window.close()
    assert asked == ["1 job not finished"] * 2


def test_closing_says_what_becomes_of_models_that_are_moved(own_home: Path) -> None:
    move = Task(MoveModels("a", "b", str(own_home / "settings.json")), "Move 2 models")
    _heading, words, button = _what_closing_loses([move])
    assert "in one of the two folders" in words and "discards" not in words
    assert button == "Stop and close"


def test_problem_card_says_what_to_do(qtbot: QtBot) -> None:
    error = CorruptFile("The file is cut.", hint="Download it again.", details="offset 12")
    card = ProblemCard(error, "Download again")
    qtbot.addWidget(card)
    card.show()
    assert card.action_button is not None
    with qtbot.waitSignal(card.action):
        qtbot.mouseClick(card.action_button, Qt.MouseButton.LeftButton)
    assert card._details.isHidden()
    qtbot.mouseClick(card._fold, Qt.MouseButton.LeftButton)
    assert card._details.toPlainText() == "offset 12"
    assert not card._details.isHidden()


def test_uncaught_exception_in_a_thread_opens_one_dialog(
    qtbot: QtBot, qapp: QApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    reporter = BugReporter(qapp)
    reporter.install()

    def fail() -> None:
        raise IndexError("nobody expects this")

    for _ in range(2):
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()

    def dialogs() -> list[BugDialog]:
        return [w for w in qapp.topLevelWidgets() if isinstance(w, BugDialog) and w.isVisible()]

    qtbot.waitUntil(lambda: len(dialogs()) == 1)
    qtbot.wait(50)
    (dialog,) = dialogs()
    assert "IndexError" in dialog.report
    dialog._on_copy_clicked()
    assert "IndexError" in qapp.clipboard().text()
    dialog.accept()
    reporter.deleteLater()


HEAVY = (
    *("numpy", "llama_cpp", "huggingface_hub", "markdown_it", "pygments", "psutil"),
    *("engine.client", "engine.library", "engine.inspect", "engine.convert"),
)


def test_the_chat_comes_right_after_the_first_paint_and_needs_nothing_heavy(own_home: Path) -> None:
    program = (
        "import sys, app.__main__ as m\n"
        "application, window, context = m.start([])\n"
        "window.show()\n"
        "application.processEvents()\n"
        "assert window._is_painted and window.page('chat').composer.isVisible()\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
        "window.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    assert (own_home / "log" / "snug.log").exists()


def test_a_file_that_the_finder_opens_is_chatted_with(own_home: Path) -> None:
    """A Mac tells of a double-click with an event; in a process of its own application."""
    program = (
        "import app.__main__ as m\n"
        "from PySide6.QtGui import QFileOpenEvent\n"
        "application, window, context = m.start([])\n"
        "window.show()\n"
        "application.processEvents()\n"
        "window.chat_with = lambda path: print('chat with', path)\n"
        "application.sendEvent(application, QFileOpenEvent('/models/a b.gguf'))\n"
        "window.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "chat with /models/a b.gguf"


def test_window_says_its_version() -> None:
    import tomllib

    from app import __version__

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
