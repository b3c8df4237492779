"""The Shrink page: source and computer at the left, the result at the right.

It is in one of a few states, and `_enter` alone decides what each of them shows.
"""

from __future__ import annotations

import logging
from enum import Enum, auto
from functools import partial
from pathlib import Path

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QFileDialog, QStackedWidget, QVBoxLayout, QWidget

from app import theme
from app.context import AppContext
from app.models.drop import DropArea
from app.models.reveal import reveal
from app.models.scan import Shelf
from app.problems import ProblemCard
from app.shrink.computer import ComputerCard
from app.shrink.done import DoneView
from app.shrink.report_dialog import ReportDialog
from app.shrink.result import ResultView
from app.shrink.running import RunningView
from app.shrink.source import SourceCard
from app.shrink.work import STOCK
from app.shrinks import own_text, start
from app.tasks import Task, TaskState
from app.widgets import Card, EmptyState, ProgressBar, column, row, second, strong, title
from engine.addable import find_addable
from engine.errors import AlreadyExists, EngineError, KeptAside, StorageError
from engine.fit.recommend import Choice
from engine.hardware import detect
from engine.library import is_own
from engine.quantize.recommend import Recommend
from engine.quantize.report import ShrinkReport, read_report
from engine.quantize.shrink import Shrink, Shrunk
from engine.quantize.shrink_to_size import ShrinkToSize, ShrunkToSize

log = logging.getLogger(__name__)

LEFT_WIDTH = 300
# A larger window gets more air around the cards, not emptier cards.
MAX_WIDTH, MAX_HEIGHT = 1200, 800
SETTLE_MS = 150  # while arrow keys run through the list, no worker is started for each row


class State(Enum):
    EMPTY = auto()
    LOOKING = auto()
    READY = auto()
    RUNNING = auto()
    DONE = auto()


