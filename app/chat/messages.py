"""One message on screen: a prompt in its bubble, or an answer as text on the window."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtGui import (
    QEnterEvent,
    QFocusEvent,
    QKeyEvent,
    QPaintEvent,
    QResizeEvent,
)
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPlainTextEdit, QVBoxLayout, QWidget

from app import theme
from app.chat.blocks import BlockColumn
from app.chat.code import CopyButton
from app.chat.markdown import MarkdownStream, split_reasoning
from app.chat.text import TextView
from app.problems import ProblemCard
from app.store import AnswerStats, Message, Status
from app.widgets import IconButton, PrimaryButton, QuietButton, SecondaryButton, row, second
from engine.errors import EngineError
from engine.words import format_duration, format_speed

BUBBLE_PART = 0.7
"""The widest a bubble gets, of the width it has."""

AGAIN, RELOAD = "Answer again", "Reload the model"
SOME_ENDS = {"length": "context full", "cancelled": "stopped", "error": "failed"}


class ActionRow(QWidget):
    """Small buttons that show on hover and on focus, and keep their place otherwise."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._buttons: list[IconButton] = []
        self._is_shown = False
        self.box = row(spacing=theme.SPACE_4)
        self.setLayout(self.box)

    def add(self, button: IconButton) -> None:
        self._buttons.append(button)
        button.installEventFilter(self)
        self.box.addWidget(button)

    def set_shown(self, is_shown: bool) -> None:
        self._is_shown = is_shown
        self.update_buttons()

    def update_buttons(self) -> None:
        for button in self._buttons:
            button.update()

    def eventFilter(self, watched: object, event: QEvent) -> bool:
        if isinstance(event, QFocusEvent):
            self.update_buttons()
        hides = not self._is_shown and not any(button.hasFocus() for button in self._buttons)
        return isinstance(event, QPaintEvent) and hides


class VersionSwitch(QWidget):
    """< 2/3 >: steps through the versions of a message; absent while there is one."""

    chosen = Signal(int)

    def __init__(self, message_id: int, versions: tuple[int, ...]) -> None:
        super().__init__()
        at = versions.index(message_id)
        self.back = IconButton("chevron-left", "Version before", size_px=28)
        self.back.setEnabled(at > 0)
        self.back.clicked.connect(lambda: self.chosen.emit(versions[at - 1]))
        self.on = IconButton("chevron-right", "Next version", size_px=28)
        self.on.setEnabled(at < len(versions) - 1)
        self.on.clicked.connect(lambda: self.chosen.emit(versions[at + 1]))
        label = second(f"{at + 1}/{len(versions)}")
        label.setWordWrap(False)
        label.setAccessibleName(f"Version {at + 1} of {len(versions)}")
        self.setLayout(row(self.back, label, self.on, spacing=0))
        self._is_needed = len(versions) > 1
        self.show_if_needed()

    def show_if_needed(self) -> None:
        if self._is_needed:
            self.show()
        else:
            self.hide()


class MessageView(QWidget):
    """What prompt and answer have in common: the message, and actions shown on hover."""

    version_chosen = Signal(int)

    def __init__(self, message: Message, versions: tuple[int, ...]) -> None:
        super().__init__()
        self.message = message
        self.versions = VersionSwitch(message.id, versions)
        self.versions.chosen.connect(self.version_chosen)
        self.tools = ActionRow()
        self._keeps_actions = False

    def keep_actions(self, keeps: bool) -> None:
        """Show the actions also without hover: the last answer does."""
        self._keeps_actions = keeps
        self.tools.set_shown(keeps or self.underMouse())

    def set_crashed(self, is_crashed: bool) -> None:
        """The model is gone: only an answer has something to say to that."""

    def enterEvent(self, event: QEnterEvent) -> None:
        super().enterEvent(event)
        self.tools.set_shown(True)

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self.tools.set_shown(self._keeps_actions)


