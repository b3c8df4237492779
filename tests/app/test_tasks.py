"""Tasks over real worker processes and one that goes wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app.jobs_panel import JobsButton, JobsPanel, TaskRow, describe
from app.tasks import Task, Tasks, TaskState
from app.widgets import IconButton, QuietButton
from engine.client import Worker
from engine.convert.job import Convert
from engine.errors import EngineError, NotFound, OutOfMemory, WorkerCrashed
from engine.jobs import Piece, Progress

PATIENCE_MS = 30_000
FAKE = Path(__file__).parents[1] / "helpers" / "fake_worker.py"


@pytest.fixture
def tasks(qtbot: QtBot) -> Iterator[Tasks]:
    made = Tasks()
    yield made
    made.shutdown()


def fake(mode: str, on_exit: Callable[[EngineError | None], None]) -> Worker:
    return Worker.start(on_exit, command=[sys.executable, str(FAKE), mode])


def wait(qtbot: QtBot, task: Task, state: TaskState) -> None:
    qtbot.waitUntil(lambda: task.is_over, timeout=PATIENCE_MS)
    assert task.state == state, task.error


def test_job_runs_and_its_result_arrives(
    qtbot: QtBot, tasks: Tasks, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tiny.gguf"
    task = tasks.start(Convert(str(tiny_checkpoint), str(out)), "Converting Tiny")
    steps: list[object] = []
    task.stepped.connect(steps.append)
    assert task.state == TaskState.RUNNING
    wait(qtbot, task, TaskState.SUCCEEDED)
    assert task.result.size_bytes == out.stat().st_size
    assert all(isinstance(step, Progress) for step in steps)
    assert task.pace.fraction == 1.0
    assert tasks.active == []


def test_one_runs_and_the_next_waits(qtbot: QtBot, tiny_checkpoint: Path, tmp_path: Path) -> None:
    tasks = Tasks(start=partial(fake, "deaf"))
    try:
        first = tasks.start(Convert("a", "b"), "First")
        second = tasks.start(Convert("a", "b"), "Second")
        third = tasks.start(Convert("a", "b"), "Third")
        assert (first.state, second.state) == (TaskState.RUNNING, TaskState.QUEUED)
        assert [task.title for task in tasks.active] == ["First", "Second", "Third"]
        second.cancel()
        assert second.state == TaskState.CANCELLED
        assert tasks.active == [first, third]
        assert describe(third) == "Waiting for its turn"
    finally:
        tasks.shutdown()


def test_failure_is_the_engines_own_error(qtbot: QtBot, tasks: Tasks, tmp_path: Path) -> None:
    task = tasks.start(Convert(str(tmp_path / "nowhere"), str(tmp_path / "x.gguf")), "Converting")
    wait(qtbot, task, TaskState.FAILED)
    assert isinstance(task.error, NotFound)
    assert describe(task) == task.error.message
    following = tasks.ask(Convert(str(tmp_path / "nowhere"), str(tmp_path / "x.gguf")))
    wait(qtbot, following, TaskState.FAILED)
    assert following not in tasks.listed


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("kill", WorkerCrashed), ("abort", WorkerCrashed), ("out-of-memory", OutOfMemory)],
)
def test_dead_worker_fails_its_task_and_the_next_one_runs(
    qtbot: QtBot, mode: str, kind: type[EngineError]
) -> None:
    tasks = Tasks(start=partial(fake, mode))
    heard: list[object] = []
    first, second = (tasks.start(Convert("a", "b"), title) for title in ("First", "Second"))
    first.stepped.connect(heard.append)
    wait(qtbot, first, TaskState.FAILED)
    assert isinstance(first.error, kind)
    assert heard == [Piece("a", 1)]
    wait(qtbot, second, TaskState.FAILED)
    tasks.shutdown()


def test_worker_that_cannot_start_is_told_after_the_task_was_given(qtbot: QtBot) -> None:
    def refuse(_on_exit: object) -> Worker:
        raise OSError(12, "Cannot allocate memory")

    tasks = Tasks(start=refuse)
    task = tasks.start(Convert("a", "b"), "Converting")
    assert not task.is_over
    with qtbot.waitSignal(task.finished):
        pass
    assert isinstance(task.error, WorkerCrashed)
    tasks.shutdown()


def test_cancel_ends_the_job_and_leaves_nothing(
    qtbot: QtBot, tasks: Tasks, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tiny.gguf"
    task = tasks.start(Convert(str(tiny_checkpoint), str(out)), "Converting Tiny")
    task.cancel()
    assert task.is_cancelling
    assert describe(task) == "Stopping"
    qtbot.waitUntil(lambda: task.is_over, timeout=PATIENCE_MS)
    assert task.state in (TaskState.CANCELLED, TaskState.SUCCEEDED)
    assert not list(tmp_path.glob("*.partial"))
    assert out.exists() == (task.state == TaskState.SUCCEEDED)


def test_panel_follows_and_clears(qtbot: QtBot, tasks: Tasks, tmp_path: Path) -> None:
    button = JobsButton(tasks)
    panel = JobsPanel(tasks, button)
    qtbot.addWidget(button)
    qtbot.addWidget(panel)
    assert button.isHidden()
    task = tasks.start(Convert(str(tmp_path / "no"), str(tmp_path / "x.gguf")), "Converting")
    assert not button.isHidden()
    assert button.accessibleName() == "1 job running"
    row = panel.findChild(TaskRow)
    assert row is not None
    cancel = row.findChild(IconButton)
    assert cancel is not None
    assert cancel.accessibleName() == "Cancel Converting"
    wait(qtbot, task, TaskState.FAILED)
    assert button.accessibleName() == "Jobs: all finished"
    clear = panel.findChild(QuietButton)
    assert clear is not None
    clear.click()
    assert tasks.listed == []
    assert button.isHidden()