class ShrinkPage(QWidget):
    chat_requested = Signal(str)

    def __init__(self, context: AppContext, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        self._source = ""
        self._result: Shrunk | ShrunkToSize | None = None
        self._report: ShrinkReport | None = None
        self._question: Task | None = None
        self._task: Task | None = None
        self.setProperty("role", "page")
        self.setFocusPolicy(Qt.FocusPolicy.ClickFocus)
        self._shelf: Shelf | None = None
        context.scan.found.connect(self._on_found)
        self._settle = QTimer(self, singleShot=True, interval=SETTLE_MS)
        self._settle.timeout.connect(self._ask_for_recommendation)
        self._build()
        self._drop = DropArea(self, "Drop a checkpoint folder or a GGUF file to shrink it")
        self._drop.dropped.connect(lambda paths: self.choose(paths[0]))
        self._enter(State.EMPTY)

    # What it is made of

    def _build(self) -> None:
        self.source = SourceCard()
        self.source.chosen.connect(self.set_source)
        self.source.file_clicked.connect(self._on_file_clicked)
        self.source.folder_clicked.connect(self._on_folder_clicked)
        self.computer = ComputerCard()
        self.result = ResultView()
        self.result.shrink_clicked.connect(self._on_shrink_clicked)
        self.running = RunningView()
        self.done = DoneView()
        self.done.chat_clicked.connect(self._on_chat_clicked)
        self.done.report_clicked.connect(self._on_report_clicked)
        self.done.reveal_clicked.connect(self._on_reveal_clicked)
        self.done.again_clicked.connect(self._on_again_clicked)
        self._views: dict[State, QWidget] = {
            State.EMPTY: EmptyState(
                "shrink",
                "Pick a model at the left",
                "Before anything runs you see its new size, the memory it takes here, and which"
                " width is best.",
            ),
            State.LOOKING: _looking(),
            State.READY: self.result,
            State.RUNNING: self.running,
            State.DONE: self.done,
        }
        self._stack = QStackedWidget()
        for view in self._views.values():
            self._stack.addWidget(view)
        card = Card()
        card.body.setContentsMargins(0, 0, 0, 0)
        card.body.addWidget(self._stack)
        self._problems = QVBoxLayout()
        left = QWidget()
        left.setFixedWidth(LEFT_WIDTH)
        left_box = column(self.source, self.computer, spacing=theme.SPACE_16)
        left_box.setStretch(0, 1)
        left.setLayout(left_box)
        right = column(self._problems, card, spacing=theme.SPACE_12)
        right.setStretch(1, 1)
        columns = row(left, right, spacing=theme.SPACE_16)
        columns.setStretch(1, 1)
        block = QWidget()
        block.setLayout(columns)
        block.setMaximumSize(MAX_WIDTH, MAX_HEIGHT)
        outer = QVBoxLayout(self)
        margin = theme.PAGE_MARGIN
        outer.setContentsMargins(margin, margin - 4, margin, margin)
        outer.setSpacing(theme.SPACE_16)
        subtitle = second("Make a model smaller so that it fits this computer")
        outer.addLayout(column(title("Shrink"), subtitle, spacing=2))
        outer.addWidget(block, 1)
        outer.addStretch()

    def _enter(self, state: State) -> None:
        self.state = state
        self._stack.setCurrentWidget(self._views[state])
        self.source.setEnabled(state is not State.RUNNING)
        self._drop.set_open(state is not State.RUNNING)

    # The source

    def set_source(self, path: str) -> None:
        """Take `path` as the source and look for the best width; ignored while a job runs."""
        if self.state is State.RUNNING:
            return
        self._source = path
        self.source.select(path)
        self._forget_question()
        self._clear_problems()
        self._enter(State.LOOKING)
        self._settle.start()

    def choose(self, path: str) -> None:
        """Take a file or folder from anywhere: it is added to the models by reference."""
        self._clear_problems()
        try:
            found = find_addable(Path(path))
        except EngineError as error:
            self._show_problem(error)
            return
        settings = self._context.settings.value
        added = settings.added_models
        if not is_own(Path(found[0]), Path(settings.models_folder)) and found[0] not in added:
            self._context.settings.update(added_models=(*added, found[0]))
        self.set_source(found[0])
        self._context.scan.start()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self.setFocus(Qt.FocusReason.OtherFocusReason)
        self._show_shelf()
        self._context.scan.start()
        if self.state is State.READY:
            self.result.check_name()

    def _on_found(self) -> None:
        if self.isVisible():
            self._show_shelf()

    def _show_shelf(self) -> None:
        shelf = self._context.shelf
        if shelf and shelf is not self._shelf:
            self._shelf = shelf
            self.source.show_shelf(shelf)
            self.computer.show_computer(shelf.computer)

    def _on_file_clicked(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self, "Choose a model", str(Path.home()), "GGUF models (*.gguf);;All files (*)"
        )
        if path:
            self.choose(path)

    def _on_folder_clicked(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Choose a checkpoint", str(Path.home()))
        if path:
            self.choose(path)

    # The recommendation

    def _ask_for_recommendation(self) -> None:
        self._question = self._context.tasks.ask(
            Recommend(self._source, self._context.settings.value.n_ctx)
        )
        self._question.finished.connect(partial(self._on_answered, self._question))

    def _forget_question(self) -> None:
        self._settle.stop()
        question, self._question = self._question, None
        if question:
            question.cancel()

    def _on_answered(self, question: Task) -> None:
        if question is not self._question:  # another source was picked meanwhile
            return
        self._question = None
        if question.state is TaskState.SUCCEEDED:
            folder = Path(self._context.settings.value.models_folder)
            self.result.show_recommendation(self._source, question.result, detect(), folder)
            self._enter(State.READY)
            return
        self._enter(State.EMPTY)
        if question.error:
            self._show_problem(question.error, "Try again", partial(self.set_source, self._source))

    # The job

    def _on_shrink_clicked(self) -> None:
        choice, out = self.result.choice, self.result.out
        assert choice
        self._clear_problems()
        try:
            self._task = start(self._context, self._job(choice, out))
        except EngineError as error:
            self._on_failed(error)
            return
        self._task.finished.connect(partial(self._on_finished, self._task))
        listed = self.source.row_of(self._source)
        name = listed.entry.name if listed else Path(self._source).name
        self.running.follow(self._task, name, choice, out)
        self._enter(State.RUNNING)

    def _job(self, choice: Choice, out: Path) -> Shrink | ShrinkToSize:
        n_threads = self._context.settings.value.n_threads
        if self.result.work.value == STOCK:
            return Shrink(self._source, str(out), choice.recipe, n_threads)
        texts: tuple[str, ...] = ()
        match self.result.texts.kind:
            case "files":
                texts = self.result.texts.files
            case "conversations":
                texts = (str(own_text(self._context, str(out))),)
        return ShrinkToSize(
            source=self._source,
            out=str(out),
            recipe=choice.recipe or None,
            size_bytes=0 if choice.recipe else choice.size_bytes,
            effort=self.result.work.effort,
            texts=texts,
            n_threads=n_threads,
        )

    def _on_finished(self, task: Task) -> None:
        if task is not self._task:
            return
        self._task = None
        self.result.check_name()
        if task.state is TaskState.SUCCEEDED:
            self._result = task.result
            self._report = read_report(Path(task.result.path))
            self.done.show_result(task.result, self._report)
            self._enter(State.DONE)
            return
        self._enter(State.READY)
        if task.error:
            self._on_failed(task.error)

    def _on_failed(self, error: EngineError) -> None:
        """Keep the choice as it is and offer the step that helps."""
        if isinstance(error, KeptAside):
            self._show_problem(error)
        elif isinstance(error, AlreadyExists):
            self._show_problem(error, "Use another name", self.result.take_numbered_name)
        elif isinstance(error, StorageError):
            self._show_problem(error, "Choose another folder", self.result.choose_folder)
        else:
            self._show_problem(error)

    # What to do with it

    def _on_chat_clicked(self) -> None:
        assert self._result
        self.chat_requested.emit(self._result.path)

    def _on_report_clicked(self) -> None:
        assert self._report
        ReportDialog(self._report, self).open()

    def _on_reveal_clicked(self) -> None:
        assert self._result
        reveal(self._result.path)

    def _on_again_clicked(self) -> None:
        self._source = ""
        self.source.select("")
        self._enter(State.EMPTY)
        self._context.scan.start()

    # Problems

    def _show_problem(
        self, error: EngineError, action_text: str | None = None, action: object = None
    ) -> None:
        card = ProblemCard(error, *([action_text] if action_text else []))
        card.dismissed.connect(self._clear_problems)
        if callable(action):
            card.action.connect(self._clear_problems)
            card.action.connect(action)
        self._problems.addWidget(card)
        card.show()

    def _clear_problems(self) -> None:
        while item := self._problems.takeAt(0):
            if card := item.widget():
                card.hide()
                card.deleteLater()


def _looking() -> QWidget:
    """Shown while the best width is looked for; that takes a moment."""
    view = QWidget()
    bar = ProgressBar("Looking for the best width")
    bar.set_fraction(None)
    bar.setFixedWidth(240)
    words = second("Counting what each width takes, to the byte")
    words.setWordWrap(False)
    box = QVBoxLayout(view)
    box.setSpacing(theme.SPACE_12)
    box.addStretch(2)
    for part in (strong("Looking for the best width"), bar, words):
        box.addWidget(part, 0, Qt.AlignmentFlag.AlignHCenter)
    box.addStretch(3)
    return view
