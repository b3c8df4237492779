"""The Models page with real files: listing, adding, removing, and the way to the other pages."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from PySide6.QtCore import QFile, QModelIndex, QObject, Qt, QUrl, Slot
from PySide6.QtGui import QDesktopServices
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel, QWidget
from pytestqt.qtbot import QtBot

from app.context import AppContext
from app.models.details import Details
from app.models.model_list import ROW_ROLE
from app.models.page import ModelsPage
from app.models.scan import Row
from app.models.verdict import Conditions, judge
from app.problems import QuestionDialog
from app.tasks import TaskState
from engine.detect import Detect
from engine.errors import NotFound
from engine.ggml_types import GgmlType
from engine.hardware import Computer, Cpu, Device
from engine.hub.download import STAGING
from engine.library import Library
from engine.move import MoveModels
from engine.quantize.report import read_report, report_path, write_report
from engine.quantize.shrink import Shrink
from engine.words import format_bytes
from tests.helpers.gestures import click, drop, problems
from tests.helpers.headers import Sizes, header
from tests.helpers.pauses import pause
from tests.helpers.reports import REPORT


@pytest.fixture
def own(context: AppContext, tiny_gguf: Path) -> Path:
    """A model in the models folder."""
    return Path(shutil.copy(tiny_gguf, context.settings.value.models_folder))


def show_page(qtbot: QtBot, context: AppContext) -> ModelsPage:
    page = ModelsPage(context)
    qtbot.addWidget(page)
    page.resize(900, 600)
    with qtbot.waitSignal(page.scanned, timeout=30_000):  # a worker starts
        page.show()
    return page


def names(page: ModelsPage) -> list[str]:
    return [Path(row.entry.path).name for row in own_rows(page)]


def own_rows(page: ModelsPage) -> list[Row]:
    """What is listed besides the starter, which always is and stands behind all that work."""
    return [row for row in page.shelf.rows if not row.entry.is_starter]


def indexes(page: ModelsPage) -> list[QModelIndex]:
    model = page.shelf.view.model()
    return [model.index(number, 0) for number in range(model.rowCount())]


def answer(page: QWidget, *, remove: bool) -> str:
    """Click the question away; returns what it asked."""
    dialog = page.findChild(QuestionDialog)
    assert isinstance(dialog, QuestionDialog) and dialog.isVisible()
    words = " ".join(label.text() for label in dialog.findChildren(QLabel))
    click(dialog.action_button if remove else dialog.keep_button)
    return words


def test_the_starter_is_listed_and_stays(qtbot: QtBot, context: AppContext, own: Path) -> None:
    page = show_page(qtbot, context)
    assert [row.entry.is_starter for row in page.shelf.rows] == [False, True]
    assert not page.shelf.hint.isVisible()

    page.select(page.shelf.rows[1].entry.path)
    assert page.details.chat_button.isVisible() and page.details.shrink_button.isVisible()
    assert not page.details.remove_button.isVisible()
    qtbot.keyClick(page.shelf.view, Qt.Key.Key_Delete)
    assert page.findChild(QuestionDialog) is None


def test_with_nothing_but_the_starter_the_page_says_what_to_do(
    qtbot: QtBot, context: AppContext
) -> None:
    page = show_page(qtbot, context)

    assert [row.entry.is_starter for row in page.shelf.rows] == [True]
    assert page.shelf.hint.isVisible()


def test_rows_say_size_type_and_fit(
    qtbot: QtBot, context: AppContext, own: Path, tiny_checkpoint: Path
) -> None:
    context.settings.update(added_models=(str(tiny_checkpoint),))
    page = show_page(qtbot, context)

    assert sorted(names(page)) == sorted([own.name, tiny_checkpoint.name])
    texts = {index.data(Qt.ItemDataRole.AccessibleTextRole) for index in indexes(page)[:2]}
    assert any("F16" in text and "Runs on the processor" in text for text in texts)
    assert any("Checkpoint" in text and "Shrink it to chat" in text for text in texts)
    tooltip = indexes(page)[0].data(Qt.ItemDataRole.ToolTipRole)
    assert tooltip


def test_a_model_larger_than_memory_says_the_sum(context: AppContext, own: Path) -> None:
    library = Library(context.settings.value.models_folder)
    (entry,) = library.scan()
    small = Computer(400_000_000, 100_000_000, Cpu("", 1, 1, ()))

    verdict = judge(entry, library.estimate(entry), Conditions(small))

    assert verdict.tone == "bad"
    assert verdict.words.startswith("Too large: needs ") and verdict.words.endswith("100 MB free")
    assert "weights" in verdict.reason and "context" in verdict.reason


def test_the_slider_judges_every_model_anew_and_is_kept(
    qtbot: QtBot, context: AppContext, tmp_path: Path
) -> None:
    """A model of a gigabyte whose longest context takes more than this computer has."""
    sizes = Sizes(64, 2048, 2048, 32, 32, 64, 1000, n_ctx_train=1 << 20)
    header("llama", GgmlType.Q4_0, sizes).write_sparse(tmp_path / "wide.gguf")
    small = header("llama", GgmlType.Q8_0, Sizes(2, 256, 512, 4, 4, 64, 1000, n_ctx_train=2048))
    small.write_sparse(tmp_path / "short.gguf")
    paths = [str(tmp_path / name) for name in ("short.gguf", "wide.gguf")]
    context.settings.update(added_models=tuple(paths))
    page = show_page(qtbot, context)

    def contexts() -> list[int]:
        rows = {row.entry.path: row for row in page.shelf.rows}
        fits = [rows[path].verdict.fit for path in paths]
        return [fit.run.n_ctx for fit in fits if fit]

    assert contexts()[0] == 2048
    page.shelf.context_slider.slider.setFocus()
    QTest.keyClick(page.shelf.context_slider.slider, Qt.Key.Key_End)
    assert contexts() == [2048, 131_072]
    longest = page.shelf.rows[[row.entry.path for row in page.shelf.rows].index(paths[1])].verdict
    assert longest.fit and longest.fit.needs[0].kv_bytes == 131_072 * 64 * 32 * 64 * 2 * 2
    page.select(paths[1])
    assert "131,072 tokens" in page.details._lines["Memory"][1].text()
    qtbot.waitUntil(lambda: context.settings.value.n_ctx == 131_072)
    QTest.keyClick(page.shelf.context_slider.slider, Qt.Key.Key_Home)
    qtbot.waitUntil(lambda: context.settings.value.n_ctx == 0)


def test_what_llama_cpp_says_takes_the_place_of_the_estimate(
    qtbot: QtBot, context: AppContext, own: Path
) -> None:
    page = show_page(qtbot, context)
    page.select(str(own))
    _, speed = page.details._lines["Speed"]
    assert not speed.isVisible()
    qtbot.waitUntil(speed.isVisible, timeout=20_000)
    assert "tokens/s" in speed.text()
    assert not page.details._lines["Took"][1].isVisible()

    with qtbot.waitSignal(page.scanned):
        page.refresh()
    assert speed.isVisible() and "tokens/s" in speed.text(), "it is not asked again"
    assert not page._exact._settle.isActive() and page._exact._question is None
    QTest.keyClick(page.shelf.context_slider.slider, Qt.Key.Key_End)
    assert not speed.isVisible() and page._exact._settle.isActive()


def test_the_engine_is_asked_for_devices_once(qtbot: QtBot, context: AppContext) -> None:
    page = show_page(qtbot, context)
    qtbot.waitUntil(lambda: bool(context.computer.devices), timeout=20_000)
    # What is free on a graphics card would be asked for again.
    found = context.computer.found
    assert found
    only_cpu = tuple(device for device in found.devices if device.kind == "cpu")
    context.computer.found = msgspec.structs.replace(found, devices=only_cpu)
    n_asked = len(context.tasks._asked)
    page.refresh()
    assert len(context.tasks._asked) == n_asked


def test_what_a_card_has_free_changes_the_badges_and_asks_nothing(
    qtbot: QtBot, context: AppContext, own: Path
) -> None:
    """Each answer is another one: to ask again after each would never end."""
    page = show_page(qtbot, context)
    computer = context.computer
    qtbot.waitUntil(lambda: bool(computer.devices), timeout=20_000)
    n_asked = len([task for task in context.tasks._asked if isinstance(task.job, Detect)])
    for free in (11 << 30, 10 << 30):
        card = Device("CUDA0", "RTX 3060", "gpu", 12 << 30, free)
        assert computer.found
        computer.found = msgspec.structs.replace(computer.found, devices=(card,))
        computer.changed.emit()
        (row,) = own_rows(page)
        assert row.verdict.fit and row.verdict.fit.usable["CUDA0"] == free - free // 20
    assert len([t for t in context.tasks._asked if isinstance(t.job, Detect)]) == n_asked


def test_a_graphics_card_is_told_in_the_badge(context: AppContext, own: Path) -> None:
    library = Library(context.settings.value.models_folder)
    (entry,) = library.scan()
    card = Device("CUDA0", "RTX 3060", "gpu", 12 << 30, 11 << 30)
    computer = Computer(16 << 30, 8 << 30, Cpu("", 1, 1, ()), (card,))

    verdict = judge(entry, library.estimate(entry), Conditions(computer))

    assert (verdict.words, verdict.tone) == ("Runs on the graphics card", "good")
    assert "entirely on the RTX 3060" in verdict.reason and "CUDA0" in verdict.reason


def test_chat_and_shrink_ask_for_the_selected_model(
    qtbot: QtBot, context: AppContext, own: Path, tiny_checkpoint: Path
) -> None:
    context.settings.update(added_models=(str(tiny_checkpoint),))
    page = show_page(qtbot, context)

    page.select(str(own))
    with qtbot.waitSignal(page.chat_requested) as chat:
        click(page.details.chat_button)
    with qtbot.waitSignal(page.shrink_requested) as shrink:
        click(page.details.shrink_button)
    page.select(str(tiny_checkpoint))
    assert not page.details.chat_button.isVisible()
    with qtbot.waitSignal(page.shrink_requested) as checkpoint:
        click(page.details.shrink_first_button)

    assert chat.args == shrink.args == [str(own)]
    assert checkpoint.args == [str(tiny_checkpoint)]


def test_arrows_choose_enter_chats_and_delete_asks(
    qtbot: QtBot, context: AppContext, own: Path
) -> None:
    second = own.with_name("Zebra.gguf")
    shutil.copy(own, second)
    page = show_page(qtbot, context)
    page.select(page.shelf.rows[0].entry.path)

    QTest.keyClick(page.shelf.view, Qt.Key.Key_Down)
    with qtbot.waitSignal(page.chat_requested) as chat:
        QTest.keyClick(page.shelf.view, Qt.Key.Key_Return)
    assert chat.args == [page.shelf.rows[1].entry.path]

    QTest.keyClick(page.shelf.view, Qt.Key.Key_Delete)
    answer(page, remove=False)
    assert own.exists() and second.exists()


def test_dropped_models_are_added_without_a_copy(
    qtbot: QtBot, context: AppContext, tiny_gguf: Path, tiny_checkpoint: Path
) -> None:
    page = show_page(qtbot, context)

    with qtbot.waitSignal(page.scanned):
        drop(page, tiny_gguf, tiny_checkpoint)

    assert set(context.settings.value.added_models) == {str(tiny_gguf), str(tiny_checkpoint)}
    assert set(names(page)) == {tiny_gguf.name, tiny_checkpoint.name}
    assert not list(Path(context.settings.value.models_folder).iterdir())


def test_a_folder_adds_every_model_in_it(
    qtbot: QtBot, context: AppContext, tiny_gguf: Path, tmp_path: Path
) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("One.gguf", "sub/Two.gguf"):
        shutil.copy(tiny_gguf, tmp_path / name)
    page = show_page(qtbot, context)

    with qtbot.waitSignal(page.scanned):
        page.add([str(tmp_path)])

    assert sorted(names(page)) == ["One.gguf", "Two.gguf"]


def test_what_is_no_model_gets_a_sentence_and_loses_nothing(
    qtbot: QtBot, context: AppContext, own: Path, tmp_path: Path
) -> None:
    page = show_page(qtbot, context)
    text, empty, pickled = tmp_path / "notes.gguf", tmp_path / "empty", tmp_path / "pickled"
    text.write_text("this is no model")
    empty.mkdir()
    pickled.mkdir()
    (pickled / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x02.")

    with qtbot.waitSignal(page.scanned):
        drop(page, text, empty)

    assert len(problems(page)) == 2
    assert all(card.error.message and card.error.hint for card in problems(page))
    assert context.settings.value.added_models == ()
    assert names(page) == [own.name]


def test_an_added_model_is_forgotten_and_remembered(
    qtbot: QtBot, context: AppContext, tiny_gguf: Path
) -> None:
    """Nothing is lost, so nothing is asked."""
    context.settings.update(added_models=("/gone/a.gguf", str(tiny_gguf), "/gone/b.gguf"))
    page = show_page(qtbot, context)
    page.select(str(tiny_gguf))

    with qtbot.waitSignal(page.scanned):
        click(page.details.remove_button)
    assert page.findChild(QuestionDialog) is None
    assert tiny_gguf.name not in names(page) and tiny_gguf.exists()
    assert context.settings.value.added_models == ("/gone/a.gguf", "/gone/b.gguf")

    with qtbot.waitSignal(page.scanned):
        click(page.toast.undo_button)
    assert context.settings.value.added_models[1] == str(tiny_gguf)
    assert page.shelf.view.currentIndex().data(ROW_ROLE).entry.path == str(tiny_gguf)
    assert not page.toast.isVisible()


def test_undo_stands_at_the_foot_of_what_is_shown(
    qtbot: QtBot, context: AppContext, tiny_gguf: Path
) -> None:
    context.settings.update(added_models=(str(tiny_gguf),))
    page = show_page(qtbot, context)
    page.select(str(tiny_gguf))
    with qtbot.waitSignal(page.scanned):
        click(page.details.remove_button)
    toast, foot = page.toast, page.shelf.foot
    assert toast.geometry().bottom() < foot.mapTo(page, foot.rect().topLeft()).y()

    page.show_discover()
    assert toast.isVisible()
    assert page.height() - 80 < toast.geometry().bottom() < page.height()
    assert abs(toast.geometry().center().x() - page.width() // 2) <= 1


@pytest.fixture
def trash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path / "Trash"


def test_an_own_model_goes_to_the_trash_after_asking_and_comes_back(
    qtbot: QtBot, context: AppContext, own: Path, trash: Path
) -> None:
    data = own.read_bytes()
    page = show_page(qtbot, context)

    click(page.details.remove_button)
    with qtbot.waitSignal(page.scanned):
        words = answer(page, remove=True)

    assert "moved to the trash" in words and str(own) in words
    assert not own.exists()
    assert own_rows(page) == []
    assert [path.name for path in trash.rglob("*.gguf")] == [own.name]

    page.activateWindow()
    qtbot.waitUntil(page.isActiveWindow)
    with qtbot.waitSignal(page.scanned):
        QTest.keyClick(page, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert own.read_bytes() == data and names(page) == [own.name]
    assert not [path for path in trash.rglob("*") if path.is_file()], "nor a note of it"


def test_all_parts_come_back(
    qtbot: QtBot, context: AppContext, own: Path, trash: Path, tiny_checkpoint: Path
) -> None:
    parts = [own.with_name(f"Big-0000{part}-of-00002.gguf") for part in (1, 2)]
    for part in parts:
        shutil.copy(own, part)
    folder = own.with_name("Checkpoint")
    shutil.copytree(tiny_checkpoint, folder)
    page = show_page(qtbot, context)
    for model in (parts[0], folder):
        page.select(str(model))
        before = {path: path.read_bytes() for path in own.parent.rglob("*") if path.is_file()}
        click(page.details.remove_button)
        with qtbot.waitSignal(page.scanned):
            answer(page, remove=True)
        assert not model.exists()
        with qtbot.waitSignal(page.scanned):
            click(page.toast.undo_button)
        after = {path: path.read_bytes() for path in own.parent.rglob("*") if path.is_file()}
        assert after == before


def test_what_took_the_place_meanwhile_is_not_written_over(
    qtbot: QtBot, context: AppContext, own: Path, trash: Path
) -> None:
    page = show_page(qtbot, context)
    click(page.details.remove_button)
    with qtbot.waitSignal(page.scanned):
        answer(page, remove=True)
    own.write_bytes(b"another")

    with qtbot.waitSignal(page.scanned):
        click(page.toast.undo_button)

    assert own.read_bytes() == b"another"
    assert [path.name for path in trash.rglob("*.gguf")] == [own.name]
    assert "by now" in problems(page)[0].error.message


def test_where_there_is_no_trash_nothing_is_deleted(
    qtbot: QtBot, context: AppContext, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(QFile):
        def moveToTrash(self) -> bool:
            return False

    monkeypatch.setattr("app.models.trash.QFile", Full)
    page = show_page(qtbot, context)

    click(page.details.remove_button)
    with qtbot.waitSignal(page.scanned):
        answer(page, remove=True)

    assert own.exists() and names(page) == [own.name]
    assert "trash" in problems(page)[0].error.message


def test_a_broken_file_shows_its_reason_and_cannot_be_chatted_with(
    qtbot: QtBot, context: AppContext, own: Path
) -> None:
    own.write_bytes(own.read_bytes()[:5000])
    page = show_page(qtbot, context)

    (row,) = own_rows(page)
    page.select(row.entry.path)
    assert row.entry.summary is None and row.entry.problem
    assert not page.details.chat_button.isVisible()
    assert page.details.remove_button.isVisible()


def test_every_control_has_an_accessible_name(qtbot: QtBot, context: AppContext, own: Path) -> None:
    page = show_page(qtbot, context)

    for control in page.findChildren(QWidget):
        if control.focusPolicy() & Qt.FocusPolicy.TabFocus and control.isVisible():
            text = control.text() if hasattr(control, "text") else ""
            assert control.accessibleName() or text, control


def test_details_tell_what_is_known(qtbot: QtBot, context: AppContext, own: Path) -> None:
    page = show_page(qtbot, context)
    (row,) = own_rows(page)
    summary = row.entry.summary
    assert summary

    shown = {label.accessibleName() for label in page.details.findChildren(QWidget)}

    assert isinstance(page.details, Details)
    for fact in (
        f"Architecture: {summary.architecture}",
        f"Layers: {summary.n_layers}",
        f"Context: {summary.n_ctx_train:,} tokens",
        f"Vocabulary: {summary.n_vocab:,} tokens",
        f"Path: {own}",
    ):
        assert fact in shown


def test_what_shrinking_cost_is_told_and_goes_with_the_model(
    qtbot: QtBot, context: AppContext, own: Path, trash: Path
) -> None:
    size_bytes = own.stat().st_size
    report = msgspec.structs.replace(REPORT, model=own.name, size_bytes=size_bytes)
    write_report(report, own)
    page = show_page(qtbot, context)
    page.select(str(own))
    _, quality = page.details._lines["Quality"]
    qtbot.waitUntil(quality.isVisible)
    assert quality.text() == "Very close: 93.0% same top token, 6 of 7 probes kept"
    assert "99.9 % below 2.500" in quality.toolTip()

    click(page.details.remove_button)
    with qtbot.waitSignal(page.scanned):
        answer(page, remove=True)
    assert not own.exists() and not report_path(own).exists()
    with qtbot.waitSignal(page.scanned):
        click(page.toast.undo_button)
    kept = read_report(own)
    assert kept is not None and kept.quality == report.quality


class FileBrowser(QObject):
    """Stands in for the desktop's file browser."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []

    @Slot(QUrl)
    def show_url(self, url: QUrl) -> None:
        self.opened.append(url.toLocalFile())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the file browser is a program")
