"""One window a user, with real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QLockFile
from PySide6.QtNetwork import QLocalSocket
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app import single_instance
from app.single_instance import SingleInstance


@pytest.fixture
def first(qapp: QApplication, tmp_path: Path) -> Iterator[SingleInstance]:
    instance = SingleInstance(tmp_path / "data")
    assert instance.claim()
    instance.listen()
    yield instance
    instance.close()


def start_again(home: Path, *words: str) -> subprocess.Popen[str]:
    environment = os.environ | {"SNUG_HOME": str(home)}
    command = [sys.executable, "-m", "app", *words]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("name", ["", "model.gguf", "dü sch\udce9.gguf"])
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
    monkeypatch.setattr(single_instance, "ANSWER_MS", 50)
    assert not other.hand_over("")
    holder.close()
    assert other.claim()
    other.close()


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


def test_noise_is_dropped(first: SingleInstance, tmp_path: Path, qtbot: QtBot) -> None:
    heard: list[str] = []
    first.asked.connect(heard.append)
    noisy = QLocalSocket()
    noisy.connectToServer(single_instance._address(tmp_path / "data"))
    assert noisy.waitForConnected(2000)
    noisy.write(b"x" * 100_000)
    qtbot.waitUntil(lambda: noisy.state() == QLocalSocket.LocalSocketState.UnconnectedState)
    assert heard == []


def test_a_folder_that_cannot_be_written_does_not_keep_the_window_away(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert SingleInstance(tmp_path / "file").claim()
    assert QLockFile(str(tmp_path / "free")).tryLock(0)
