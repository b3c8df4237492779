"""What is known of the selected model, and what can be done with it."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QLabel, QSizePolicy, QWidget

from app import theme
from app.models.scan import Row
from app.widgets import (
    Badge,
    Card,
    ElidedLabel,
    IconButton,
    PrimaryButton,
    Scroll,
    SecondaryButton,
    body,
    column,
    second,
    section,
)
from app.widgets import (
    row as hbox,
)
from app.words import format_bytes, format_bytes_exact, format_count, plural

SIXTEEN_BITS = ("F32", "F16", "BF16")


class Details(Card):
    """The card at the right of the Models page; the page knows which model it is."""

    chat_clicked = Signal()
    shrink_clicked = Signal()
    reveal_clicked = Signal()
    remove_clicked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent=parent)
        self.setFixedWidth(320)
        self.setAccessibleName("Details of the selected model")
        self._name = section("")
        self._name.setWordWrap(True)
        self._badge = Badge("")
        self._problem = body("")
        self._facts = QWidget()
        self._grid = QGridLayout(self._facts)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(theme.SPACE_16)
        self._grid.setVerticalSpacing(theme.SPACE_8)
        self._grid.setColumnStretch(1, 1)
        self.chat_button = PrimaryButton("Chat", "chat")
        self.shrink_button = SecondaryButton("Shrink", "shrink")
        self.shrink_first_button = PrimaryButton("Shrink", "shrink")
        self.reveal_button = IconButton("reveal", "Show in folder")
        self.remove_button = IconButton("trash", "Remove")
        self.chat_button.clicked.connect(self.chat_clicked)
        self.shrink_button.clicked.connect(self.shrink_clicked)
        self.shrink_first_button.clicked.connect(self.shrink_clicked)
        self.reveal_button.clicked.connect(self.reveal_clicked)
        self.remove_button.clicked.connect(self.remove_clicked)
        self._lay_out()

    def _lay_out(self) -> None:
        content = QWidget()
        content.setLayout(
            column(
                self._name,
                hbox(self._badge, None),
                self._problem,
                theme.SPACE_8,
                self._facts,
                None,
                spacing=theme.SPACE_8,
            )
        )
        self.body.addWidget(Scroll(content), 1)
        self.body.addSpacing(theme.SPACE_8)
        self.body.addLayout(
            hbox(
                self.chat_button,
                self.shrink_first_button,
                self.shrink_button,
                None,
                self.reveal_button,
                self.remove_button,
            )
        )

    def show_row(self, row: Row) -> None:
        entry, summary = row.entry, row.entry.summary
        self._name.setText(entry.name)
        self._badge.set(row.verdict.words, row.verdict.tone)
        self._badge.setToolTip(row.verdict.reason)
        self._problem.setText(" ".join(part for part in (entry.problem, entry.hint) if part))
        self._problem.setVisible(bool(entry.problem))
        is_chattable = summary is not None and summary.kind == "gguf"
        is_source = can_shrink(row)
        self.chat_button.setVisible(is_chattable)
        self.shrink_first_button.setVisible(is_source and not is_chattable)
        self.shrink_button.setVisible(is_source and is_chattable)
        self._show_facts(row)

    def _show_facts(self, row: Row) -> None:
        while self._grid.count():
            item = self._grid.takeAt(0)
            if item and (label := item.widget()):
                label.deleteLater()
        for number, (what, value, tooltip) in enumerate(_facts(row)):
            key = second(what)
            key.setWordWrap(False)
            key.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)
            shown = _path_label(value) if what == "Path" else body(value)
            shown.setAccessibleName(f"{what}: {value}")
            shown.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            if tooltip:
                shown.setToolTip(tooltip)
            top = Qt.AlignmentFlag.AlignTop
            self._grid.addWidget(key, number, 0, top)
            self._grid.addWidget(shown, number, 1, top)


def can_shrink(row: Row) -> bool:
    """A checkpoint or a GGUF of 16 or 32 bits is a source; what is quantized already is not."""
    summary = row.entry.summary
    if summary is None:
        return False
    return summary.kind == "checkpoint" or not summary.quantized


def _path_label(path: str) -> QLabel:
    return ElidedLabel(path, mode=Qt.TextElideMode.ElideMiddle)


def _facts(row: Row) -> list[tuple[str, str, str]]:
    """What is shown of a model: (what, value, tooltip)."""
    summary, verdict = row.entry.summary, row.verdict
    if summary is None:
        return [("Path", row.entry.path, "")]
    facts = [
        ("Size", format_bytes(summary.size_bytes), format_bytes_exact(summary.size_bytes)),
        ("Type", f"{summary.type}, {summary.bits_per_weight:.2f} bits per weight", ""),
        ("Parameters", format_count(summary.n_params), f"{summary.n_params:,}"),
        ("Architecture", summary.architecture, ""),
        ("Layers", str(summary.n_layers), ""),
        ("Context", f"{summary.n_ctx_train:,} tokens", "As long as it was trained for"),
        ("Vocabulary", f"{summary.n_vocab:,} tokens", ""),
        ("Template", "Its own" if summary.has_chat_template else "None: it continues text", ""),
        ("Licence", summary.license or "Not stated", ""),
    ]
    if verdict.memory:
        total = format_bytes(verdict.memory.total_bytes)
        context = plural(verdict.n_ctx, "token")
        facts.append(("Memory", f"{total} predicted, with {context} of context", verdict.reason))
    facts.append(("Path", row.entry.path, row.entry.path))
    return facts