def test_show_in_folder_opens_the_folder(qtbot: QtBot, context: AppContext, own: Path) -> None:
    page = show_page(qtbot, context)
    browser = FileBrowser()
    # PySide6 takes a str where its stub says bytes.
    QDesktopServices.setUrlHandler("file", browser, "show_url")  # type: ignore[arg-type]
    try:
        click(page.details.reveal_button)
    finally:
        QDesktopServices.unsetUrlHandler("file")

    assert browser.opened == [str(own.parent)]


def test_leftovers_of_an_interrupted_job_can_be_discarded(
    qtbot: QtBot, context: AppContext, own: Path
) -> None:
    partial = own.with_name("Half.gguf.partial")
    partial.write_bytes(b"x" * 5000)
    page = show_page(qtbot, context)

    assert page.leftovers.isVisible()
    with qtbot.waitSignal(page.scanned):
        click(page.leftovers.lines[0].discard_button)

    assert not partial.exists() and own.exists()
    assert not page.leftovers.isVisible()


def test_an_unfinished_shrink_can_go_on(
    qtbot: QtBot, context: AppContext, own: Path, tiny_gguf: Path
) -> None:
    out = own.with_name("Small.gguf")
    note = pause(Shrink(str(tiny_gguf), str(out), "Q4_K_M", 1), 0.5)
    page = show_page(qtbot, context)
    (line,) = page.leftovers.lines
    sizes = f"{format_bytes(note.done_bytes)} of {format_bytes(note.size_bytes)}"
    assert line.words.text() == f"Unfinished shrink: {tiny_gguf.name} to Q4_K_M, {sizes}."

    click(line.resume_button)

    (task,) = context.tasks.listed
    assert task.title == "Shrinking to Small.gguf" and not page.leftovers.isVisible()
    qtbot.waitUntil(lambda: task.is_over and len(own_rows(page)) == 2, timeout=60_000)
    assert task.state == TaskState.SUCCEEDED and out.stat().st_size == note.size_bytes
    assert sorted(path.name for path in own.parent.iterdir()) == [out.name, own.name]
    assert not page.leftovers.isVisible()


