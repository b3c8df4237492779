"""Problems as people see them: what happened, what to do, and the details for who wants them.

A `ProblemCard` shows an EngineError where it happened. Anything else is a bug of ours: the
`BugDialog`, which `app/bugs.py` opens, has a traceback to copy.
"""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import (
    QDialog,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QVBoxLayout,
    QWidget,
)

from app import theme
from app.widgets import (
    Card,
    DangerButton,
    IconButton,
    IconLabel,
    PrimaryButton,
    SecondaryButton,
    TextLink,
    body,
    row,
    section,
)
from engine.errors import EngineError


class ProblemCard(Card):
    """An expected failure: its sentence, its next step, buttons that do it, and Details."""

    action = Signal()
    other_action = Signal()
    dismissed = Signal()

    def __init__(
        self,
        error: EngineError,
        *action_texts: str,
        can_dismiss: bool = True,
        parent: QWidget | None = None,
    ) -> None:
        """`action_texts` are the words of at most two buttons."""
        super().__init__("card-bad", parent)
        self.error = error
        message = body(error.message)
        message.setProperty("role", "strong")
        message.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.setAccessibleName(f"Problem: {error.message}")
        top = QHBoxLayout()
        top.setSpacing(theme.SPACE_12)
        top.addWidget(IconLabel("warning", 20, "bad"), 0, Qt.AlignmentFlag.AlignTop)
        words = QVBoxLayout()
        words.setSpacing(theme.SPACE_4)
        words.addWidget(message)
        if error.hint:
            words.addWidget(body(error.hint))
        words.addStretch(1)
        top.addLayout(words, 1)
        if can_dismiss:
            close = IconButton("close", "Dismiss", size_px=24)
            close.clicked.connect(self.dismissed)
            top.addWidget(close, 0, Qt.AlignmentFlag.AlignTop)
        self.body.addLayout(top)
        buttons = row(theme.SPACE_32)
        self.action_buttons = [SecondaryButton(text) for text in action_texts]
        for button, signal in zip(
            self.action_buttons, (self.action, self.other_action), strict=False
        ):
            button.clicked.connect(signal)
            buttons.addWidget(button)
        if error.details:
            self._details = _details_box(error.details)
            self._details.hide()
            self._fold = TextLink("Details")
            self._fold.clicked.connect(self._on_fold_clicked)
            buttons.addWidget(self._fold)
        buttons.addStretch(1)
        if action_texts or error.details:
            self.body.addLayout(buttons)
        if error.details:
            self.body.addWidget(self._details)

    @property
    def action_button(self) -> SecondaryButton | None:
        """The first of its buttons."""
        return self.action_buttons[0] if self.action_buttons else None

    def _on_fold_clicked(self) -> None:
        is_hidden = self._details.isHidden()
        self._details.setVisible(is_hidden)
        self._fold.setText("Hide details" if is_hidden else "Details")


def _details_box(text: str, height_px: int = 120) -> QPlainTextEdit:
    box = QPlainTextEdit(text)
    box.setProperty("role", "code")
    box.setReadOnly(True)
    box.setTabChangesFocus(True)
    box.setFixedHeight(height_px)
    box.setAccessibleName("Details")
    return box


def paragraph(text: str, width_px: int) -> QLabel:
    """Wrapped text of a fixed size: a dialog does not ask its layout how high text gets."""
    words = body(text)
    words.ensurePolished()
    words.setFixedSize(width_px, words.heightForWidth(width_px))
    return words


def ask(parent: QWidget, heading: str, text: str, action_text: str) -> bool:
    """Ask before something is lost: `text` says what, `action_text` is the button that does it.

    Esc and the focused button keep everything as it is.
    """
    dialog = QuestionDialog(parent, heading, text, action_text)
    return dialog.exec() == QDialog.DialogCode.Accepted


class QuestionDialog(QDialog):
    """The dialog of `ask`, for who needs to open it without waiting."""

    def __init__(self, parent: QWidget, heading: str, text: str, action_text: str) -> None:
        super().__init__(parent)
        self.setWindowTitle(heading)
        self.setModal(True)
        self.keep_button = SecondaryButton("Cancel")
        self.keep_button.clicked.connect(self.reject)
        self.action_button = DangerButton(action_text)
        self.action_button.clicked.connect(self.accept)
        words = paragraph(text, 380)
        box = QVBoxLayout(self)
        box.setContentsMargins(*(theme.PAGE_MARGIN,) * 4)
        box.setSpacing(theme.SPACE_12)
        box.addWidget(section(heading))
        box.addWidget(words)
        box.addSpacing(theme.SPACE_8)
        box.addLayout(row(None, self.keep_button, self.action_button))
        self.keep_button.setDefault(True)
        self.keep_button.setFocus()


class BugDialog(QDialog):
    """Something went wrong that nobody foresaw: the traceback, ready to copy."""

    def __init__(self, report: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Something went wrong")
        self.report = report
        copy = SecondaryButton("Copy", "copy")
        copy.clicked.connect(self._on_copy_clicked)
        close = PrimaryButton("Go on")
        close.clicked.connect(self.accept)
        box = QVBoxLayout(self)
        box.setContentsMargins(*(theme.PAGE_MARGIN,) * 4)
        box.setSpacing(theme.SPACE_12)
        box.addWidget(section("Something went wrong in Snug"))
        words = paragraph(
            "This is a fault of the program, not yours. Your conversations and models are"
            " safe. The text below helps whoever mends it.",
            512,
        )
        box.addWidget(words)
        box.addWidget(_details_box(report, 220))
        box.addLayout(row(copy, None, close))

    def _on_copy_clicked(self) -> None:
        QGuiApplication.clipboard().setText(self.report)
