"""The Shrink page with a real checkpoint and real jobs in real workers."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QPushButton
from pytestqt.qtbot import QtBot

from app import theme
from app.context import AppContext
from app.shrink.done import DoneView
from app.shrink.naming import default_name, numbered, why_not
from app.shrink.page import ShrinkPage, State
from app.shrink.report_dialog import ReportDialog
from app.store import Status
from app.tasks import TaskState
from app.widgets import SegmentedControl
from engine.inspect import describe
from engine.move import MoveModels
from engine.quantize.report import read_report
from engine.quantize.shrink_to_size import ShrinkToSize, ShrunkToSize
from tests.helpers.checkpoints import write_tiny_checkpoint
from tests.helpers.gestures import click, drop, problems

PATIENCE_MS = 240_000


@pytest.fixture
def context(qapp: QApplication) -> Iterator[AppContext]:
    theme.apply(qapp, "light")
    context = AppContext()
    # One thread: two on a busy machine wait for each other.
    context.settings.update(n_threads=1)
    yield context
    context.shutdown()


@pytest.fixture
def page(qtbot: QtBot, context: AppContext) -> ShrinkPage:
    page = ShrinkPage(context)
    qtbot.addWidget(page)
    page.resize(900, 600)
    page.show()
    return page


@pytest.fixture
def small_checkpoint(tmp_path: Path) -> Path:
    return write_tiny_checkpoint(tmp_path / "Small", n_layers=1)


@pytest.fixture
def models(context: AppContext) -> Path:
    return Path(context.settings.value.models_folder)


def wait_for(qtbot: QtBot, page: ShrinkPage, state: State) -> None:
    qtbot.waitUntil(lambda: page.state is state, timeout=PATIENCE_MS)


def choose(control: SegmentedControl, words: str) -> None:
    (button,) = (b for b in control.findChildren(QPushButton) if b.text() == words)
    click(button)


def look_at(qtbot: QtBot, page: ShrinkPage, source: Path, *, work: str = "") -> None:
    """Take `source`, with the stock rounding that is soon done, or with so much `work`."""
    page.set_source(str(source))
    assert page.state is State.LOOKING
    wait_for(qtbot, page, State.READY)
    if work:
        choose(page.result.work.stops, work)
    else:
        click(page.result.work.fold)
        choose(page.result.work.rounding, "As llama-quantize does")


def test_the_plan_is_shown_before_anything_runs(
    qtbot: QtBot, page: ShrinkPage, models: Path, tiny_checkpoint: Path
) -> None:
    assert page.state is State.EMPTY

    look_at(qtbot, page, tiny_checkpoint)

    names = [row.choice.recipe for row in page.result.choices.rows]
    assert names == ["Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K"]
    assert page.result.choice and page.result.choice.recipe == "Q8_0"
    assert page.result.out == models / "Tiny-Q8_0.gguf"
    assert not models.exists()


def test_the_stock_way_gives_the_promised_bytes_and_leads_to_the_chat(
    qtbot: QtBot, page: ShrinkPage, models: Path, tiny_checkpoint: Path
) -> None:
    look_at(qtbot, page, tiny_checkpoint)
    row = page.result.choices.rows[3]
    click(row)
    promised = row.choice
    assert not page.result.slider.isEnabled() and not page.result.texts.isEnabled()

    click(page.result.shrink_button)
    wait_for(qtbot, page, State.RUNNING)
    assert not page.source.isEnabled()
    wait_for(qtbot, page, State.DONE)

    made = models / "Tiny-Q4_K_M.gguf"
    assert made.stat().st_size == promised.size_bytes
    summary = describe(made)
    assert summary.type == "Q4_K_M"
    assert summary.bits_per_weight == pytest.approx(promised.bits_per_weight, abs=0.01)
    with qtbot.waitSignal(page.chat_requested) as chat:
        click(page.done.chat_button)
    assert chat.args == [str(made)]
    click(page.done.again_button)
    wait_for(qtbot, page, State.EMPTY)


@pytest.mark.timeout(300)  # measured
def test_a_stop_is_filled_as_measured_on_conversations_that_stay_private(
    qtbot: QtBot, page: ShrinkPage, context: AppContext, models: Path, small_checkpoint: Path
) -> None:
    secret = "My dog is called Orpheus. " * 600
    prompt = context.store.start_conversation(secret)
    context.store.end_answer(context.store.begin_answer(prompt, "x").id, secret, Status.COMPLETE)
    look_at(qtbot, page, small_checkpoint, work="Quick")
    click(page.result.choices.rows[4])
    promised = page.result.choice
    choose(page.result.texts.kinds, "My conversations")

    click(page.result.shrink_button)
    (task,) = context.tasks.active
    assert isinstance(task.job, ShrinkToSize)
    assert (task.job.recipe, task.job.effort) == ("Q3_K_M", "fast")
    (text,) = map(Path, task.job.texts)
    assert context.folders.cache in text.parents and "Orpheus" in text.read_text()
    if os.name != "nt":
        assert stat.S_IMODE(text.stat().st_mode) == 0o600
    fractions: list[float] = []
    task.stepped.connect(lambda _: fractions.append(task.pace.fraction or 0.0))
    wait_for(qtbot, page, State.DONE)

    assert promised
    size_bytes = (models / "Small-Q3_K_M.gguf").stat().st_size
    assert 0.85 * promised.size_bytes < size_bytes <= promised.size_bytes
    assert not text.exists()
    assert fractions == sorted(fractions) and fractions[-1] > 0.8
    names = {path.name for path in models.iterdir()}
    assert names == {"Small-Q3_K_M.gguf", "Small-Q3_K_M.quality.json"}


@pytest.mark.timeout(300)  # measured
def test_any_size_in_between_can_be_had_and_is_tuned_for_a_file(
    qtbot: QtBot, page: ShrinkPage, models: Path, small_checkpoint: Path, tmp_path: Path
) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text("Once upon a time there was a little notebook. " * 500)
    look_at(qtbot, page, small_checkpoint, work="Quick")
    slider, rows = page.result.slider, page.result.choices.rows
    click(rows[2])
    at_stop = slider.value()
    QTest.keyClick(slider, Qt.Key.Key_Left)
    assert page.result.choice is rows[2].choice and rows[2].isChecked()  # it is meant still
    for _ in range(4):
        QTest.keyClick(slider, Qt.Key.Key_Left)
    choice = page.result.choice
    assert choice and choice.recipe == "" and slider.value() == at_stop - 5
    assert rows[3].choice.size_bytes < choice.size_bytes < rows[2].choice.size_bytes
    assert not any(row.isChecked() for row in rows)
    page.result.texts.set_files((str(notes),))

    click(page.result.shrink_button)
    (task,) = page._context.tasks.active
    assert isinstance(task.job, ShrinkToSize) and task.job.texts == (str(notes),)
    wait_for(qtbot, page, State.DONE)

    (made,) = models.glob("*.gguf")
    assert rows[3].choice.size_bytes <= made.stat().st_size <= choice.size_bytes
    report = read_report(made)
    assert report and report.quality
    words = " ".join(label.text() for label in page.done.findChildren(QLabel) if label.isVisible())
    assert report.quality.verdict.capitalize() in words
    assert all(failure.words in words for failure in report.failures)
    click(page.done.report_button)
    (dialog,) = page.findChildren(ReportDialog)
    assert f"{report.quality.kld_mean:.6f}" in dialog.text.toPlainText()
    click(dialog.copy_button)
    assert QApplication.clipboard().text() == dialog.text.toPlainText()
    click(dialog.close_button)


def test_the_stock_way_goes_back_to_a_stop(
    qtbot: QtBot, page: ShrinkPage, tiny_checkpoint: Path
) -> None:
    look_at(qtbot, page, tiny_checkpoint, work="Best")
    page.result.slider.setValue(page.result.slider.value() - 10)
    assert not any(row.isChecked() for row in page.result.choices.rows)
    click(page.result.work.fold)
    choose(page.result.work.rounding, "As llama-quantize does")
    assert page.result.choice and page.result.choice.recipe == "Q8_0"
    assert page.result.choices.rows[0].isChecked()


@pytest.mark.timeout(300)  # measured
def test_a_measured_shrink_is_paused_goes_on_and_is_cancelled(
    qtbot: QtBot, page: ShrinkPage, models: Path, small_checkpoint: Path
) -> None:
    look_at(qtbot, page, small_checkpoint, work="Balanced")
    click(page.result.shrink_button)
    (task,) = page._context.tasks.active
    qtbot.waitUntil(lambda: (task.pace.fraction or 0) > 0.03, timeout=PATIENCE_MS)
    click(page.running.pause_button)
    qtbot.waitUntil(lambda: task.state is TaskState.PAUSED, timeout=PATIENCE_MS)
    at = task.pace.fraction
    click(page.running.pause_button)
    qtbot.waitUntil(lambda: task.pace.fraction != at, timeout=PATIENCE_MS)
    assert task.pace.fraction and at and task.pace.fraction > at
    click(page.running.cancel_button)
    wait_for(qtbot, page, State.READY)
    assert list(models.iterdir()) == [] and problems(page) == []


def test_nothing_is_shrunk_into_a_folder_that_moves(
    qtbot: QtBot, page: ShrinkPage, context: AppContext, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    look_at(qtbot, page, tiny_checkpoint)
    folder, file = context.settings.value.models_folder, str(context.settings.path)
    move = context.tasks.start(MoveModels(folder, str(tmp_path), file), "Move", "disk")
    click(page.result.shrink_button)
    assert page.state is State.READY and context.tasks.active == [move]
    (problem,) = problems(page)
    assert "being moved" in problem.error.message
    qtbot.waitUntil(lambda: move.is_over, timeout=PATIENCE_MS)
    click(page.result.shrink_button)
    assert problems(page) == []
    wait_for(qtbot, page, State.DONE)


def test_cancel_leaves_no_file_and_keeps_the_choice(
    qtbot: QtBot, page: ShrinkPage, models: Path, tmp_path: Path
) -> None:
    source = write_tiny_checkpoint(tmp_path / "Bigger", hidden=512, ffn=2048, n_layers=8)
    look_at(qtbot, page, source)
    click(page.result.choices.rows[5])
    click(page.result.shrink_button)
    (task,) = page._context.tasks.active

    def has_begun() -> bool:
        return task.progress is not None and task.progress.done > 0

    qtbot.waitUntil(has_begun, timeout=PATIENCE_MS)
    click(page.running.cancel_button)
    wait_for(qtbot, page, State.READY)

    assert list(models.iterdir()) == []
    assert page.result.choice and page.result.choice.recipe == "Q2_K"
    assert problems(page) == []


def test_a_shrink_is_paused_and_goes_on(
    qtbot: QtBot, page: ShrinkPage, models: Path, tmp_path: Path
) -> None:
    source = write_tiny_checkpoint(tmp_path / "Bigger", hidden=512, ffn=2048, n_layers=8)
    look_at(qtbot, page, source)
    click(page.result.choices.rows[5])
    click(page.result.shrink_button)
    (task,) = page._context.tasks.active
    qtbot.waitUntil(lambda: bool(task.pace.fraction), timeout=PATIENCE_MS)

    click(page.running.pause_button)
    qtbot.waitUntil(lambda: task.state is TaskState.PAUSED, timeout=PATIENCE_MS)
    assert page.running.pause_button.text() == "Resume" and page.state is State.RUNNING
    click(page.running.pause_button)
    wait_for(qtbot, page, State.DONE)

    assert [path.name for path in models.iterdir()] == ["Bigger-Q2_K.gguf"]


def test_a_shrink_that_was_paused_and_cancelled_goes_on_when_it_is_chosen_again(
    qtbot: QtBot, page: ShrinkPage, models: Path, tmp_path: Path
) -> None:
    source = write_tiny_checkpoint(tmp_path / "Bigger", hidden=512, ffn=2048, n_layers=8)
    look_at(qtbot, page, source)
    click(page.result.choices.rows[5])
    click(page.result.shrink_button)
    (task,) = page._context.tasks.active
    qtbot.waitUntil(lambda: bool(task.pace.fraction), timeout=PATIENCE_MS)
    click(page.running.pause_button)
    qtbot.waitUntil(lambda: task.state is TaskState.PAUSED, timeout=PATIENCE_MS)
    click(page.running.cancel_button)
    wait_for(qtbot, page, State.READY)
    assert (models / "Bigger-Q2_K.gguf.partial").exists()

    click(page.result.shrink_button)
    stages: list[str] = []
    (task,) = page._context.tasks.active
    task.stepped.connect(lambda step: stages.append(step.stage))
    wait_for(qtbot, page, State.DONE)
    assert "Going on" in stages


def test_an_output_is_never_overwritten(
    qtbot: QtBot, page: ShrinkPage, models: Path, tiny_checkpoint: Path
) -> None:
    models.mkdir(parents=True)
    taken = models / "Tiny-Q8_0.gguf"
    taken.write_bytes(b"precious")
    look_at(qtbot, page, tiny_checkpoint)

    assert not page.result.shrink_button.isEnabled()
    click(page.result.numbered_button)
    assert page.result.out == models / "Tiny-Q8_0-2.gguf"

    click(page.result.shrink_button)
    page.result.out.write_bytes(b"came meanwhile")
    wait_for(qtbot, page, State.READY)
    (problem,) = problems(page)
    assert "exists" in problem.error.message
    assert problem.action_button
    click(problem.action_button)
    assert page.result.out == models / "Tiny-Q8_0-3.gguf"
    assert page.result.shrink_button.isEnabled()
    assert taken.read_bytes() == b"precious"
    assert (models / "Tiny-Q8_0-2.gguf").read_bytes() == b"came meanwhile"


def test_a_name_of_ones_own_is_kept_when_the_width_changes(
    qtbot: QtBot, page: ShrinkPage, models: Path, tiny_checkpoint: Path
) -> None:
    look_at(qtbot, page, tiny_checkpoint)
    page.result.name_field.selectAll()
    QTest.keyClicks(page.result.name_field, "Mine")
    click(page.result.choices.rows[4])

    assert page.result.out == models / "Mine.gguf"
    page.result.name_field.selectAll()
    QTest.keyClicks(page.result.name_field, "a/b")
    assert not page.result.shrink_button.isEnabled()


def test_a_folder_that_cannot_be_written_offers_another(
    qtbot: QtBot, page: ShrinkPage, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    look_at(qtbot, page, tiny_checkpoint)
    page.result.set_folder(blocked / "models")

    click(page.result.shrink_button)

    (problem,) = problems(page)
    assert problem.action_button and problem.action_button.text() == "Choose another folder"
    assert page.state is State.READY
    page.result.set_folder(tmp_path / "new")
    click(page.result.shrink_button)
    wait_for(qtbot, page, State.DONE)
    assert problems(page) == []
    assert (tmp_path / "new" / "Tiny-Q8_0.gguf").is_file()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root on Linux can make a disk")
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_told_and_another_folder_helps(
    qtbot: QtBot, page: ShrinkPage, tiny_checkpoint: Path, small_disk: Path, tmp_path: Path
) -> None:
    look_at(qtbot, page, tiny_checkpoint)
    page.result.set_folder(small_disk)

    click(page.result.shrink_button)
    wait_for(qtbot, page, State.READY)

    (problem,) = problems(page)
    assert "not enough space" in problem.error.message
    assert problem.action_button and problem.action_button.text() == "Choose another folder"
    assert list(small_disk.iterdir()) == []
    page.result.set_folder(tmp_path)
    click(page.result.shrink_button)
    wait_for(qtbot, page, State.DONE)
    assert (tmp_path / "Tiny-Q8_0.gguf").is_file()


def quantized(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    from engine.jobs import finish
    from engine.quantize.shrink import Shrink

    out = tmp_path / "Small-Q4_K_M.gguf"
    finish(Shrink(str(tiny_checkpoint), str(out), "Q4_K_M").run())
    return out


def cut(tmp_path: Path, tiny_checkpoint: Path) -> Path:
    out = tmp_path / "Cut"
    shutil.copytree(tiny_checkpoint, out)
    weights = next(out.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:5000])
    return out


@pytest.mark.parametrize("make", [quantized, cut])
def test_a_source_that_cannot_be_shrunk_says_why(
    qtbot: QtBot,
    page: ShrinkPage,
    make: Callable[[Path, Path], Path],
    tmp_path: Path,
    tiny_checkpoint: Path,
) -> None:
    page.set_source(str(make(tmp_path, tiny_checkpoint)))

    qtbot.waitUntil(lambda: bool(problems(page)), timeout=PATIENCE_MS)

    (problem,) = problems(page)
    assert problem.error.message.endswith(".") and problem.error.hint
    assert page.state is State.EMPTY


def test_a_dropped_checkpoint_becomes_the_source(
    qtbot: QtBot, page: ShrinkPage, context: AppContext, tiny_checkpoint: Path
) -> None:
    drop(page, tiny_checkpoint)

    wait_for(qtbot, page, State.READY)
    assert context.settings.value.added_models == (str(tiny_checkpoint),)
    qtbot.waitUntil(lambda: page.source.row_of(str(tiny_checkpoint)) is not None)


def test_what_is_no_model_is_refused_with_a_reason(page: ShrinkPage, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no model")

    page.choose(str(tmp_path / "notes.txt"))
    assert problems(page)[0].error.hint

    page.choose(str(tmp_path))
    (problem,) = problems(page)
    assert "no model" in problem.error.message


def test_sources_are_those_that_can_be_shrunk(
    qtbot: QtBot, context: AppContext, tiny_checkpoint: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    small = quantized(tmp_path, tiny_checkpoint)
    paths = [str(path) for path in (tiny_checkpoint, tiny_gguf, small)]
    context.settings.update(added_models=tuple(paths))
    page = ShrinkPage(context)
    qtbot.addWidget(page)
    page.show()

    qtbot.waitUntil(lambda: page.source.row_of(paths[0]) is not None)

    assert page.source.row_of(paths[1]) is not None
    assert page.source.row_of(paths[2]) is None
    page.source.view.setFocus()
    QTest.keyClick(page.source.view, Qt.Key.Key_Down)
    wait_for(qtbot, page, State.READY)


def test_names(tmp_path: Path) -> None:
    assert default_name("/models/Tiny-F16.gguf", "Q4_K_M") == "Tiny-Q4_K_M.gguf"
    assert default_name("/models/Llama-3.2-1B", "Q8_0") == "Llama-3.2-1B-Q8_0.gguf"
    (tmp_path / "a.gguf").touch()
    (tmp_path / "a-2.gguf").touch()
    assert numbered(tmp_path / "a.gguf") == tmp_path / "a-3.gguf"
    assert numbered(tmp_path / "a-2.gguf") == tmp_path / "a-3.gguf"
    assert numbered(tmp_path / "b-7.gguf") == tmp_path / "b-7-2.gguf"
    assert why_not(tmp_path, "b.gguf") == ""
    for name in ("a.gguf", ".gguf", " . .gguf", "a/b.gguf", "/etc/b.gguf", "a?.gguf"):
        assert why_not(tmp_path, name)


def test_the_version_that_was_kept_is_told(qtbot: QtBot) -> None:
    view = DoneView()
    qtbot.addWidget(view)
    view.show()
    stock = "Q4_K_M as llama-quantize makes it did better here"
    larger = "so a larger one was made"
    for kept, told in (
        ("stock Q4_K_M", [stock]),
        ("ours", []),
        ("ours, 4,000,000 bytes", [larger]),
    ):
        view.show_result(ShrunkToSize("a.gguf", "", kept, 16, 4, 4.25, 9.0, None, ()), None)
        shown = " ".join(label.text() for label in view.findChildren(QLabel) if label.isVisible())
        assert [words for words in (stock, larger) if words in shown] == told