def test_an_unfinished_shrink_can_be_discarded(
    qtbot: QtBot, context: AppContext, own: Path, tiny_gguf: Path
) -> None:
    pause(Shrink(str(tiny_gguf), str(own.with_name("Small.gguf")), "Q4_K_M", 1), 0.5)
    page = show_page(qtbot, context)
    with qtbot.waitSignal(page.scanned):
        click(page.leftovers.lines[0].discard_button)
    assert list(own.parent.iterdir()) == [own]
    assert not page.leftovers.isVisible()


def test_an_unfinished_shrink_of_what_is_gone_says_so_and_stays(
    qtbot: QtBot, context: AppContext, own: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    source = Path(shutil.copy(tiny_gguf, tmp_path / "Gone.gguf"))
    pause(Shrink(str(source), str(own.with_name("Small.gguf")), "Q4_K_M", 1), 0.5)
    source.unlink()
    page = show_page(qtbot, context)
    click(page.leftovers.lines[0].resume_button)
    (task,) = context.tasks.listed
    qtbot.waitUntil(lambda: task.is_over, timeout=60_000)
    assert isinstance(task.error, NotFound)
    qtbot.waitUntil(page.leftovers.isVisible, timeout=60_000)


def test_nothing_goes_on_in_a_folder_that_moves(
    qtbot: QtBot, context: AppContext, own: Path, tiny_gguf: Path, tmp_path: Path
) -> None:
    pause(Shrink(str(tiny_gguf), str(own.with_name("Small.gguf")), "Q4_K_M", 1), 0.5)
    page = show_page(qtbot, context)
    folder, file = context.settings.value.models_folder, str(context.settings.path)
    move = context.tasks.start(MoveModels(folder, str(tmp_path / "new"), file), "Move", "disk")
    click(page.leftovers.lines[0].resume_button)
    (problem,) = problems(page)
    assert "being moved" in problem.error.message and context.tasks.listed == [move]
    qtbot.waitUntil(lambda: move.is_over, timeout=60_000)
    context.settings.refresh()
    moved = tmp_path / "new" / "Small.gguf"
    with qtbot.waitSignal(page.scanned):
        page.refresh()
    qtbot.waitUntil(page.leftovers.lines[0].isVisible)
    click(page.leftovers.lines[0].resume_button)
    qtbot.waitUntil(moved.exists, timeout=60_000)
    qtbot.waitUntil(lambda: not context.tasks.active, timeout=60_000)


def test_discarding_never_holds_the_window_up(
    qtbot: QtBot, context: AppContext, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging = own.parent / f"{STAGING}big"
    staging.mkdir()
    os.utime(staging, (1, 1))
    threads = []
    real_rmtree = shutil.rmtree

    def rmtree(path: Path, *, ignore_errors: bool = False) -> None:
        threads.append(threading.current_thread())
        real_rmtree(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    page = show_page(qtbot, context)
    with qtbot.waitSignal(page.scanned):
        click(page.leftovers.lines[0].discard_button)

    assert not staging.exists()
    assert threads and threads[0] is not threading.main_thread()


def test_the_foot_says_what_snug_takes_of_the_disk(
    qtbot: QtBot, context: AppContext, own: Path, tiny_gguf: Path
) -> None:
    context.settings.update(added_models=(str(tiny_gguf),))
    page = show_page(qtbot, context)
    words = page.shelf.foot.words.text()
    assert words.startswith(f"Models folder: {format_bytes(own.stat().st_size)} · ")
    assert words.endswith(" free on its disk")


def test_copies_are_shown_beside_each_other_until_one_is_removed(
    qtbot: QtBot, context: AppContext, own: Path, tiny_gguf: Path, trash: Path
) -> None:
    other = own.with_name("Other.gguf")
    other.write_bytes(own.read_bytes() + bytes(32))
    context.settings.update(added_models=(str(tiny_gguf),))
    page = show_page(qtbot, context)

    with qtbot.waitSignal(page.shelf.foot.arranged, timeout=30_000):
        click(page.shelf.foot.find_button)

    size = format_bytes(own.stat().st_size)
    assert page.shelf.foot.words.text() == f"More copies of 1 model take {size}."
    assert {row.entry.path for row in page.shelf.rows} == {str(own), str(tiny_gguf)}
    shown = {row.data(Qt.ItemDataRole.AccessibleTextRole) for row in indexes(page)}
    assert any("Models folder" in text for text in shown)
    assert any("Added" in text and str(tiny_gguf) in text for text in shown)

    page.select(str(own))
    click(page.details.remove_button)
    with qtbot.waitSignal(page.scanned):
        answer(page, remove=True)
    assert set(names(page)) == {other.name, tiny_gguf.name}, "all are shown again"
    assert page.shelf.foot.find_button.isVisible() and not own.exists()


def test_show_all_leaves_the_copies(
    qtbot: QtBot, context: AppContext, own: Path, tiny_gguf: Path
) -> None:
    other = own.with_name("Other.gguf")
    other.write_bytes(own.read_bytes() + bytes(32))
    page = show_page(qtbot, context)
    with qtbot.waitSignal(page.shelf.foot.arranged, timeout=30_000):
        click(page.shelf.foot.find_button)
    assert page.shelf.foot.words.text() == "No model is here twice."
    assert set(names(page)) == {own.name, other.name}

    with qtbot.waitSignal(page.scanned):
        page.add([str(tiny_gguf)])
    with qtbot.waitSignal(page.shelf.foot.arranged, timeout=30_000):
        click(page.shelf.foot.find_button)
    assert set(names(page)) == {own.name, tiny_gguf.name}
    click(page.shelf.foot.all_button)
    assert set(names(page)) == {own.name, other.name, tiny_gguf.name}
