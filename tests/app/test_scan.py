"""The window's looks through the library, by real worker processes and some that go wrong."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest
from pytestqt.qtbot import QtBot

from app.context import AppContext
from app.models.model_list import ROW_ROLE
from app.models.page import ModelsPage
from app.models.scan import Shelf
from app.shrink.source import SourceCard
from app.tasks import StartWorker, start_worker
from engine.client import Worker
from engine.errors import EngineError
from engine.ggml_types import GgmlType
from engine.library import Library
from tests.helpers.gestures import problems
from tests.helpers.headers import Sizes, header

PATIENCE_MS = 30_000
FAKE = Path(__file__).parents[1] / "helpers" / "fake_worker.py"
SMALL = Sizes(2, 64, 128, 4, 4, 16, 100)


def fake(mode: str, on_exit: Callable[[EngineError | None], None]) -> Worker:
    return Worker.start(on_exit, command=[sys.executable, str(FAKE), mode])


def in_turn(*starts: StartWorker) -> StartWorker:
    """Starts workers by each of `starts`, one after the other."""
    left = iter(starts)

    def start(on_exit: Callable[[EngineError | None], None]) -> Worker:
        return next(left)(on_exit)

    return start


@pytest.fixture
def folder(context: AppContext) -> Path:
    """The models folder, with two models."""
    folder = Path(context.settings.value.models_folder)
    for name in ("One.gguf", "Two.gguf"):
        header("llama", GgmlType.F16, SMALL).write_sparse(folder / name)
    return folder


@pytest.fixture
def page(qtbot: QtBot, context: AppContext, folder: Path) -> ModelsPage:
    """Not shown yet."""
    page = ModelsPage(context)
    qtbot.addWidget(page)
    page.resize(900, 600)
    return page


def look(qtbot: QtBot, page: ModelsPage) -> None:
    """Show the page, or have it look again, until the scan has ended."""
    scan = page._context.scan
    page.refresh() if page.isVisible() else page.show()
    qtbot.waitUntil(lambda: not scan.is_running, timeout=PATIENCE_MS)


def names(page: ModelsPage) -> list[str]:
    return [Path(row.entry.path).name for row in page.shelf.rows if not row.entry.is_starter]


def test_the_page_shows_what_the_library_lists(
    qtbot: QtBot, context: AppContext, page: ModelsPage, folder: Path, tiny_checkpoint: Path
) -> None:
    shutil.copytree(tiny_checkpoint, folder / "Checkpoint")
    (folder / "broken.gguf").write_bytes(b"GGUF")
    gone = str(folder.parent / "gone.gguf")
    context.settings.update(added_models=(gone,))
    look(qtbot, page)

    library = Library(folder, (gone,))
    entries = library.scan()
    shown = [row for row in page.shelf.rows if not row.entry.is_starter]
    assert [row.entry for row in shown] == list(entries)
    assert [row.estimate for row in shown] == [library.estimate(entry) for entry in entries]


def test_a_look_leaves_alone_what_has_not_changed(
    qtbot: QtBot, context: AppContext, page: ModelsPage, folder: Path
) -> None:
    look(qtbot, page)
    first = context.shelf
    (folder / "Two.gguf").unlink()
    look(qtbot, page)
    assert first and context.shelf and len(context.shelf.models) == len(first.models) - 1
    assert all(first.models[digest] is now for digest, now in context.shelf.models.items())


def test_asked_while_at_it_it_looks_once_more(
    qtbot: QtBot, context: AppContext, page: ModelsPage, folder: Path
) -> None:
    look(qtbot, page)
    shelves: list[Shelf] = []
    context.scan.found.connect(shelves.append)
    context.scan.start()
    header("llama", GgmlType.F16, SMALL).write_sparse(folder / "Late.gguf")
    for _ in range(3):
        context.scan.start()
    qtbot.waitUntil(lambda: not context.scan.is_running, timeout=PATIENCE_MS)
    assert names(page) == ["Late.gguf", "One.gguf", "Two.gguf"]
    assert len(shelves) == 1, "what is older than the last request is not shown"


def test_the_next_start_shows_at_once_what_the_last_one_found(
    qtbot: QtBot, context: AppContext, page: ModelsPage, folder: Path
) -> None:
    look(qtbot, page)
    (folder / "One.gguf").unlink()
    later = AppContext()
    later.scan._start_worker = partial(fake, "deaf")  # it never answers
    page = ModelsPage(later)
    qtbot.addWidget(page)
    with qtbot.waitSignal(page.scanned, timeout=PATIENCE_MS):
        page.show()
    assert names(page) == ["One.gguf", "Two.gguf"]
    assert page.shelf.foot.words.text() == "" and later.scan.is_running

    process = later.scan._worker
    assert process
    later.scan._start_worker = start_worker
    psutil.Process(process.pid).kill()
    qtbot.waitUntil(lambda: not later.scan.is_running, timeout=PATIENCE_MS)
    assert names(page) == ["Two.gguf"]
    assert page.shelf.foot.words.text().startswith("Models folder: ")
    later.shutdown()


def test_a_worker_that_died_between_two_looks_is_replaced(
    qtbot: QtBot, page: ModelsPage, folder: Path
) -> None:
    look(qtbot, page)
    scan = page._context.scan
    assert scan._worker
    old = psutil.Process(scan._worker.pid)
    old.kill()
    old.wait()
    (folder / "Two.gguf").unlink()
    look(qtbot, page)
    assert names(page) == ["One.gguf"] and problems(page) == []
    assert scan._worker.pid != old.pid


@pytest.mark.parametrize("mode", ["kill", "abort", "out-of-memory"])
def test_a_worker_that_dies_once_is_not_told(
    qtbot: QtBot, context: AppContext, page: ModelsPage, mode: str
) -> None:
    context.scan._start_worker = in_turn(partial(fake, mode), start_worker)
    look(qtbot, page)
    assert names(page) == ["One.gguf", "Two.gguf"] and problems(page) == []


def test_a_worker_that_dies_again_is_told_until_a_look_succeeds(
    qtbot: QtBot, context: AppContext, page: ModelsPage
) -> None:
    dying = partial(fake, "kill")
    context.scan._start_worker = in_turn(dying, dying, dying, dying, start_worker)
    for _ in range(2):
        look(qtbot, page)
        (card,) = problems(page)
        assert "stopped twice" in card.error.message and card.error.hint and card.error.details
        assert page._sum.text() == "The models could not be looked for"
    look(qtbot, page)
    assert names(page) == ["One.gguf", "Two.gguf"] and problems(page) == []


def test_a_worker_that_cannot_be_started_is_told(
    qtbot: QtBot, context: AppContext, page: ModelsPage
) -> None:
    def refuse(_on_exit: Callable[[EngineError | None], None]) -> Worker:
        raise OSError(12, "Cannot allocate memory")

    context.scan._start_worker = in_turn(refuse, start_worker)
    look(qtbot, page)
    (card,) = problems(page)
    assert card.error.message == "The engine could not be started."
    look(qtbot, page)
    assert names(page) == ["One.gguf", "Two.gguf"] and problems(page) == []


def test_what_it_read_when_it_died_is_named(
    qtbot: QtBot, context: AppContext, page: ModelsPage, folder: Path
) -> None:
    """No file is known that ends the reader, so the reader is ended while it waits for one."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("needs a file whose opening hangs")
    os.mkfifo(folder / "model.json")
    killed: list[int] = []
    page.show()
    scan = context.scan

    def kill_reader() -> bool:
        worker = scan._worker
        is_reading = scan._stage.startswith("Reading One.gguf")
        if worker and worker.pid not in killed and is_reading:
            killed.append(worker.pid)
            psutil.Process(worker.pid).kill()
        return not scan.is_running

    qtbot.waitUntil(kill_reader, timeout=PATIENCE_MS)
    (card,) = problems(page)
    assert len(killed) == 2 and card.error.hint.startswith("Reading One.gguf was the last")


