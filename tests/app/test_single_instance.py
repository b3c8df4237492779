"""One window a user, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QLockFile, QTimer
from PySide6.QtNetwork import QLocalSocket
from PySide6.QtWidgets import QApplication, QMessageBox
from pytestqt.qtbot import QtBot

from app import single_instance
from app.__main__ import main
from app.single_instance import SingleInstance
from engine.folders import folders


@pytest.fixture
def first(qapp: QApplication, tmp_path: Path) -> Iterator[SingleInstance]:
    instance = SingleInstance(tmp_path / "data")
    assert instance.claim()
    instance.listen()
    yield instance
    instance.close()


WINDOW_THAT_TELLS = """
import app.__main__ as program
listen = program._close_on_interrupt
def tell(window):
    listen(window)
    print("open", flush=True)
program._close_on_interrupt = tell
print("closed", program.main([]), flush=True)
"""


def start_again(home: Path, *words: str) -> subprocess.Popen[str]:
    environment = os.environ | {"SNUG_HOME": str(home)}
    command = [sys.executable, "-m", "app", *words]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("name", ["", "model.gguf", "dü sch\udce9.gguf", "two\nlines.gguf"])
def test_a_second_start_hands_its_model_over_and_ends(
    first: SingleInstance, tmp_path: Path, qtbot: QtBot, name: str
) -> None:
    path = str(tmp_path / name) if name else ""
    with qtbot.waitSignal(first.asked, timeout=30_000) as heard:
        second = start_again(tmp_path, *[path] * bool(path))
    assert heard.args == [path]
    qtbot.waitUntil(lambda: second.poll() is not None, timeout=30_000)
    assert second.returncode == 0
    assert second.stderr
    second.stderr.close()


def test_one_that_does_not_answer_is_told(
    tmp_path: Path, qapp: QApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder, other = SingleInstance(tmp_path), SingleInstance(tmp_path)
    assert holder.claim() and not other.claim()
    monkeypatch.setattr(single_instance, "START_S", 0.2)
    assert not other.hand_over("")
    holder.close()
    assert other.claim()
    other.close()


def test_one_that_has_just_started_is_waited_for(tmp_path: Path, qtbot: QtBot) -> None:
    first = SingleInstance(tmp_path / "data")
    assert first.claim()
    heard: list[str] = []
    first.asked.connect(heard.append)
    code = (
        "import sys; from pathlib import Path; from app.single_instance import SingleInstance;"
        "one = SingleInstance(Path(sys.argv[1])); assert not one.claim();"
        "print('waits', flush=True); sys.exit(0 if one.hand_over('') else 1)"
    )
    second = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "data")], stdout=subprocess.PIPE
    )
    assert second.stdout and second.stdout.readline() == b"waits\n"
    first.listen()
    qtbot.waitUntil(lambda: second.poll() is not None, timeout=30_000)
    assert second.returncode == 0
    assert heard == [""]
    second.stdout.close()
    first.close()


def test_a_second_window_says_why_it_does_not_come(
    own_home: Path,
    qapp: QApplication,
    qtbot: QtBot,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    holder = SingleInstance(folders().data)
    assert holder.claim()
    monkeypatch.setattr(single_instance, "START_S", 0.1)
    told: list[str] = []

    def read_and_close() -> None:
        box = qapp.activeModalWidget()
        if isinstance(box, QMessageBox):
            looking.stop()
            told.append(box.text())
            box.accept()

    looking = QTimer(interval=10)
    looking.timeout.connect(read_and_close)
    looking.start()
    assert main([]) == 1
    assert "open already" in told[0] and "open already" in capsys.readouterr().err
    holder.close()


def test_a_place_with_a_long_name_has_a_socket_of_its_user(
    tmp_path: Path, qapp: QApplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    address = single_instance._address(tmp_path / ("ü" * 60))
    assert Path(address).parent == runtime


def test_ctrl_c_closes_the_window(own_home: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WINDOW_THAT_TELLS], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdout.readline() == "open\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == "closed 0\n"


def test_what_a_killed_process_left_is_taken_over(tmp_path: Path, qapp: QApplication) -> None:
    code = (
        "import os, sys; from pathlib import Path; from app.single_instance import SingleInstance;"
        "one = SingleInstance(Path(sys.argv[1])); assert one.claim(); one.listen();"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert (tmp_path / "snug.lock").exists()
    instance = SingleInstance(tmp_path)
    assert instance.claim()
    instance.listen()
    instance.close()


@pytest.mark.parametrize(
    "noise",
    [b"x" * 100_000, b"00" * 50_000 + b"\n", b"not hexadecimal\n", b"\xff\n"]
    + [name.hex().encode() + b"\n" for name in (b"relative.gguf", b"/nul\0.gguf")],
)
def test_noise_is_dropped(
    first: SingleInstance, tmp_path: Path, qtbot: QtBot, noise: bytes
) -> None:
    heard: list[str] = []
    first.asked.connect(heard.append)
    noisy = QLocalSocket()
    noisy.connectToServer(single_instance._address(tmp_path / "data"))
    assert noisy.waitForConnected(2000)
    noisy.write(noise)
    qtbot.waitUntil(lambda: noisy.state() == QLocalSocket.LocalSocketState.UnconnectedState)
    assert heard == []


def test_a_folder_that_cannot_be_written_does_not_keep_the_window_away(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert SingleInstance(tmp_path / "file").claim()
    assert QLockFile(str(tmp_path / "free")).tryLock(0)
