"""The messages of a conversation, scrolled; the answer being written grows at its end.

Only the last messages are built, earlier ones when they are scrolled to. Text that arrives is
gathered and painted by a timer, which runs only while there is something to paint.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QTimer, Signal
from PySide6.QtWidgets import QApplication, QHBoxLayout, QVBoxLayout, QWidget

from app import theme
from app.store import Message, Role, Status
from app.widgets import Scroll

if TYPE_CHECKING:
    from app.chat.messages import AnswerView, MessageView, PromptView

PAINT_MS = 40
"""Text is painted no more often; the engine's pieces come a little slower, each painted at once."""
BUILT = 30
"""How many messages are built at first, and at a time when scrolling up."""
NEAR_TOP_PX = 400
NEAR_BOTTOM_PX = 24


class Transcript(Scroll):
    """Shows one conversation; says what is asked of its messages by signals."""

    edited = Signal(object, str)
    answer_requested = Signal(object)
    regenerate_requested = Signal(object)
    version_chosen = Signal(int)
    reload_requested = Signal()

    def __init__(
        self, versions_of: Callable[[Message], tuple[int, ...]], parent: QWidget | None = None
    ) -> None:
        content = QWidget()
        super().__init__(content, parent)
        self.setAccessibleName("Conversation")
        self._versions_of = versions_of
        self._column = QVBoxLayout()
        self._column.setSpacing(theme.SPACE_8)
        frame = QWidget()
        frame.setMaximumWidth(theme.READING_WIDTH)
        self._column.setContentsMargins(0, 0, 0, 0)
        frame.setLayout(self._column)
        across = QHBoxLayout()
        across.addStretch(1)
        across.addWidget(frame, 1000)
        across.addStretch(1)
        self._down = QVBoxLayout(content)
        self._down.addLayout(across)
        self._down.addStretch(1)
        self._keep_centred()
        self._earlier: list[Message] = []
        self._views: list[MessageView] = []
        self._answer: AnswerView | None = None
        self._buffer = ""
        self._painting = QTimer(self, singleShot=True)
        self._painting.timeout.connect(self._paint)
        self._paint_after = 0.0
        self._is_stuck = True
        bar = self.verticalScrollBar()
        bar.setSingleStep(theme.SPACE_24)
        bar.valueChanged.connect(self._on_scrolled)
        bar.rangeChanged.connect(self._on_range_changed)

    @property
    def views(self) -> Sequence[MessageView]:
        """The views that are built, top to bottom."""
        return self._views

    @property
    def answering_id(self) -> int | None:
        """The message that text is fed to."""
        return self._answer.message.id if self._answer else None

    def show_path(self, path: Sequence[Message]) -> None:
        """Show a conversation from its end; views whose message stays are kept."""
        self._painting.stop()
        self._buffer, self._answer = "", None
        kept = 0
        if list(path[: len(self._earlier)]) == self._earlier:
            shown = (view.message for view in self._views)
            for before, after in zip(shown, path[len(self._earlier) :], strict=False):
                if before != after:
                    break
                kept += 1
        if kept == 0:
            self._earlier = list(path[:-BUILT])
        self._drop_from(kept)
        for message in path[len(self._earlier) + kept :]:
            self._append(message)
        self._note_last()
        self.stick()

    def add(self, message: Message) -> None:
        """Show a message below the last one; a STREAMING one is then fed."""
        self._append(message)
        self._note_last()
        self.stick()

    def feed(self, text: str) -> None:
        if self._answer is None:  # the last words of an answer that is no longer shown
            return
        self._buffer += text
        wait_s = self._paint_after - time.perf_counter()
        if wait_s <= 0:
            self._paint()
        elif not self._painting.isActive():
            self._painting.start(round(wait_s * 1000))

    def set_stage(self, text: str) -> None:
        if self._answer:
            self._answer.set_stage(text)

    def end_answer(self, message: Message) -> None:
        if self._answer is None:
            return
        self._paint()
        self._answer.end(message)
        self._answer = None
        self._note_last()

    def set_prompt_note(self, text: str, is_unanswered: bool) -> None:
        """Say under a prompt at the very end what becomes of it."""
        from app.chat.messages import PromptView

        if self._views and isinstance(view := self._views[-1], PromptView):
            view.set_note(text, is_unanswered)

    def set_crashed(self, is_crashed: bool) -> None:
        """Whether what a failed answer needs first is the model, loaded again."""
        for view in self._views:
            view.set_crashed(is_crashed)

    def stick(self) -> None:
        """Go to the end and stay there while it grows."""
        self._is_stuck = True
        self.verticalScrollBar().setValue(self.verticalScrollBar().maximum())

    # inside

    def _append(self, message: Message) -> None:
        view = self._build(message)
        self._views.append(view)
        self._column.addWidget(view)
        view.show()

    def _build(self, message: Message) -> MessageView:
        from app.chat.messages import AnswerView, PromptView

        versions = self._versions_of(message)
        view: PromptView | AnswerView
        if message.role == Role.USER:
            view = PromptView(message, versions)
            view.edited.connect(self.edited)
            view.answer_requested.connect(self.answer_requested)
        else:
            view = AnswerView(message, versions)
            view.regenerate_requested.connect(self.regenerate_requested)
            view.reload_requested.connect(self.reload_requested)
            if message.status == Status.STREAMING:
                self._answer = view
        view.version_chosen.connect(self.version_chosen)
        return view

    def _drop_from(self, position: int) -> None:
        for view in self._views[position:]:
            self._column.removeWidget(view)
            view.hide()
            view.deleteLater()
        del self._views[position:]
        if self._answer not in self._views:  # what it had yet to show goes with it
            self._answer, self._buffer = None, ""

    def _note_last(self) -> None:
        for view in self._views[-3:]:
            view.keep_actions(view is self._views[-1] and view.message.role == Role.ASSISTANT)
        if len(self._views) > 1:
            from app.chat.messages import PromptView

            if isinstance(before := self._views[-2], PromptView):
                before.set_note("", False)

    def _paint(self) -> None:
        self._painting.stop()
        text, self._buffer = self._buffer, ""
        if not text or self._answer is None:
            return
        started = time.perf_counter()
        self._answer.feed(text)
        # A block that is costly to lay out is painted less often, so that the window stays quick.
        cost_s = time.perf_counter() - started
        self._paint_after = started + max(PAINT_MS / 1000, 5 * cost_s)

    def _on_scrolled(self, value: int) -> None:
        self._is_stuck = value >= self.verticalScrollBar().maximum() - NEAR_BOTTOM_PX
        if value < NEAR_TOP_PX and self._earlier:
            self._build_earlier()

    def _on_range_changed(self, _minimum: int, maximum: int) -> None:
        self._keep_centred()
        if self._is_stuck:
            self.verticalScrollBar().setValue(maximum)

    def _keep_centred(self) -> None:
        """Give the scroll bar its room from the margin, so that the text stands still beside it."""
        bar = self.verticalScrollBar()
        taken = bar.sizeHint().width() if bar.maximum() > 0 else 0
        right = theme.PAGE_MARGIN - taken
        self._down.setContentsMargins(theme.PAGE_MARGIN, theme.PAGE_MARGIN, right, theme.SPACE_24)

    def _build_earlier(self) -> None:
        """Put earlier messages on top and keep on screen what is there."""
        bar = self.verticalScrollBar()
        from_bottom = bar.maximum() - bar.value()
        batch, self._earlier = self._earlier[-BUILT:], self._earlier[:-BUILT]
        for message in reversed(batch):
            view = self._build(message)
            self._views.insert(0, view)
            self._column.insertWidget(0, view)
            view.show()
        self._is_stuck = False
        # Laid out now, so that the scroll bar knows how much there is to skip.
        self._down.activate()
        QApplication.sendEvent(self, QEvent(QEvent.Type.LayoutRequest))
        bar.setValue(bar.maximum() - from_bottom)