def test_closing_in_the_middle_of_a_look_ends_it(
    qtbot: QtBot, context: AppContext, page: ModelsPage, folder: Path
) -> None:
    large = header("qwen3").write_sparse(folder / "0.gguf")
    for number in range(1, 60):
        os.link(large, folder / f"{number}.gguf")
    page.show()
    qtbot.waitUntil(lambda: bool(context.scan._stage), timeout=PATIENCE_MS)
    assert context.scan._worker
    process = psutil.Process(context.scan._worker.pid)
    context.shutdown()
    psutil.wait_procs([process], timeout=PATIENCE_MS / 1000)
    assert not process.is_running()
    assert (context.folders.cache / "models.msgpack").exists(), "what was read is known"
    context.scan.start()  # a timer of a page goes off
    qtbot.wait(50)
    assert page.shelf.rows == ()


def test_the_list_stays_where_it_was_scrolled_to(
    qtbot: QtBot, context: AppContext, page: ModelsPage, folder: Path
) -> None:
    for number in range(40):
        header("llama", GgmlType.F16, SMALL).write_sparse(folder / f"m{number:02}.gguf")
    look(qtbot, page)
    page.select(str(folder / "m00.gguf"))
    bar = page.shelf.view.verticalScrollBar()
    bar.setValue(bar.maximum() // 2)
    at = bar.value()
    header("llama", GgmlType.F16, SMALL).write_sparse(folder / "zz.gguf")
    look(qtbot, page)
    assert "zz.gguf" in names(page) and bar.value() == at > 0
    assert page.shelf.view.currentIndex().data(ROW_ROLE).entry.path == str(folder / "m00.gguf")

    (folder / "m00.gguf").unlink()
    look(qtbot, page)
    assert page.shelf.view.currentIndex().data(ROW_ROLE).entry.path == str(folder / "m01.gguf")


def test_where_the_source_is_gone_none_is_chosen_in_its_place(
    qtbot: QtBot, context: AppContext, page: ModelsPage, folder: Path
) -> None:
    look(qtbot, page)
    card = SourceCard()
    qtbot.addWidget(card)
    chosen: list[str] = []
    card.chosen.connect(chosen.append)
    assert context.shelf
    card.show_shelf(context.shelf)
    card.view.setCurrentIndex(card.view.model().index(0, 0))
    assert chosen == [str(folder / "One.gguf")]
    (folder / "One.gguf").unlink()
    look(qtbot, page)
    card.show_shelf(context.shelf)
    assert chosen == [str(folder / "One.gguf")]
    assert not card.view.currentIndex().isValid()
    card.view.setCurrentIndex(card.view.model().index(0, 0))
    assert chosen[-1] == str(folder / "Two.gguf")
