"""The conversation with the engine: one model at a time, one answer at a time.

A state machine without widgets: `_enter` is the only place a state changes, and every button of
the page derives from `state`. What is said goes to the store first, so a crash loses no message.
"""

from __future__ import annotations

import logging
import time
from enum import Enum, auto
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from PySide6.QtCore import QObject, QTimer, Signal

from app.chat.load_plan import LoadPlan
from app.chat.stream import Stream, messages_of
from app.context import SettingsStore
from app.store import AnswerStats, Message, Status, Store
from app.tasks import Relay, StartWorker, not_started, start_worker
from engine.errors import EngineError, ErrorReport, OutOfMemory
from engine.inference import Answer, Generate, Load, ModelInfo
from engine.jobs import Pace, Piece, Progress, Step

if TYPE_CHECKING:
    # The client is loaded with the first model, not with the window.
    from engine.client import Call, Outcome, Stepped, Worker

log = logging.getLogger(__name__)

FLUSH_MS = 1000


class State(Enum):
    NO_MODEL = auto()
    LOADING = auto()
    READY = auto()
    READING_PROMPT = auto()
    GENERATING = auto()
    STOPPING = auto()
    CRASHED = auto()


ANSWERING = (State.READING_PROMPT, State.GENERATING, State.STOPPING)


class _Exited(msgspec.Struct, frozen=True):
    """The worker process has ended; `reason` is None when it was told to."""

    reason: EngineError | None


