"""Tasks over real worker processes and one that goes wrong."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import randbytes

import pytest
from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QApplication, QLabel
from pytestqt.qtbot import QtBot

from app import shrinks, theme
from app.context import AppContext
from app.jobs_panel import JobsButton, JobsPanel, TaskRow, describe
from app.models.page import ModelsPage
from app.problems import QuestionDialog
from app.tasks import Task, Tasks, TaskState
from app.widgets import QuietButton
from app.window import Window
from engine.client import Worker
from engine.convert.job import Convert
from engine.detect import Detect
from engine.errors import DiskFull, EngineError, NotFound, OutOfMemory, WorkerCrashed
from engine.hub.download import BETWEEN_FILES_S, Download
from engine.jobs import Job, Piece, Progress
from engine.partial import partial_of
from engine.quantize.quality import Quality
from engine.quantize.shrink import Shrink
from engine.words import format_percent
from tests.helpers.checkpoints import write_tiny_checkpoint
from tests.helpers.fake_hub import FakeHub, Repo, fake_hub
from tests.helpers.gestures import click

PATIENCE_MS = 30_000
FAKE = Path(__file__).parents[1] / "helpers" / "fake_worker.py"


@pytest.fixture
def tasks(qtbot: QtBot) -> Iterator[Tasks]:
    made = Tasks()
    yield made
    made.shutdown()


def fake(mode: str, on_exit: Callable[[EngineError | None], None]) -> Worker:
    return Worker.start(on_exit, command=[sys.executable, str(FAKE), mode])


def test_a_job_that_cannot_be_made_ready_fails_in_its_turn(qtbot: QtBot, tasks: Tasks) -> None:
    def renew(_job: Job) -> Job:
        raise DiskFull("The disk is full.")

    task = tasks.start(Detect(), "Looking", renew=renew)
    assert not task.is_over  # so that whoever began it can connect
    qtbot.waitUntil(lambda: task.is_over, timeout=PATIENCE_MS)
    assert task.state is TaskState.FAILED
    assert isinstance(task.error, DiskFull)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A model of three pieces and a bit."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with fake_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.repos["ann/Big-GGUF"] = Repo({"Big-Q4_K_M.gguf": randbytes(50 << 20)})
        hub.repos["ann/Small-GGUF"] = Repo({"Small-Q4_K_M.gguf": b"small"})
        yield hub


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
    task = tasks.start(Quality(str(tmp_path), str(tmp_path), str(tmp_path / "no.txt")), "Judging")
    assert not button.isHidden()
    assert button.accessibleName() == "1 job running"
    row = panel.findChild(TaskRow)
    assert row is not None
    assert row.cancel_button.accessibleName() == "Cancel Judging"
    assert row.pause_button.isHidden()
    ground = panel.grab().toImage().pixelColor(20, 20)
    assert ground == theme.current().colour("surface")
    wait(qtbot, task, TaskState.FAILED)
    assert button.accessibleName() == "Jobs: one failed"
    clear = panel.findChild(QuietButton)
    assert clear is not None
    clear.click()
    assert tasks.listed == []
    assert button.isHidden()


def test_a_download_pauses_lets_the_next_one_go_and_goes_on(
    qtbot: QtBot, tasks: Tasks, hub: FakeHub, tmp_path: Path
) -> None:
    button = JobsButton(tasks)
    qtbot.addWidget(button)
    slowly = Download("ann/Big-GGUF", str(tmp_path), bytes_per_second=10_000_000)
    task = tasks.start(slowly, "Download Big", "network")
    following = tasks.start(Download("ann/Small-GGUF", str(tmp_path)), "Download Small", "network")
    row = TaskRow(task)
    qtbot.addWidget(row)
    with qtbot.waitExposed(row):
        row.show()
    assert row.pause_button.accessibleName() == "Pause Download Big"
    (staging,) = wait_for_a_piece(qtbot, tmp_path)
    assert following.state == TaskState.QUEUED
    row.pause_button.setFocus()
    qtbot.keyClick(row.pause_button, Qt.Key.Key_Space)
    assert describe(task) == "Pausing"
    qtbot.waitUntil(lambda: task.state == TaskState.PAUSED, timeout=PATIENCE_MS)
    assert describe(task) == f"Paused at {format_percent(task.pace.fraction or 0)}"
    assert row.focusWidget() is row.pause_button
    assert row.pause_button.accessibleName() == "Resume Download Big"
    wait(qtbot, following, TaskState.SUCCEEDED)
    assert (button.accessibleName(), tasks.active) == ("1 job paused", [])
    tasks.clear_finished()
    assert tasks.listed == [task]
    fractions = [task.pace.fraction or 0]
    task.changed.connect(lambda: fractions.append(task.pace.fraction or fractions[-1]))
    before = hub.n_body_bytes
    click(row.pause_button)
    wait(qtbot, task, TaskState.SUCCEEDED)
    assert hub.n_body_bytes - before <= 48 << 20  # all but the last piece, of 2 MiB
    assert fractions == sorted(fractions) and not staging.exists()
    whole = tmp_path / "ann" / "Big-GGUF" / "Big-Q4_K_M.gguf"
    assert whole.read_bytes() == hub.repos["ann/Big-GGUF"].files["Big-Q4_K_M.gguf"]


def wait_for_a_piece(qtbot: QtBot, models: Path) -> list[Path]:
    """The folder of a download in the making, as soon as a piece of it is noted."""

    def noted() -> list[Path]:
        found = models.glob("*/*/.download-*/*.part.json")
        return [path.parent for path in found if json.loads(path.read_bytes()).get("done")]

    qtbot.waitUntil(lambda: bool(noted()), timeout=PATIENCE_MS)
    return noted()


def test_a_paused_download_is_cancelled_at_once_and_keeps_what_has_come(
    qtbot: QtBot, tasks: Tasks, hub: FakeHub, tmp_path: Path
) -> None:
    slowly = Download("ann/Big-GGUF", str(tmp_path), bytes_per_second=10_000_000)
    task = tasks.start(slowly, "Download Big", "network")
    (staging,) = wait_for_a_piece(qtbot, tmp_path)
    task.pause()
    qtbot.waitUntil(lambda: task.state == TaskState.PAUSED, timeout=PATIENCE_MS)
    task.cancel()
    assert task.state == TaskState.CANCELLED and staging.exists()
    assert "Models page" in describe(task)
    task.resume()
    assert task.state == TaskState.CANCELLED


def test_only_what_can_go_on_pauses(qtbot: QtBot, tasks: Tasks) -> None:
    task = tasks.start(Detect(), "Looking")
    task.pause()
    assert not task.is_pausing
    wait(qtbot, task, TaskState.SUCCEEDED)


def test_a_paused_shrink_lets_go_of_its_worker_and_goes_on(
    qtbot: QtBot, tasks: Tasks, tmp_path: Path
) -> None:
    source = write_tiny_checkpoint(tmp_path / "Big", hidden=1024, ffn=2048, n_layers=4)
    out = tmp_path / "small.gguf"
    task = tasks.start(Shrink(str(source), str(out), "Q5_K_M", 1), "Shrinking")
    stages: list[str] = []
    task.stepped.connect(lambda step: stages.append(step.stage))
    qtbot.waitUntil(lambda: bool(task.pace.fraction), timeout=PATIENCE_MS)
    task.pause_or_resume()
    qtbot.waitUntil(lambda: task.state == TaskState.PAUSED, timeout=PATIENCE_MS)
    assert partial_of(out).exists() and "Going on" not in stages
    task.pause_or_resume()
    wait(qtbot, task, TaskState.SUCCEEDED)
    assert "Going on" in stages
    assert out.exists() and not list(tmp_path.glob("*.partial*"))


def test_a_paused_shrink_that_is_cancelled_keeps_what_is_done(
    qtbot: QtBot, tasks: Tasks, tmp_path: Path
) -> None:
    source = write_tiny_checkpoint(tmp_path / "Big", hidden=1024, ffn=2048, n_layers=4)
    out = tmp_path / "small.gguf"
    task = tasks.start(Shrink(str(source), str(out), "Q5_K_M", 1), "Shrinking")
    qtbot.waitUntil(lambda: bool(task.pace.fraction), timeout=PATIENCE_MS)
    task.pause()
    qtbot.waitUntil(lambda: task.state == TaskState.PAUSED, timeout=PATIENCE_MS)
    task.cancel()
    assert task.state == TaskState.CANCELLED and partial_of(out).exists()
    assert "Models page" in describe(task)
    task = tasks.start(Shrink(str(source), str(out), "Q5_K_M", 1), "Shrinking")
    qtbot.waitUntil(lambda: bool(task.pace.fraction), timeout=PATIENCE_MS)
    task.cancel()
    wait(qtbot, task, TaskState.CANCELLED)
    assert describe(task) == "Cancelled" and list(tmp_path.iterdir()) == [source]


def test_a_waiting_download_can_be_put_off(qtbot: QtBot, hub: FakeHub, tmp_path: Path) -> None:
    tasks = Tasks(start=partial(fake, "deaf"))
    try:
        jobs = [Download(f"ann/{name}", str(tmp_path)) for name in "abc"]
        first, second, third = (tasks.start(job, job.repo, "network") for job in jobs)
        second.pause()
        assert (second.state, describe(second)) == (TaskState.PAUSED, "Paused")
        second.resume()
        assert second.state == TaskState.QUEUED
        third.pause()
        assert tasks.active == [first, second] and tasks.paused == [third]
    finally:
        tasks.shutdown()


def test_closing_stops_a_download_that_goes_on_after_the_next_start(
    qtbot: QtBot, qapp: QApplication, hub: FakeHub
) -> None:
    said: list[str] = []

    def agree() -> None:
        dialog = qapp.activeModalWidget()
        assert isinstance(dialog, QuestionDialog)
        said.extend(label.text() for label in dialog.findChildren(QLabel))
        click(dialog.action_button)

    window = Window(AppContext())
    qtbot.addWidget(window)
    window.show()
    models = Path(window.context.settings.value.models_folder)
    slowly = Download("ann/Big-GGUF", str(models), bytes_per_second=10_000_000)
    window.context.tasks.start(slowly, "Download Big", "network")
    wait_for_a_piece(qtbot, models)
    QTimer.singleShot(50, agree)
    assert window.close()
    assert said[0] == "1 job not finished"
    assert "What is there so far is kept" in said[1] and "discard" not in said[1]
    again = Window(AppContext())
    qtbot.addWidget(again)
    again.show()
    page = again.show_page("models")
    assert isinstance(page, ModelsPage)
    time.sleep(BETWEEN_FILES_S)
    page.refresh()
    qtbot.waitUntil(lambda: bool(page.leftovers.lines), timeout=PATIENCE_MS)
    before = hub.n_body_bytes
    click(page.leftovers.lines[0].resume_button)
    (task,) = again.context.tasks.listed
    wait(qtbot, task, TaskState.SUCCEEDED)
    assert hub.n_body_bytes - before <= 48 << 20  # all but the last piece, of 2 MiB
    assert again.close()


def test_closing_stops_a_shrink_that_goes_on_after_the_next_start(
    qtbot: QtBot, qapp: QApplication, tmp_path: Path
) -> None:
    said: list[str] = []

    def agree() -> None:
        dialog = qapp.activeModalWidget()
        assert isinstance(dialog, QuestionDialog)
        said.extend(label.text() for label in dialog.findChildren(QLabel))
        click(dialog.action_button)

    source = write_tiny_checkpoint(tmp_path / "Big", hidden=1024, ffn=4096, n_layers=2)
    window = Window(AppContext())
    qtbot.addWidget(window)
    window.show()
    models = Path(window.context.settings.value.models_folder)
    job = Shrink(str(source), str(models / "small.gguf"), "Q5_K_M", 1)
    task = shrinks.start(window.context, job)
    qtbot.waitUntil(lambda: bool(task.pace.fraction), timeout=PATIENCE_MS)
    QTimer.singleShot(50, agree)
    assert window.close()
    assert "can be resumed" in said[1] and "discard" not in said[1]

    again = Window(AppContext())
    qtbot.addWidget(again)
    again.show()
    page = again.show_page("models")
    assert isinstance(page, ModelsPage)
    qtbot.waitUntil(lambda: bool(page.leftovers.lines), timeout=PATIENCE_MS)
    (line,) = page.leftovers.lines
    assert line.words.text().startswith("Unfinished shrink: Big to Q5_K_M, ")
    click(line.resume_button)
    (task,) = again.context.tasks.listed
    stages: list[str] = []
    task.stepped.connect(lambda step: stages.append(step.stage))
    assert task.title == "Shrinking to small.gguf"
    wait(qtbot, task, TaskState.SUCCEEDED)
    assert "Going on" in stages
    small = str(models / "small.gguf")
    qtbot.waitUntil(
        lambda: small in [row.entry.path for row in page.shelf.rows], timeout=PATIENCE_MS
    )
    qtbot.waitUntil(lambda: not page.leftovers.isVisible(), timeout=PATIENCE_MS)
    assert again.close()
