"""Discover with a real server: searching, choosing, downloading, and what goes wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from random import randbytes

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QWidget
from pytestqt.qtbot import QtBot

from app.chat.blocks import BlockColumn
from app.context import AppContext
from app.discover.offer import MAX_BLOCKS, MAX_VARIANTS
from app.discover.page import DiscoverPage
from app.models.model_list import ROW_ROLE
from app.models.page import ModelsPage
from app.tasks import Task, TaskState
from engine.errors import AccessDenied
from engine.hub.download import BETWEEN_FILES_S, Download
from tests.helpers.fake_hub import FakeHub, Fault, Repo, fake_hub
from tests.helpers.gestures import click, problems


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tiny_gguf: Path) -> Iterator[FakeHub]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    data = tiny_gguf.read_bytes()
    with fake_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.repos["ann/Tiny-GGUF"] = Repo(
            {"Tiny-Q4_K_M.gguf": data, "Tiny-Q8_0.gguf": data + bytes(32), "README.md": b"# Tiny"},
            tags=("gguf", "license:mit"),
            extra={"gguf": {"total": 1_000_000}, "downloads": 7},
        )
        hub.repos["bob/Secret"] = Repo(
            {"s-Q4_0.gguf": data}, tags=("gguf",), token="sesame", extra={"downloads": 3}
        )
        yield hub


@pytest.fixture
def page(qtbot: QtBot, context: AppContext) -> DiscoverPage:
    page = DiscoverPage(context)
    qtbot.addWidget(page)
    page.resize(1000, 700)
    with qtbot.waitExposed(page):
        page.show()
    return page


def titles(page: DiscoverPage) -> list[str]:
    model = page.view.model()
    return [model.index(i, 0).data() for i in range(model.rowCount())]


def search(qtbot: QtBot, page: DiscoverPage, text: str) -> None:
    before = page.view.model().rowCount()
    page.field.setText(text)
    # A worker is started for the question.
    qtbot.waitUntil(lambda: page.view.model().rowCount() not in (0, before), timeout=30_000)


def choose(qtbot: QtBot, page: DiscoverPage, title: str) -> None:
    page.view.setCurrentIndex(page.view.model().index(titles(page).index(title), 0))
    # A row is there before Qt shows it, which it does with the next event.
    offer = page.offer
    qtbot.waitUntil(lambda: any(line.isVisible() for line in offer.rows), timeout=10_000)


def words_of(widget: QWidget) -> set[str]:
    return {label.text() for label in widget.findChildren(QLabel) if label.isVisible()}


def ended(qtbot: QtBot, task: Task) -> TaskState:
    qtbot.waitUntil(lambda: task.is_over, timeout=20_000)
    return task.state


def test_at_first_there_are_picks_and_no_question_to_the_network(
    page: DiscoverPage, hub: FakeHub
) -> None:
    assert "Qwen3 0.6B" in titles(page)
    offers = [page.view.model().index(i, 0).data(ROW_ROLE) for i in range(len(titles(page)))]
    assert [o.n_params for o in offers] == sorted(o.n_params for o in offers)
    assert all(offer.about and offer.license for offer in offers)
    assert not hub.searches


def test_typing_searches_and_clearing_brings_the_picks_back(
    qtbot: QtBot, page: DiscoverPage, hub: FakeHub
) -> None:
    picks = titles(page)
    search(qtbot, page, "tiny")
    assert titles(page) == ["Tiny-GGUF"]
    assert hub.searches[-1]["search"] == ["tiny"]
    page.field.clear()
    qtbot.waitUntil(lambda: titles(page) == picks)


def test_filters_are_asked_of_the_hub(qtbot: QtBot, page: DiscoverPage, hub: FakeHub) -> None:
    page.licence.setCurrentIndex(page.licence.findData("mit"))
    qtbot.waitUntil(lambda: titles(page) == ["Tiny-GGUF"], timeout=30_000)
    page.sort.setCurrentIndex(page.sort.findData("likes"))
    qtbot.waitUntil(lambda: hub.searches[-1]["sort"] == ["likes"])
    assert hub.searches[-1]["filter"] == ["license:mit"]


def test_only_what_fits_is_shown_where_that_is_asked(
    qtbot: QtBot, page: DiscoverPage, hub: FakeHub
) -> None:
    n_picks = len(titles(page))
    hub.repos["ann/Tiny-Giant"] = Repo({}, extra={"gguf": {"total": 10**13}})
    hub.repos["ann/Tiny-Nameless"] = Repo({})
    search(qtbot, page, "tiny")
    assert set(titles(page)) == {"Tiny-GGUF", "Tiny-Giant", "Tiny-Nameless"}
    click(page.fits)
    qtbot.waitUntil(lambda: titles(page) == ["Tiny-GGUF"], timeout=30_000)
    assert page.heading.text() == "1 model · 1 too large and 1 of unknown size are left out"
    page.field.setText("nameless")
    qtbot.waitUntil(lambda: titles(page) == [], timeout=30_000)
    assert page.heading.text() == "Nothing fits: 1 of unknown size is left out."
    page._usable_bytes = 3_000_000_000
    page.field.clear()
    qtbot.waitUntil(lambda: 0 < len(titles(page)) < n_picks)


def test_what_can_be_had_is_told_in_words_and_downloaded(
    qtbot: QtBot, page: DiscoverPage, hub: FakeHub, context: AppContext
) -> None:
    search(qtbot, page, "tiny")
    choose(qtbot, page, "Tiny-GGUF")
    balanced, large = page.offer.rows
    assert {"Balanced", "Fits"} <= words_of(balanced)
    click(balanced.button)
    (task,) = context.tasks.listed
    assert balanced.button.text() == "Pause"
    assert ended(qtbot, task) == TaskState.SUCCEEDED
    assert balanced.button.text() == "Chat" and large.button.text() == "Download"
    assert "On this computer" in words_of(balanced)
    with qtbot.waitSignal(page.chat_requested) as asked:
        click(balanced.button)
    assert asked.args == [task.result.path]
    assert (
        Path(task.result.path).read_bytes() == hub.repos["ann/Tiny-GGUF"].files["Tiny-Q4_K_M.gguf"]
    )


def fetch(context: AppContext, file: str, *, n_bytes: int = 0) -> Path:
    """Download a file of Tiny, or as much of it, as in an earlier session; returns its folder."""
    folder = Path(context.settings.value.models_folder)
    job = Download("ann/Tiny-GGUF", str(folder), file, bytes_per_second=n_bytes)
    steps = job.run()
    for step in steps:
        if step.done and n_bytes:
            break
    steps.close()
    return folder / "ann" / "Tiny-GGUF"


def test_after_a_restart_it_is_known_what_is_here(
    qtbot: QtBot, page: DiscoverPage, hub: FakeHub, context: AppContext
) -> None:
    files = hub.repos["ann/Tiny-GGUF"].files
    files["Tiny-Q6_K.gguf"] = files["Tiny-Q4_K_M.gguf"] + bytes(16)
    files["Tiny-Q5_K_M.gguf"] = randbytes(2_000_000)
    for whole in ("Tiny-Q4_K_M.gguf", "Tiny-Q6_K.gguf"):
        home = fetch(context, whole)
    fetch(context, "Tiny-Q5_K_M.gguf", n_bytes=1_000_000)
    files["Tiny-Q6_K.gguf"] += bytes(16)
    files["README.md"] += b", revised"
    hub.repos["ann/Tiny-GGUF"].revision = "1" * 40
    time.sleep(BETWEEN_FILES_S)
    search(qtbot, page, "tiny")
    choose(qtbot, page, "Tiny-GGUF")
    line = {line.variant.label: line for line in page.offer.rows}
    assert {label: line[label].button.text() for label in line} == {
        "Q4_K_M": "Chat",
        "Q8_0": "Download",
        "Q6_K": "Chat",
        "Q5_K_M": "Resume",
    }
    assert "On this computer" in words_of(line["Q4_K_M"])
    assert "Newer version on the hub" in words_of(line["Q6_K"])
    assert any(words.endswith("of it here") for words in words_of(line["Q5_K_M"]))
    click(line["Q5_K_M"].button)
    (task,) = context.tasks.listed
    assert isinstance(task.job, Download)
    assert task.job.revision == "0" * 40  # what has arrived is of that one
    assert ended(qtbot, task) == TaskState.SUCCEEDED
    assert line["Q5_K_M"].button.text() == "Chat"
    with qtbot.waitSignal(page.chat_requested) as asked:
        click(line["Q6_K"].button)
    assert asked.args == [str(home / "Tiny-Q6_K.gguf")]
    # What is removed elsewhere is to be had again.
    page.hide()
    (home / "Tiny-Q4_K_M.gguf").unlink()
    (home / "Tiny-Q5_K_M.gguf").unlink()
    page.show()
    gone = [line["Q4_K_M"].button, line["Q5_K_M"].button]
    qtbot.waitUntil(lambda: [b.text() for b in gone] == ["Download"] * 2, timeout=10_000)
    assert line["Q6_K"].button.text() == "Chat"


def test_what_the_best_one_takes_is_told_before_it_is_here(
    qtbot: QtBot, page: DiscoverPage, hub: FakeHub, context: AppContext
) -> None:
    search(qtbot, page, "tiny")
    hub.requests.clear()
    hub.n_body_bytes = 0
    choose(qtbot, page, "Tiny-GGUF")
    balanced, large = page.offer.rows
    assert words_of(large) >= {"Checking what it takes"} and balanced.verdict.isHidden()
    qtbot.waitUntil(lambda: large.verdict.text().endswith("per second."), timeout=20_000)
    assert large.verdict.text().startswith("Runs on the processor: ")
    assert large.button.accessibleDescription() == large.verdict.text()
    assert {name for _, name, _ in hub.requests} == {"README.md", "Tiny-Q8_0.gguf"}
    assert hub.n_body_bytes < 1.1 * (1 << 20)
    click(balanced)
    assert large.verdict.isHidden()
    qtbot.waitUntil(lambda: balanced.verdict.text().endswith("per second."), timeout=20_000)
    with qtbot.waitActive(page):
        page.activateWindow()
    large.button.setFocus(Qt.FocusReason.TabFocusReason)
    qtbot.waitUntil(lambda: large.verdict.text().endswith("per second."), timeout=20_000)
    assert not context.tasks.listed


def test_a_question_that_nobody_waits_for_is_cancelled(
    qtbot: QtBot, page: DiscoverPage, hub: FakeHub
) -> None:
    search(qtbot, page, "tiny")
    choose(qtbot, page, "Tiny-GGUF")
    balanced, large = page.offer.rows
    hub.faults = [Fault("stall", at=8, seconds=3)]
    check = page.offer.fit_check
    qtbot.waitUntil(lambda: check.question is not None, timeout=10_000)
    first = check.question
    qtbot.waitUntil(lambda: not hub.faults, timeout=10_000)
    click(balanced)
    qtbot.waitUntil(lambda: balanced.verdict.text().endswith("per second."), timeout=20_000)
    assert first and ended(qtbot, first) == TaskState.CANCELLED
    assert large.verdict.isHidden()


def test_without_an_exact_answer_the_estimate_stands(
    qtbot: QtBot, page: DiscoverPage, hub: FakeHub
) -> None:
    del hub.repos["ann/Tiny-GGUF"].files["README.md"]
    hub.faults = [Fault("status", status=416, times=9)]
    search(qtbot, page, "tiny")
    choose(qtbot, page, "Tiny-GGUF")
    large = page.offer.rows[1]
    assert not large.verdict.isHidden()
    qtbot.waitUntil(large.verdict.isHidden, timeout=20_000)
    assert "Fits" in words_of(large) and not problems(page)


def test_a_paused_download_goes_on_from_its_row(
    qtbot: QtBot, page: DiscoverPage, hub: FakeHub, context: AppContext
) -> None:
    hub.repos["ann/Tiny-GGUF"].files["Tiny-Q8_0.gguf"] = randbytes(3_000_000)
    context.settings.update(download_limit=2_000_000)
    search(qtbot, page, "tiny")
    choose(qtbot, page, "Tiny-GGUF")
    large = page.offer.rows[1]
    click(large.button)
    (task,) = context.tasks.listed
    qtbot.waitUntil(lambda: bool(task.pace.fraction), timeout=10_000)
    assert any("%" in words for words in words_of(large))
    click(large.button)
    qtbot.waitUntil(lambda: large.button.text() == "Resume", timeout=10_000)
    # Nor is it something that nobody cares for, to be resumed a second time or discarded.
    time.sleep(BETWEEN_FILES_S)
    shelf = ModelsPage(context)
    qtbot.addWidget(shelf)
    with qtbot.waitSignal(shelf.scanned):
        shelf.show()
    assert not shelf.leftovers.isVisible()
    click(large.button)
    assert context.tasks.listed == [task]
    assert ended(qtbot, task) == TaskState.SUCCEEDED and large.button.text() == "Chat"


def test_a_card_of_thousands_of_parts_is_cut(
    qtbot: QtBot, page: DiscoverPage, hub: FakeHub
) -> None:
    files = hub.repos["ann/Tiny-GGUF"].files
    files["README.md"] = b"a\n\n---\n\n" * 4000
    files |= {f"Tiny-{i}.gguf": b"x" for i in range(300)}
    search(qtbot, page, "tiny")
    choose(qtbot, page, "Tiny-GGUF")
    (card,) = page.offer.findChildren(BlockColumn)
    layout = card.layout()
    assert layout and 0 < layout.count() <= MAX_BLOCKS
    assert len(page.offer.rows) == MAX_VARIANTS


def test_a_gated_model_says_what_to_do(
    qtbot: QtBot, page: DiscoverPage, hub: FakeHub, context: AppContext
) -> None:
    search(qtbot, page, "secret")
    choose(qtbot, page, "Secret")
    words = " ".join(label.text() for label in page.offer.findChildren(QLabel))
    assert "accept terms" in words
    (only,) = page.offer.rows
    click(only.button)
    (task,) = context.tasks.listed
    assert ended(qtbot, task) == TaskState.FAILED
    assert isinstance(task.error, AccessDenied) and only.button.text() == "Try again"


def test_without_a_network_it_says_so_and_can_be_tried_again(
    qtbot: QtBot, page: DiscoverPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    page.field.setText("tiny")
    qtbot.waitUntil(lambda: bool(problems(page)), timeout=10_000)
    assert "cannot be reached" in " ".join(
        label.text() for card in problems(page) for label in card.findChildren(QLabel)
    )


def test_offline_nothing_is_asked(
    qtbot: QtBot, page: DiscoverPage, hub: FakeHub, context: AppContext
) -> None:
    context.settings.update(is_offline=True)
    page.field.setText("tiny")
    qtbot.waitUntil(lambda: bool(problems(page)), timeout=10_000)
    assert not hub.searches


def test_an_unfinished_download_goes_on_from_the_models_page(
    qtbot: QtBot, hub: FakeHub, context: AppContext
) -> None:
    hub.repos["ann/Tiny-GGUF"].files["Tiny-Q8_0.gguf"] = randbytes(2_000_000)
    fetch(context, "Tiny-Q8_0.gguf", n_bytes=1_000_000)
    time.sleep(BETWEEN_FILES_S)
    page = ModelsPage(context)
    qtbot.addWidget(page)
    page.resize(1000, 700)
    with qtbot.waitSignal(page.scanned):
        page.show()
    (line,) = page.leftovers.lines
    assert "Tiny-GGUF" in line.words.text()
    click(line.resume_button)
    (task,) = context.tasks.listed
    assert ended(qtbot, task) == TaskState.SUCCEEDED
    qtbot.waitUntil(lambda: any("Q8_0" in row.entry.path for row in page.shelf.rows))
    qtbot.waitUntil(lambda: not page.leftovers.isVisible())
