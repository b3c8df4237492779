"""What is known of the selected model, and what can be done with it."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QGridLayout, QLabel, QWidget

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
from engine.words import format_bytes, format_bytes_exact, format_count

FACTS = (
    "Size",
    "Type",
    "Parameters",
    "Architecture",
    "Layers",
    "Context",
    "Vocabulary",
    "Template",
    "Licence",
    "Memory",
    "From",
    "Path",
)


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
        self._lines: dict[str, tuple[QLabel, QLabel]] = {}
        self._build_facts()
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
        self.remove_button.setVisible(not (entry.is_starter or entry.origin))
        self._show_facts(row)

    def _build_facts(self) -> None:
        top = Qt.AlignmentFlag.AlignTop
        for line, what in enumerate(FACTS):
            key = second(what)
            key.setWordWrap(False)
            value = ElidedLabel(mode=Qt.TextElideMode.ElideMiddle) if what == "Path" else body("")
            value.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            self._grid.addWidget(key, line, 0, top)
            self._grid.addWidget(value, line, 1, top)
            self._lines[what] = (key, value)

    def _show_facts(self, row: Row) -> None:
        facts = _facts(row)
        for what, (key, value) in self._lines.items():
            text, tooltip = facts.get(what, ("", ""))
            value.setText(text)
            value.setToolTip(tooltip)
            value.setAccessibleName(f"{what}: {text}")
            key.setVisible(bool(text))
            value.setVisible(bool(text))


def can_shrink(row: Row) -> bool:
    """A checkpoint or a GGUF of 16 or 32 bits is a source; what is quantized already is not."""
    summary = row.entry.summary
    if summary is None:
        return False
    return summary.kind == "checkpoint" or not summary.quantized


def _facts(row: Row) -> dict[str, tuple[str, str]]:
    """What is shown of a model: (value, tooltip) of each of FACTS that is known."""
    summary, memory = row.entry.summary, row.verdict.memory
    facts = {"Path": (row.entry.path, row.entry.path)}
    if summary is None:
        return facts
    facts |= {
        "Size": (format_bytes(summary.size_bytes), format_bytes_exact(summary.size_bytes)),
        "Type": (f"{summary.type}, {summary.bits_per_weight:.2f} bits per weight", ""),
        "Parameters": (format_count(summary.n_params), f"{summary.n_params:,}"),
        "Architecture": (summary.architecture, ""),
        "Layers": (str(summary.n_layers), ""),
        "Context": (f"{summary.n_ctx_train:,} tokens", "As long as it was trained for"),
        "Vocabulary": (f"{summary.n_vocab:,} tokens", ""),
        "Template": ("Its own" if summary.has_chat_template else "None, it continues text", ""),
        "Licence": (summary.license or "Not stated", ""),
    }
    if source := row.entry.source:
        facts["From"] = (source.repo, f"Revision {source.revision}, verified by {source.digest}")
    elif row.entry.origin:
        facts["From"] = (row.entry.origin, "It belongs to that app; Snug only reads it")
    if memory:
        words = f"{format_bytes(memory.total_bytes)} with {row.verdict.n_ctx:,} tokens"
        facts["Memory"] = (words, f"Predicted:\n{row.verdict.reason}")
    return facts