class PromptView(MessageView):
    """What the user wrote: a bubble on the right, which can be edited in place."""

    edited = Signal(object, str)
    answer_requested = Signal(object)

    def __init__(self, message: Message, versions: tuple[int, ...]) -> None:
        super().__init__(message, versions)
        self.setAccessibleName("You")
        text = TextView("Your message")
        text.show_plain(message.content)
        self._bubble = QFrame()
        self._bubble.setProperty("role", "bubble")
        inner = QVBoxLayout(self._bubble)
        # The lines are 1.5 high, and Qt puts all of the extra below the letters.
        inner.setContentsMargins(theme.SPACE_16, theme.SPACE_12, theme.SPACE_16, theme.SPACE_4)
        inner.addWidget(text)
        self._line = QHBoxLayout()
        self._line.setContentsMargins(0, 0, 0, 0)
        self._line.setSpacing(theme.SPACE_4)
        self.note = second("")
        self.note.setWordWrap(False)
        self.note.hide()
        self.answer_button = QuietButton("Answer this", "regenerate")
        self.answer_button.clicked.connect(lambda: self.answer_requested.emit(self.message))
        self.answer_button.hide()
        self.tools.add(CopyButton("Copy message", lambda: self.message.content))
        self.edit_button = IconButton("edit", "Edit message", size_px=28)
        self.edit_button.clicked.connect(self._on_edit_clicked)
        self.tools.add(self.edit_button)
        # Beside the bubble, where they cost no line between a prompt and its answer.
        self._line.addStretch(1)
        self._line.addWidget(self.versions)
        self._line.addWidget(self.tools)
        self._line.addWidget(self._bubble)
        self._foot = QWidget()
        self._foot.setLayout(row(None, self.note, self.answer_button, spacing=4))
        self._foot.hide()
        self._editor: PromptEditor | None = None
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(theme.SPACE_4)
        box.addLayout(self._line)
        box.addWidget(self._foot)

    def set_note(self, text: str, is_unanswered: bool) -> None:
        """Say what became of the message; `is_unanswered` offers to answer it now."""
        self.note.setText(text)
        self.note.setVisible(bool(text))
        self.answer_button.setVisible(is_unanswered)
        self._foot.setVisible(bool(text) or is_unanswered)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._bubble.setMaximumWidth(round(self.width() * BUBBLE_PART))

    def _on_edit_clicked(self) -> None:
        self._editor = PromptEditor(self.message.content)
        self._editor.sent.connect(self._on_edit_sent)
        self._editor.cancelled.connect(self._end_edit)
        for shown in (self._bubble, self.tools, self.versions):
            shown.hide()
        self._line.addWidget(self._editor, 5)
        self._editor.show()
        self._editor.text.setFocus()

    def _on_edit_sent(self, text: str) -> None:
        self._end_edit()
        if text.strip() and text != self.message.content:
            self.edited.emit(self.message, text)

    def _end_edit(self) -> None:
        if self._editor:
            self._editor.hide()
            self._editor.deleteLater()
            self._editor = None
        self._bubble.show()
        self.tools.show()
        self.versions.show_if_needed()


class PromptEditor(QFrame):
    """A message being edited; sending makes a new version beside the old one."""

    sent = Signal(str)
    cancelled = Signal()

    def __init__(self, text: str) -> None:
        super().__init__()
        self.setProperty("role", "composer")
        self.text = QPlainTextEdit(text)
        self.text.setAccessibleName("Edit message")
        self.text.setTabChangesFocus(True)
        self.text.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.text.document().setDocumentMargin(0)
        lines = min(12, max(3, text.count("\n") + 1))
        self.text.setFixedHeight(lines * self.text.fontMetrics().lineSpacing() + theme.SPACE_12)
        self.send = PrimaryButton("Send")
        self.send.clicked.connect(lambda: self.sent.emit(self.text.toPlainText()))
        cancel = SecondaryButton("Cancel")
        cancel.clicked.connect(self.cancelled)
        box = QVBoxLayout(self)
        box.setContentsMargins(*(theme.SPACE_12,) * 4)
        box.addWidget(self.text)
        box.addLayout(row(None, cancel, self.send))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.cancelled.emit()
        else:
            super().keyPressEvent(event)


