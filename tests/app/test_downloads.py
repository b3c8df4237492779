"""Downloads and the models folder: what waits or is paused goes to where the models are by then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from random import randbytes

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.context import AppContext
from app.downloads import download
from app.preferences.models_folder import ModelsFolderCard
from app.tasks import Task, TaskState
from engine.hub.download import BETWEEN_FILES_S
from engine.hub.hub import Hub
from engine.jobs import finish
from engine.move import MoveModels
from tests.helpers.fake_hub import FakeHub, Repo, fake_hub
from tests.helpers.gestures import problems

PATIENCE_MS = 30_000
BIG = randbytes(20 << 20)


@pytest.fixture
def context(qapp: QApplication) -> Iterator[AppContext]:
    context = AppContext()
    Path(context.settings.value.models_folder).mkdir(parents=True)
    yield context
    context.shutdown()


@pytest.fixture(autouse=True)
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with fake_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.repos["ann/Big-GGUF"] = Repo({"Big-Q4_K_M.gguf": BIG})
        yield hub


def begin(context: AppContext) -> Task:
    repo = Hub().repo("ann/Big-GGUF")
    return download(context, repo, repo.variants()[0])


def pause(qtbot: QtBot, task: Task) -> None:
    qtbot.waitUntil(lambda: bool(task.pace.fraction), timeout=PATIENCE_MS)
    task.pause()
    qtbot.waitUntil(lambda: task.state == TaskState.PAUSED, timeout=PATIENCE_MS)


def require_arrived(qtbot: QtBot, task: Task, folder: Path) -> None:
    qtbot.waitUntil(lambda: task.is_over, timeout=PATIENCE_MS)
    assert task.state == TaskState.SUCCEEDED, task.error
    (arrived,) = folder.rglob("Big-Q4_K_M.gguf")
    assert task.result.path == str(arrived) and arrived.read_bytes() == BIG


def test_one_that_is_begun_while_models_move_waits_and_follows_them(
    qtbot: QtBot, context: AppContext, tmp_path: Path
) -> None:
    old, new = Path(context.settings.value.models_folder), tmp_path / "new"
    move = MoveModels(str(old), str(new), str(context.settings.path))
    moving = context.tasks.start(move, "Move", "disk")
    task = begin(context)
    assert task.state == TaskState.QUEUED
    require_arrived(qtbot, task, new)
    assert moving.state == TaskState.SUCCEEDED
    assert not list(old.rglob("*.gguf"))


def test_a_paused_one_goes_on_where_the_command_line_has_moved_it(
    qtbot: QtBot, context: AppContext, tmp_path: Path
) -> None:
    old, new = Path(context.settings.value.models_folder), tmp_path / "new"
    context.settings.update(download_limit=2_000_000)
    task = begin(context)
    pause(qtbot, task)
    time.sleep(BETWEEN_FILES_S)
    finish(MoveModels(str(old), str(new), str(context.settings.path)).run())
    context.settings.update(download_limit=0)
    task.resume()
    require_arrived(qtbot, task, new)
    assert not list(old.rglob("*.gguf"))


def test_the_models_folder_stays_while_one_is_paused(
    qtbot: QtBot, context: AppContext, tmp_path: Path
) -> None:
    old = context.settings.value.models_folder
    context.settings.update(download_limit=2_000_000)
    task = begin(context)
    pause(qtbot, task)
    card = ModelsFolderCard(context)
    qtbot.addWidget(card)
    card.show()
    card.change(str(tmp_path))
    qtbot.waitUntil(lambda: bool(problems(card)))
    (problem,) = problems(card)
    assert "while a job is paused" in problem.error.message
    assert card.choose_button.isEnabled() and context.settings.value.models_folder == old
