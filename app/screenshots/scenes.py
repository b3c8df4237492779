"""The scenes: each brings the window into a state and has its picture taken."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import msgspec
from PySide6.QtCore import QSize
from PySide6.QtWidgets import QApplication

from app import theme
from app.context import AppContext
from app.jobs_panel import JobsPanel
from app.preferences.models_folder import MoveDialog
from app.screenshots import talk
from app.screenshots.models import HUGE, LARGE, MEDIUM, SMALL, TINY, write_empty_model
from app.screenshots.quality import report_on
from app.shrink.report_dialog import ReportDialog
from app.tasks import TaskState
from app.window import Window
from engine import starter
from engine.errors import CorruptFile, EngineError, WorkerCrashed
from engine.folders import Folders
from engine.hub.download import Download
from engine.jobs import Progress
from engine.partial import Note, note_of, partial_of
from engine.quantize.shrink import Shrink

WIDE = QSize(1280, 800)
SMALL_TALK = (starter.SAMPLE_QUESTION, "Who are you?", "Write Python code that reverses a text")
NARROW = QSize(900, 600)
PATIENCE_S = 30.0
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


class Stage:
    """A window with a home of its own, and the folder the pictures go to."""

    def __init__(self, app: QApplication, home: Path, out: Path) -> None:
        where = Folders(
            home / "config", home / "data", home / "cache", home / "log", home / "models"
        )
        self._app = app
        self._out = out
        self.context = AppContext(where)
        self.context.settings.update(models_folder=str(where.models))
        self.models = where.models

    def open(self) -> None:
        self.window = Window(self.context)
        self.window.resize(WIDE)
        self.window.show()
        self.settle()

    def settle(self, seconds: float = 0.4) -> None:
        """Let timers, scans and layouts come to rest."""
        self.until(lambda: False, seconds, must=False)

    def until(
        self, is_done: Callable[[], object], seconds: float = PATIENCE_S, must: bool = True
    ) -> None:
        end = time.monotonic() + seconds
        while not is_done():
            if time.monotonic() > end:
                assert not must, "the scene did not come about"
                return
            self._app.processEvents()
            time.sleep(0.005)

    def shoot(self, name: str, size: QSize = WIDE, widget: Any = None) -> None:
        """Take `name` in both themes."""
        self.window.resize(size)
        for look in THEMES:
            theme.apply(self._app, look)
            self.settle(0.25)
            (widget or self.window).grab().save(str(self._out / f"{name}-{look}.png"))
        theme.apply(self._app, "light")

    def close(self) -> None:
        for task in self.context.tasks.active:
            task.cancel()
        self.until(lambda: not self.context.tasks.active)
        self.window.close()
        self.settle(0.1)


@contextmanager
def staged(app: QApplication, out: Path) -> Iterator[Stage]:
    with tempfile.TemporaryDirectory(prefix="snug-screenshots-") as home:
        before = os.environ.get("HOME", "")
        os.environ["HOME"] = home  # no picture shows where it was taken
        stage = Stage(app, Path(home), out)
        try:
            yield stage
        finally:
            stage.close()
            os.environ["HOME"] = before


def fill_shelf(models: Path) -> Path:
    """Put models of all sizes into the folder; returns the one that chats."""
    write_empty_model(
        models / "Llama-3.2-3B-Instruct-BF16.gguf", "Llama 3.2 3B Instruct", MEDIUM, "BF16"
    )
    write_empty_model(
        models / "SmolLM2-360M-Q8_0.gguf", "SmolLM2 360M", SMALL, "Q8_0", "apache-2.0"
    )
    write_empty_model(models / "Llama-3.3-70B-Q4_K_M.gguf", "Llama 3.3 70B", HUGE, "Q4_K_M")
    write_empty_model(models / "Tiny-Stories-F16.gguf", "Tiny Stories", TINY, "F16", "mit")
    (models / "cut-off.gguf").write_bytes(b"GGUF\x03\x00\x00\x00\x10")
    return write_empty_model(
        models / "Llama-3.1-8B-Instruct-Q4_K_M.gguf", talk.MODEL_NAME, LARGE, "Q4_K_M", "llama3.1"
    )


def leave_unfinished(models: Path) -> None:
    """Leave what a shrink leaves that was killed, and a file that nothing can go on with."""
    source, out = models / "Llama-3.2-3B-Instruct-BF16.gguf", models / "Llama-3.2-3B-Q4_K_M.gguf"
    note = Note.of(Shrink(str(source), str(out), "Q4_K_M", 2), {}, 2_019_000_000)
    for target, n_bytes in ((out, 1_200_000_000), (models / "Mistral-7B.gguf", 310_000_000)):
        partial_of(target).touch()
        os.truncate(partial_of(target), n_bytes)
    note_of(partial_of(out)).write_bytes(msgspec.json.encode(note))


def first_run(stage: Stage) -> None:
    stage.open()
    stage.settle(1)  # until it knows this computer
    stage.shoot("chat-first-run")
    stage.shoot("chat-first-run-narrow", NARROW)
    stage.window.show_page("models")
    stage.settle()
    stage.shoot("models-starter")
    stage.window.show_page("shrink")
    stage.settle()
    stage.shoot("shrink-starter")
    stage.window.chat_with(str(starter.MODEL))
    chat = stage.window.page("chat")
    stage.until(lambda: chat.session.info is not None)
    stage.shoot("chat-starter")
    for question in SMALL_TALK:
        chat.composer.sent.emit(question)
        stage.until(lambda: chat.session.is_answering)
        stage.until(lambda: not chat.session.is_answering)
    stage.settle()
    stage.shoot("chat-starter-talk")


def chat(stage: Stage) -> None:
    model = fill_shelf(stage.models)
    stage.context.settings.update(last_model=str(model))
    shown = talk.fill(stage.context.store, stage.context.store.path)
    stage.open()
    page = stage.window.page("chat")
    stage.shoot("chat-new")
    _cast(stage, talk.Actor(model, talk.LONG_ANSWER, load_fraction=0.62))
    page.open_model(str(model))
    stage.shoot("chat-loading")
    _cast(stage, talk.Actor(model, talk.LONG_ANSWER))
    page.session.load()
    page.panel.chosen.emit(shown)
    stage.settle()
    stage.shoot("chat-conversation")
    stage.shoot("chat-conversation-narrow", NARROW)
    page.new_chat()
    page.composer.sent.emit("I have one free day in Porto. Is the Douro valley worth it?")
    stage.settle(2.2)
    stage.shoot("chat-streaming")
    page.session.stop()
    stage.settle()
    crash = WorkerCrashed(
        "The engine was killed by the system.",
        hint="Most often memory ran out: use a smaller model or a shorter context.",
        details="exit status -9\nllama_kv_cache: size = 2048.00 MiB",
    )
    _cast(stage, talk.Actor(model, "", error=crash))
    page.session.load()
    stage.settle()
    page.composer.sent.emit("And if it rains?")
    stage.settle()
    stage.shoot("chat-error")


def _cast(stage: Stage, actor: talk.Actor) -> None:
    """Let `actor` play the worker of the chat from its next load on."""
    stage.window.page("chat").session._start_worker = actor.enter


def models(stage: Stage) -> None:
    model = fill_shelf(stage.models)
    stage.open()
    page = stage.window.show_page("models")
    stage.settle(1.0)
    stage.shoot("models")
    page.select(str(model))  # type: ignore[attr-defined]
    stage.shoot("models-details")
    page.select(str(stage.models / "cut-off.gguf"))  # type: ignore[attr-defined]
    stage.shoot("models-broken")
    stage.shoot("models-narrow", NARROW)
    copy = stage.models.parent / "Downloads" / "Tiny-Stories-F16.gguf"
    write_empty_model(copy, "Tiny Stories", TINY, "F16", "mit")
    page.add([str(copy)])  # type: ignore[attr-defined]
    stage.settle()
    page.shelf.foot.look()  # type: ignore[attr-defined]
    stage.until(lambda: page.shelf.foot.is_filtering)  # type: ignore[attr-defined]
    stage.shoot("models-duplicates")
    page.details.remove_clicked.emit()  # type: ignore[attr-defined]
    stage.settle()
    stage.shoot("models-undo")
    leave_unfinished(stage.models)
    page.refresh()  # type: ignore[attr-defined]
    stage.until(lambda: page.leftovers.lines)  # type: ignore[attr-defined]
    stage.shoot("models-unfinished")
    stage.shoot("models-unfinished-narrow", NARROW)
    page.show_discover()  # type: ignore[attr-defined]
    stage.settle()
    stage.shoot("models-discover")
    discover = page.discover  # type: ignore[attr-defined]
    described = talk.described_8b()
    offer = next(o for o in discover.offers if o.repo == described.repo.id)
    discover.offer.introduce(offer, 12_000_000_000)
    discover.offer.show_described(described)
    discover.offer.fit_check.choose(None)  # it would ask the network
    words = "Runs on the processor: 8.2 GB with 16,384 tokens of context"
    discover.offer.rows[3].show_fit(f"{words}, about 5.4 tokens per second.", "cpu")
    discover.offer.show()
    stage.settle()
    stage.shoot("models-offer")
    stage.shoot("models-offer-narrow", NARROW)


def shrink(stage: Stage) -> None:
    fill_shelf(stage.models)
    stage.open()
    page: Any = stage.window.show_page("shrink")
    stage.settle(1.0)
    stage.shoot("shrink-pick")
    source = stage.models / "Llama-3.2-3B-Instruct-BF16.gguf"
    page.set_source(str(source))
    stage.until(lambda: page.state.name == "READY")
    stage.settle()
    stage.shoot("shrink-recommendation")
    stage.shoot("shrink-recommendation-narrow", NARROW)
    page.result.slider.setValue(70)
    page.result.work.fold.click()
    stage.settle()
    stage.shoot("shrink-details")
    page.set_source(str(starter.MODEL))
    stage.until(lambda: page.state.name == "READY")
    page.result.work.stops.set_value("fast")
    page.result.shrink_clicked.emit()
    task = stage.context.tasks.listed[-1]
    stage.until(lambda: (task.pace.fraction or 0) > 0.3 or task.is_over, seconds=240)
    stage.shoot("shrink-running")
    # Behind the shrinking, so that it asks no network before it is paused.
    download = Download("Qwen/Qwen3-8B-GGUF", str(stage.models), "Q4_K_M")
    paused = stage.context.tasks.start(download, "Download Qwen3-8B-GGUF, Q4_K_M")
    paused.pace.update(Progress("Downloading", 2_160_000_000, 5_030_000_000, "bytes"))
    paused.pause()
    panel = JobsPanel(stage.context.tasks, stage.window)
    panel.show()
    stage.shoot("jobs-panel", widget=panel)
    panel.close()
    paused.cancel()
    task.cancel()
    stage.until(lambda: task.is_over)
    stage.settle()
    page.set_source(str(stage.models / "Tiny-Stories-F16.gguf"))
    stage.until(lambda: page.state.name == "READY")
    page.result.work.rounding.set_value("stock")  # it has no words to be measured with
    page.result.shrink_clicked.emit()
    task = stage.context.tasks.listed[-1]
    stage.until(lambda: task.state == TaskState.SUCCEEDED)
    report = report_on(task.result)
    page.done.show_result(task.result, report)
    stage.settle()
    stage.shoot("shrink-done")
    dialog = ReportDialog(report, stage.window)
    dialog.show()
    stage.shoot("dialog-report", widget=dialog)
    dialog.close()
    page.set_source(str(stage.models / "cut-off.gguf"))
    stage.until(lambda: page.state.name == "EMPTY")
    stage.settle()
    stage.shoot("shrink-error")


def settings(stage: Stage) -> None:
    stage.open()
    stage.window.show_page("settings")
    stage.context.settings.update(n_threads=2)
    stage.until(lambda: stage.context.computer.found)
    stage.shoot("settings")
    stage.shoot("settings-narrow", NARROW)
    write_empty_model(stage.models / "Tiny-Stories-F16.gguf", "Tiny Stories", TINY, "F16", "mit")
    card = stage.window.page("settings").models
    card.change(str(stage.models.parent / "Large disk"))
    stage.until(lambda: card.findChildren(MoveDialog))
    (dialog,) = card.findChildren(MoveDialog)
    stage.shoot("dialog-move", widget=dialog)
    dialog.accept()
    stage.until(card.told_label.text)
    stage.shoot("settings-moved")


def dialogs(stage: Stage) -> None:
    from app.problems import BugDialog, ProblemCard, QuestionDialog

    stage.open()
    question = QuestionDialog(
        stage.window,
        "1 job not finished",
        "Shrinking Llama 3.2 3B: closing stops it. What is there so far is kept, and can be"
        " resumed.",
        "Stop and close",
    )
    bug = BugDialog('Snug, Python 3.11\n\nTraceback (most recent call last):\n  File "x.py"', None)
    error: EngineError = CorruptFile(
        "The file ends in the middle of tensor blk.4.ffn_up.weight.",
        hint="Download it again: 3.1 of 4.9 GB are there.",
        details="offset 3100000000",
    )
    card = ProblemCard(error, "Show in folder")
    card.setFixedWidth(560)
    for name, widget in (("question", question), ("bug", bug), ("problem-card", card)):
        widget.show()
        stage.settle(0.1)
        stage.shoot(f"dialog-{name}", widget=widget)
        widget.close()
        widget.deleteLater()


SCENES: dict[str, Callable[[Stage], None]] = {
    scene.__name__: scene for scene in (first_run, chat, models, shrink, settings, dialogs)
}


class Report(msgspec.Struct, frozen=True):
    n_pictures: int
    seconds: float


def take_all(app: QApplication, out: Path, names: list[str]) -> Report:
    """Take the pictures of the scenes `names`, or of all."""
    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    for name in names or SCENES:
        with staged(app, out) as stage:
            SCENES[name](stage)
    return Report(len(list(out.glob("*.png"))), time.monotonic() - started)