class AnswerView(MessageView):
    """What the model wrote, as blocks; under it the figures, and what can be done with it."""

    regenerate_requested = Signal(object)
    reload_requested = Signal()

    def __init__(self, message: Message, versions: tuple[int, ...]) -> None:
        super().__init__(message, versions)
        self.setAccessibleName(f"Answer of {message.model}" if message.model else "Answer")
        self._stream = MarkdownStream()
        self._column = BlockColumn()
        self._stage = second("")
        self._stage.hide()
        self._figures = second("")
        self._figures.setWordWrap(False)
        self._problem: ProblemCard | None = None
        self._is_crashed = False
        self.tools.add(CopyButton("Copy answer", self.plain_text))
        self.regenerate_button = IconButton("regenerate", "Answer again", size_px=28)
        self.regenerate_button.clicked.connect(lambda: self.regenerate_requested.emit(self.message))
        self.tools.add(self.regenerate_button)
        self._foot = QWidget()
        self._foot.setLayout(row(self._figures, self.versions, self.tools, None, spacing=4))
        self._box = QVBoxLayout(self)
        self._box.setContentsMargins(0, 0, 0, 0)
        self._box.setSpacing(theme.SPACE_4)
        self._box.addWidget(self._column)
        self._box.addWidget(self._stage)
        self._box.addWidget(self._foot)
        self.feed(message.content)
        self.end(message)

    def feed(self, text: str) -> None:
        if text:
            self._stream.feed(text)
            self._column.show_blocks(self._stream.blocks)
            self._stage.hide()

    def set_stage(self, text: str) -> None:
        """Say what happens before the first word."""
        self._stage.setText(text)
        self._stage.setVisible(bool(text))

    def end(self, message: Message) -> None:
        """Show how it stands: `message` is the row as it is stored now."""
        self.message = message
        is_streaming = message.status == Status.STREAMING
        self._foot.setVisible(not is_streaming)
        if is_streaming:
            return
        self._stage.hide()
        self._figures.setText(figures(message))
        if message.error and self._problem is None:
            error = EngineError.revive(message.error)
            self._problem = ProblemCard(error, AGAIN, can_dismiss=False)
            self._problem.action.connect(self._on_problem_action)
            self._box.insertWidget(2, self._problem)
            self._problem.show()
        if not message.content and not message.error:
            self.set_stage("The model said nothing.")

    def plain_text(self) -> str:
        """The answer as the model wrote it, without its reasoning."""
        return self._stream.text[split_reasoning(self._stream.text)[2] :].strip()

    def set_crashed(self, is_crashed: bool) -> None:
        self._is_crashed = is_crashed
        if self._problem and self._problem.action_button:
            self._problem.action_button.setText(RELOAD if is_crashed else AGAIN)

    def _on_problem_action(self) -> None:
        if self._is_crashed:
            self.reload_requested.emit()
        else:
            self.regenerate_requested.emit(self.message)

    def sizeHint(self) -> QSize:
        return QSize(theme.READING_WIDTH, super().sizeHint().height())


def figures(message: Message) -> str:
    """The quiet line under an answer: speed, time to the first token, how it ended if unusually."""
    stats: AnswerStats | None = message.stats
    words = []
    if stats and stats.generation_tokens_per_second > 0:
        words.append(format_speed(stats.generation_tokens_per_second, "tokens"))
    if stats and stats.generation_tokens:
        words.append(f"{format_duration(stats.time_to_first_token_seconds)} to first")
    if message.status == Status.STOPPED:
        words.append("stopped")
    elif message.status == Status.FAILED:
        words.append("cut short" if message.content else "failed")
    elif stats and stats.finish_reason in SOME_ENDS:
        words.append(SOME_ENDS[stats.finish_reason])
    return " · ".join(words)