class Session(QObject):
    """A model in a worker process and the answers asked of it.

    `model_path` is the chosen model, loaded or not; `info` is there while it is loaded; `error`
    says why it is not.
    """

    changed = Signal()
    """The state, the model or the queue changed."""
    progressed = Signal()
    """`progress` of loading or of reading the prompt."""
    answer_started = Signal(object)
    answer_grew = Signal(str)
    answer_ended = Signal(object)
    store_failed = Signal(object)
    """What was said could not be saved; it is still on screen."""

    def __init__(
        self,
        store: Store,
        settings: SettingsStore,
        start_worker: StartWorker = start_worker,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.state = State.NO_MODEL
        self.model_path = ""
        self.info: ModelInfo | None = None
        self.progress: Progress | None = None
        self.pace = Pace()
        self.error: EngineError | None = None
        self.n_ctx_used = 0
        self.plan = LoadPlan()
        self._store = store
        self._settings = settings
        self._models_folder = settings.value.models_folder
        settings.changed.connect(self._follow_a_move)
        self._start_worker = start_worker
        self._queue: list[Message] = []
        self._stream: Stream | None = None
        self._worker: Worker | None = None
        self._leaving: list[Worker] = []
        self._call: Call | None = None
        self._serial = 0
        self._relay = Relay(self)
        self._relay.heard.connect(self._on_heard)
        self._flushing = QTimer(self, interval=FLUSH_MS)
        self._flushing.timeout.connect(self._flush)

    # what the page asks

    @property
    def is_answering(self) -> bool:
        return self.state in ANSWERING

    @property
    def answering(self) -> Message | None:
        """The row of the answer being written, with the text so far."""
        if self._stream is None:
            return None
        return msgspec.structs.replace(self._stream.message, content=self._stream.text)

    @property
    def tokens_per_second(self) -> float:
        return self._stream.tokens_per_second if self._stream else 0.0

    @property
    def context_used(self) -> int:
        """Tokens of the context in use, counting those of the answer being written."""
        if self._stream and self._stream.prompt_tokens:
            return self._stream.prompt_tokens + self._stream.n_tokens
        return self.n_ctx_used

    @property
    def shorter_n_ctx(self) -> int:
        """A context to try where the last one was too long for the memory, or 0."""
        if not isinstance(self.error, OutOfMemory):
            return 0
        return self.plan.shorter_n_ctx(self.model_path, self._settings.value)

    def is_queued(self, message_id: int) -> bool:
        return any(prompt.id == message_id for prompt in self._queue)

    # what the page does

    def choose(self, path: str) -> None:
        """Make `path` the model, without loading it: the first message does."""
        if path != self.model_path:
            self.unload()
            self.model_path = path
            self.plan = LoadPlan()
            self.changed.emit()

    def _follow_a_move(self) -> None:
        """The chosen model is where it was moved to with the models folder, loaded or not."""
        old, self._models_folder = self._models_folder, self._settings.value.models_folder
        if self._models_folder != old and Path(old) in Path(self.model_path).parents:
            moved = Path(self._models_folder) / Path(self.model_path).relative_to(old)
            if moved.exists():
                self.model_path = str(moved)
                self.changed.emit()

    def load(self) -> None:
        """Load the chosen model, anew if it is loaded; an answer in the making is kept as it is."""
        self.unload()
        self.error = None
        self._enter(State.LOADING)
        if not self._leaving:
            self._spawn()

    def load_shorter(self) -> None:
        """Load the chosen model with half the context, from now on."""
        self.plan.n_ctx = self.shorter_n_ctx
        self.load()

    def load_anyway(self) -> None:
        """Load the chosen model although it seems not to fit, from now on."""
        self.plan.is_forced = True
        self.load()

    def dismiss(self) -> None:
        """Let the model go for good: what waits for it is not asked of another one."""
        self._queue.clear()
        self.unload()

    def unload(self) -> None:
        """Let the model go: its process ends, which is the only sure way to free its memory."""
        self._end_answer(Status.STOPPED)
        self._let_go()
        self._enter(State.NO_MODEL)

    def ask(self, prompt: Message) -> None:
        """Answer `prompt` when the model is loaded and done with what it was asked before.

        A prompt that waits right above this one is not answered by itself any more.
        """
        waiting = [p for p in self._queue if p.id not in (prompt.id, prompt.parent_id)]
        self._queue = [*waiting, prompt]
        if self.state in (State.NO_MODEL, State.CRASHED) and self.model_path:
            self.load()
        self._go_on()
        self.changed.emit()

    def withdraw(self, conversation_id: int) -> None:
        """Ask nothing more for a conversation; its answer in the making stops."""
        self._queue = [p for p in self._queue if p.conversation_id != conversation_id]
        if self._stream and self._stream.message.conversation_id == conversation_id:
            self.stop()
        self.changed.emit()

    def stop(self) -> None:
        """Stop the answer, or the loading."""
        if self.state in (State.READING_PROMPT, State.GENERATING):
            assert self._call
            self._call.cancel()
            self._enter(State.STOPPING)
        elif self.state == State.LOADING:
            self.dismiss()

    def shutdown(self) -> None:
        """End the process and wait for it; an answer in the making is kept, marked stopped."""
        self.dismiss()
        for worker in self._leaving:
            worker.stop(wait=True)
        self._leaving.clear()

    # the machine

    def _enter(self, state: State) -> None:
        log.debug("session: %s -> %s", self.state.name, state.name)
        self.state = state
        if state in ANSWERING:
            self._flushing.start()
        else:
            self._flushing.stop()
        self.changed.emit()

    def _spawn(self) -> None:
        worker: list[Worker] = []
        try:
            worker.append(
                self._start_worker(lambda reason: self._relay.tell((worker, _Exited(reason))))
            )
        except OSError as error:
            self.error = not_started(error)
            self._enter(State.CRASHED)
            return
        self._worker = worker[0]
        self._run(Load(self.model_path, self.plan.settings(self._settings.value)))

    def _run(self, job: Load | Generate) -> None:
        """Give `job` to the worker; only the last call given is listened to."""
        assert self._worker
        self._serial += 1
        serial = self._serial
        self.progress, self.pace = None, Pace()
        self._call = self._worker.run(job, lambda event: self._relay.tell((serial, event)))

    def _let_go(self) -> None:
        """Part with the worker; it ends beside the window."""
        self._serial += 1
        self._call, self.info, self.n_ctx_used = None, None, 0
        if self._worker:
            self._worker.stop(wait=False)
            self._leaving.append(self._worker)
            self._worker = None

    def _on_heard(self, told: tuple[object, Stepped | Outcome | _Exited]) -> None:
        about, event = told
        if isinstance(event, _Exited):
            assert isinstance(about, list)
            self._on_exited(about[0], event.reason)
        elif about == self._serial:
            self._on_event(event)

    def _on_exited(self, worker: Worker, reason: EngineError | None) -> None:
        worker.stop(wait=True)  # it is dead: this only joins its threads
        if worker in self._leaving:
            self._leaving.remove(worker)
            if self.state == State.LOADING and not self._leaving and self._worker is None:
                self._spawn()
        elif worker is self._worker:
            self._worker = None
            self._crash(reason)

    def _on_event(self, event: Stepped | Outcome) -> None:
        from engine.client import Cancelled, Failed, Stepped, Succeeded

        match event:
            case Stepped(step=step):
                self._on_step(step)
            case Succeeded(result=ModelInfo() as info):
                self.info, self.plan.n_ctx_loaded = info, info.n_ctx
                self._settings.update(last_model=self.model_path)
                self._enter(State.READY)
            case Succeeded(result=Answer() as answer):
                self._on_answer(answer)
            case Failed(error=error):
                self._on_failed(error)
            case Cancelled():
                self._end_answer(Status.STOPPED)
                if self._worker and self._worker.is_alive:  # else `_Exited` follows
                    self._enter(State.READY)
        self._go_on()

    def _on_step(self, step: Step) -> None:
        stream = self._stream
        if isinstance(step, Progress):
            self.progress = step
            self.pace.update(step)
            if stream and step.total:
                if not stream.prompt_tokens:  # it starts from what the cache still held
                    stream.prompt_tokens_reused = step.done
                stream.prompt_tokens = step.total
            self.progressed.emit()
        elif isinstance(step, Piece) and stream:
            stream.n_tokens = step.n_tokens
            if stream.first_piece_at is None:
                stream.first_piece_at = time.monotonic()
            stream.text += step.text
            stream.is_flushed = False
            if self.state == State.READING_PROMPT:
                self._enter(State.GENERATING)
            self.answer_grew.emit(step.text)

    def _on_answer(self, answer: Answer) -> None:
        stats = msgspec.convert(answer, AnswerStats, from_attributes=True)
        self.n_ctx_used = answer.n_ctx_used
        if self._stream:
            self._stream.text = answer.text
        stopped = answer.finish_reason == "cancelled"
        self._end_answer(Status.STOPPED if stopped else Status.COMPLETE, stats)
        self._enter(State.READY)

    def _on_failed(self, error: EngineError) -> None:
        if self._worker is None or not self._worker.is_alive:
            self._crash(error)
        elif self.state == State.LOADING:
            self.error = error
            self._queue.clear()
            self._let_go()
            self._enter(State.NO_MODEL)
        else:
            self._end_answer(Status.FAILED, error=error.report())
            self._enter(State.READY)

    def _crash(self, reason: EngineError | None) -> None:
        self.error = reason
        self._queue.clear()
        self._end_answer(Status.FAILED, error=reason.report() if reason else None)
        self._let_go()
        self._enter(State.CRASHED)

    def _go_on(self) -> None:
        """Begin the next answer, if the model is free; what cannot begin goes on waiting."""
        if self.state != State.READY or not self._queue:
            return
        prompt = self._queue[0]
        assert self.info
        try:
            path = self._store.path_to(prompt.id)
            message = self._store.begin_answer(prompt, self.info.name)
        except EngineError as error:
            self.store_failed.emit(error)
            self.changed.emit()
            return
        del self._queue[0]
        self._stream = Stream(message, time.monotonic())
        self._run(Generate(messages=messages_of(path)))
        self._enter(State.READING_PROMPT)
        self.answer_started.emit(message)

    def _flush(self) -> None:
        stream = self._stream
        if stream is None or stream.is_flushed:
            return
        try:
            self._store.flush_answer(stream.message.id, stream.text)
            stream.is_flushed = True
        except EngineError as error:
            log.warning("answer not saved yet: %s", error.details)

    def _end_answer(
        self, status: Status, stats: AnswerStats | None = None, error: ErrorReport | None = None
    ) -> None:
        """Close the answer in the making, if there is one, and tell."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        if stats is None and stream.n_tokens:
            stats = stream.stats(self.info.n_ctx if self.info else 0)
            self.n_ctx_used = stats.n_ctx_used
        try:
            message = self._store.end_answer(stream.message.id, stream.text, status, stats, error)
        except EngineError as trouble:
            message = msgspec.structs.replace(
                stream.message, content=stream.text, status=status, stats=stats, error=error
            )
            self.store_failed.emit(trouble)
        self.answer_ended.emit(message)
