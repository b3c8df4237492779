"""The chat page: conversations on the left, the open one on the right. Only wires its parts.

What the user says goes from the composer to the store, from there to the session; what the session
tells goes to the transcript if its conversation is the open one.
"""

from __future__ import annotations

import logging
from pathlib import Path

from PySide6.QtCore import QTimer, Signal
from PySide6.QtGui import QResizeEvent, QShowEvent
from PySide6.QtWidgets import QStackedWidget, QWidget

from app import theme
from app.chat.composer import Composer
from app.chat.conversations import ConversationPanel
from app.chat.footer import Footer
from app.chat.greeting import Greeting
from app.chat.picker import ModelPicker
from app.chat.problem_place import ProblemPlace
from app.chat.remedies import remedies
from app.chat.session import Session, State
from app.chat.told import told
from app.chat.transcript import Transcript
from app.context import AppContext
from app.models.drop import DropArea
from app.store import Message, Role, Store
from app.widgets import Toast, column, row
from engine import starter
from engine.errors import EngineError
from engine.words import format_percent

log = logging.getLogger(__name__)

DRAFT_MS = 500
LOOK_MS = 200


class ChatPage(QWidget):
    models_requested = Signal()
    discover_requested = Signal()
    files_dropped = Signal(list)

    def __init__(self, context: AppContext, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("role", "page")
        self._context = context
        problem: EngineError | None = None
        try:
            self._store = context.store
        except EngineError as error:
            problem = error
            # The chat works; only what is said is not kept, and the card says why.
            self._store = Store(Path(":memory:"))
        self.session = Session(self._store, context.settings, context.start_worker, self)
        self.conversation_id: int | None = None
        self._sidebar_wanted: bool | None = None
        self._build()
        self._connect()
        last_model = context.settings.value.last_model
        if last_model and Path(last_model).exists():
            self.session.choose(last_model)
        self._refresh()
        self._show_stored()
        if problem:
            self.show_problem(problem)

    # what the window asks

    @told
    def open_model(self, path: str) -> None:
        """Load the model at `path` in place of the present one, which a bad file leaves alone."""
        from engine.addable import require_chat_model

        if path == self.session.model_path and self.session.info:
            return
        require_chat_model(Path(path))
        self.problems.clear()
        self.session.choose(path)
        self.session.load()
        self.composer.setFocus()

    def new_chat(self) -> None:
        self._open(None)
        self.composer.setFocus()

    def find_conversation(self) -> None:
        self._sidebar_wanted = True
        self._fold()
        self.panel.search.setFocus()
        self.panel.search.selectAll()

    def shutdown(self) -> None:
        """Save what is not sent, end the engine; the answer in the making is kept as it is."""
        self._save_draft()
        self.session.shutdown()

    @told
    def _show_stored(self) -> None:
        self._refresh_list()
        self.composer.set_text(self._store.draft(None))

    # building

    def _build(self) -> None:
        self.panel = ConversationPanel()
        self.picker = ModelPicker(self._context, self.session)
        self.transcript = Transcript(self._versions_of)
        self._greeting = Greeting()
        self._body = QStackedWidget()
        self._body.addWidget(self._greeting)
        self._body.addWidget(self.transcript)
        self.composer = Composer()
        self.footer = Footer(self.session, self._context_used)
        self.toast = Toast(self, above=self.composer)
        self.problems = ProblemPlace(self._on_problem_dismissed)
        foot = QWidget()
        foot.setMaximumWidth(theme.READING_WIDTH)
        stacked = column(self.problems, self.composer, self.footer, spacing=theme.SPACE_4)
        stacked.setContentsMargins(0, 0, 0, theme.SPACE_8)
        foot.setLayout(stacked)
        across = row(None, foot, None, spacing=0)
        across.setStretch(1, 1000)
        across.setContentsMargins(theme.PAGE_MARGIN, 0, theme.PAGE_MARGIN, 0)
        right = column(self.picker, self._body, across, spacing=0)
        right.setStretch(1, 1)
        box = row(self.panel, right, spacing=0)
        box.setStretch(1, 1)
        self.setLayout(box)
        self._drafting = QTimer(self, singleShot=True, interval=DRAFT_MS)
        self._drop = DropArea(self, "Drop a GGUF file to chat with it")

    def _connect(self) -> None:
        self.panel.new_requested.connect(self.new_chat)
        self.panel.chosen.connect(self._open)
        self.panel.renamed.connect(self._on_renamed)
        self.panel.delete_requested.connect(self._on_delete_requested)
        self.panel.searched.connect(self._refresh_list)
        self.picker.models_requested.connect(self.models_requested)
        self.picker.file_chosen.connect(self.open_model)
        self.picker.sidebar_requested.connect(self._on_sidebar_requested)
        self.picker.looked.connect(self._greeting.show_computer)
        self._greeting.discover_requested.connect(self.discover_requested)
        self._greeting.starter_requested.connect(lambda: self.open_model(str(starter.MODEL)))
        self._greeting.suggested.connect(self._on_suggested)
        self._drop.dropped.connect(self._on_dropped)
        self.composer.sent.connect(self._on_sent)
        self.composer.stopped.connect(self.session.stop)
        self.composer.edited.connect(self._drafting.start)
        self._drafting.timeout.connect(self._save_draft)
        self.transcript.edited.connect(self._on_edited)
        self.transcript.answer_requested.connect(self._ask)
        self.transcript.regenerate_requested.connect(self._on_regenerate_requested)
        self.transcript.version_chosen.connect(self._on_version_chosen)
        self.transcript.reload_requested.connect(self.session.load)
        self.session.changed.connect(self._refresh)
        self.session.progressed.connect(self._refresh_stage)
        self.session.answer_started.connect(self._on_answer_started)
        self.session.answer_grew.connect(self._on_answer_grew)
        self.session.answer_ended.connect(self._on_answer_ended)
        self.session.store_failed.connect(self.show_problem)

    # what the user does

    def _on_dropped(self, paths: list[str]) -> None:
        """Chat with the first that can; all are in the list of models from now on."""
        from engine.addable import is_chat_model

        first = next((path for path in paths if is_chat_model(Path(path))), paths[0])
        self.open_model(first)
        is_refused = self.session.model_path != first
        if added := paths[1:] if is_refused else paths:
            self.files_dropped.emit(added)

    @told  # the text is still in the composer
    def _on_sent(self, text: str) -> None:
        if self.conversation_id is None:
            prompt = self._store.start_conversation(text)
        else:
            leaf_id = self._store.conversation(self.conversation_id).active_leaf_id
            prompt = self._store.add_prompt(self.conversation_id, leaf_id, text)
        self.composer.take()
        self._save_draft()
        self.conversation_id = prompt.conversation_id
        self.transcript.add(prompt)
        self._ask(prompt)
        self._refresh_list()

    def _on_suggested(self, text: str) -> None:
        typed = self.composer.text.toPlainText()
        self._on_sent(text)
        self.composer.set_text(typed)

    def _ask(self, prompt: Message) -> None:
        self.problems.clear()
        self.session.ask(prompt)

    @told
    def _on_edited(self, message: Message, text: str) -> None:
        prompt = self._store.add_prompt(message.conversation_id, message.parent_id, text)
        self._stop_here()
        self._show_path(prompt.id)
        self._ask(prompt)

    @told
    def _on_regenerate_requested(self, message: Message) -> None:
        assert message.parent_id is not None
        prompt = self._store.message(message.parent_id)
        self._stop_here()
        self._show_path(prompt.id)
        self._ask(prompt)

    @told
    def _on_version_chosen(self, message_id: int) -> None:
        self._store.show_version(message_id)
        self._open(self.conversation_id)

    def _stop_here(self) -> None:
        """Stop the answer that is being written into the open conversation."""
        answering = self.session.answering
        if answering and answering.conversation_id == self.conversation_id:
            self.session.stop()

    @told
    def _on_renamed(self, conversation_id: int, title: str) -> None:
        if title.strip():
            self._store.rename(conversation_id, title.strip())
        self._refresh_list()

    @told
    def _on_delete_requested(self, conversation_id: int) -> None:
        self._store.delete(conversation_id)
        self.session.withdraw(conversation_id)
        if conversation_id == self.conversation_id:
            self._open(None)
        self._refresh_list()

        self.toast.offer("Conversation deleted", lambda: self._on_undone(conversation_id))

    @told
    def _on_undone(self, conversation_id: int) -> None:
        self._store.restore(conversation_id)
        self._open(conversation_id)

    def _on_sidebar_requested(self) -> None:
        self._sidebar_wanted = self.panel.isHidden()
        self._fold()

    # what the session tells

    @told
    def _on_answer_started(self, message: Message) -> None:
        if message.conversation_id == self.conversation_id:
            self.transcript.add(message)
            self._refresh()

    def _on_answer_grew(self, text: str) -> None:
        answering = self.session.answering
        if answering and answering.id == self.transcript.answering_id:
            self.transcript.feed(text)

    def _on_answer_ended(self, message: Message) -> None:
        if message.conversation_id == self.conversation_id:
            self.transcript.end_answer(message)

    # showing

    @told
    def _open(self, conversation_id: int | None) -> None:
        """Show another conversation, None for a new one."""
        if conversation_id != self.conversation_id:
            draft = self._store.draft(conversation_id)
            self._save_draft()
            self.conversation_id = conversation_id
            self.composer.set_text(draft)
            self._drafting.stop()
        leaf_id = None
        if conversation_id is not None:
            leaf_id = self._store.conversation(conversation_id).active_leaf_id
        self._show_path(leaf_id)
        self._refresh_list()
        self._refresh()

    def _show_path(self, leaf_id: int | None) -> None:
        answering = self.session.answering
        path = [
            answering if answering and message.id == answering.id else message
            for message in self._store.path_to(leaf_id)
        ]
        self.transcript.show_path(path)

    def _versions_of(self, message: Message) -> tuple[int, ...]:
        try:
            return self._store.versions(message)
        except EngineError as error:  # no reason to leave the message out
            log.warning("versions not read: %s", error.details)
            return (message.id,)

    def _save_draft(self) -> None:
        self._drafting.stop()
        try:
            self._store.set_draft(self.conversation_id, self.composer.text.toPlainText())
        except EngineError as error:
            log.warning("draft not saved: %s", error.details)

    @told
    def _refresh_list(self, _query: str = "") -> None:
        query = self.panel.search.text()
        found = self._store.conversations(query)
        self.panel.show_conversations(found, self.conversation_id, query.strip())

    def _refresh(self) -> None:
        """Derive everything that can be clicked or read from the state of the session."""
        session = self.session
        has_model = bool(session.model_path)
        self.composer.set_state(can_send=has_model, stops=session.is_answering)
        self.composer.text.setPlaceholderText(
            "Write a message…" if has_model else "Choose a model first"
        )
        self._body.setCurrentWidget(
            self._greeting if self.conversation_id is None else self.transcript
        )
        self._greeting.show_model(session.model_path)
        self.transcript.set_crashed(session.state == State.CRASHED)
        self.footer.refresh()
        self._refresh_note()
        self._refresh_stage()
        self._refresh_problem()

    def _context_used(self) -> int:
        """Tokens of the conversation on screen, as far as they have been counted."""
        answering = self.session.answering
        if answering and answering.conversation_id == self.conversation_id:
            return self.session.context_used
        counts = (view.message.stats for view in reversed(self.transcript.views))
        return next((stats.n_ctx_used for stats in counts if stats), 0)

    def _refresh_note(self) -> None:
        """What becomes of a prompt that stands at the end without an answer."""
        last = self.transcript.views[-1].message if self.transcript.views else None
        if last is None or last.role != Role.USER:
            return
        waits = self.session.is_queued(last.id) and self.session.state != State.READY
        if not waits:
            self.transcript.set_prompt_note("", is_unanswered=bool(self.session.model_path))
        elif self.session.state == State.LOADING:
            note = "Message queued, will be sent when the model has loaded"
            self.transcript.set_prompt_note(note, is_unanswered=False)
        else:
            note = "Message queued, will be sent when the current answer is done"
            self.transcript.set_prompt_note(note, is_unanswered=False)

    def _refresh_stage(self) -> None:
        if self.session.state != State.READING_PROMPT:
            return
        fraction = self.session.pace.fraction
        share = f" · {format_percent(fraction)}" if fraction is not None else ""
        self.transcript.set_stage(f"Reading the prompt{share}")

    def _refresh_problem(self) -> None:
        """Show why there is no model, unless the last answer on screen says so already."""
        error, card = self.session.error, self.problems.card
        views = self.transcript.views
        said = views[-1].message.error if views and self.conversation_id is not None else None
        if error is None or (said and said.message == error.message):
            if card and card.action_button:
                self.problems.clear()
        elif card is None or card.error is not error:
            self.problems.show_problem(error, *remedies(self.session))

    def show_problem(self, error: EngineError) -> None:
        self.problems.show_problem(error)

    def _on_problem_dismissed(self) -> None:
        self.session.error = None

    # size

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._fold()
        # Well after the first paint: looking for models reads files.
        QTimer.singleShot(LOOK_MS, self.picker.refresh)
        self.composer.setFocus()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fold()

    def _fold(self) -> None:
        """The list folds in a narrow window, until asked for."""
        is_wide = self.window().width() >= theme.FOLD_WIDTH
        wanted = self._sidebar_wanted
        self.panel.setVisible(is_wide if wanted is None else wanted)
