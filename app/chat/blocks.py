"""The widgets of Markdown blocks, and the column that keeps those that did not change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QVBoxLayout, QWidget

from app import icons, theme
from app.chat.code import CodeView
from app.chat.markdown import Block, Code, Prose, Quote, Reasoning, Rule, Table
from app.chat.text import TextView
from app.widgets import QuietButton, hline, row

INDENT_PX = 24


class BlockView(Protocol):
    def show_block(self, block: Block) -> None: ...


class BlockColumn(QWidget):
    """Shows a list of blocks; a new list replaces only what comes after the equal beginning."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._blocks: tuple[Block, ...] = ()
        self._slots: list[_Slot] = []
        self._box = QVBoxLayout(self)
        self._box.setContentsMargins(0, 0, 0, 0)
        self._box.setSpacing(theme.SPACE_8)

    def show_blocks(self, blocks: Sequence[Block]) -> None:
        old, self._blocks = self._blocks, tuple(blocks)
        n_equal = 0
        for before, after in zip(old, self._blocks, strict=False):
            if before is not after and before != after:
                break
            n_equal += 1
        for position in range(n_equal, len(self._blocks)):
            block = self._blocks[position]
            if position < len(self._slots) and type(old[position]) is not type(block):
                self._drop_from(position)
            if position == len(self._slots):
                self._slots.append(_Slot(_view_of(block)))
                self._box.addWidget(self._slots[position])
            self._slots[position].show_block(block)
        self._drop_from(len(self._blocks))

    def _drop_from(self, position: int) -> None:
        for slot in self._slots[position:]:
            self._box.removeWidget(slot)
            slot.hide()
            slot.deleteLater()
        del self._slots[position:]


class _Slot(QWidget):
    """Holds one view and its indent, which stays outside of what the view paints."""

    def __init__(self, view: QWidget) -> None:
        super().__init__()
        self._view = view
        self._box = QVBoxLayout(self)
        self._box.setContentsMargins(0, 0, 0, 0)
        self._box.addWidget(view)

    def show_block(self, block: Block) -> None:
        cast(BlockView, self._view).show_block(block)
        self._box.setContentsMargins(getattr(block, "indent", 0) * INDENT_PX, 0, 0, 0)


def _view_of(block: Block) -> QWidget:
    match block:
        case Prose():
            return ProseView("Text of the answer")
        case Code():
            return CodeView()
        case Table():
            return TableView("Table")
        case Quote():
            return QuoteView()
        case Rule():
            return RuleView()
        case Reasoning():
            return ReasoningView()


class ProseView(TextView):
    def show_block(self, block: Prose) -> None:
        self.show_html(block.html)


class TableView(TextView):
    """A table as rich text, with a line under each row."""

    def show_block(self, block: Table) -> None:
        rows = []
        for number, cells in enumerate(block.rows):
            tag = "th" if number == 0 else "td"
            pairs = zip(cells, block.aligns, strict=False)
            line = "".join(f'<{tag} align="{align}">{cell}</{tag}>' for cell, align in pairs)
            rows.append(f"<tr>{line}</tr>")
        self.show_html(f'<table cellspacing="0">{"".join(rows)}</table>')


def _side_line() -> QFrame:
    line = QFrame()
    line.setProperty("role", "line-vertical")
    return line


class QuoteView(QWidget):
    def __init__(self) -> None:
        super().__init__()
        self._column = BlockColumn()
        self.setLayout(row(_side_line(), self._column, spacing=theme.SPACE_12))

    def show_block(self, block: Quote) -> None:
        self._column.show_blocks(block.blocks)


class RuleView(QWidget):
    def __init__(self) -> None:
        super().__init__()
        box = QVBoxLayout(self)
        box.setContentsMargins(0, theme.SPACE_8, 0, theme.SPACE_8)
        box.addWidget(hline())

    def show_block(self, block: Rule) -> None:
        """A rule has nothing to show but itself."""


class ReasoningView(QWidget):
    """What the model thought, folded away until asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.fold = QuietButton("", "chevron-right")
        self.fold.setStyleSheet("padding-left: 0;")  # in line with the text below
        self.fold.clicked.connect(self._on_fold_clicked)
        self._text = TextView("Reasoning")
        self._aside = QWidget()
        self._aside.setLayout(row(_side_line(), self._text, spacing=theme.SPACE_12))
        self._aside.hide()
        self._block = Reasoning("", False)
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(theme.SPACE_4)
        box.addWidget(self.fold, 0, Qt.AlignmentFlag.AlignLeft)
        box.addWidget(self._aside)

    def show_block(self, block: Reasoning) -> None:
        self._block = block
        self.fold.setText("Thought about it" if block.is_closed else "Thinking…")
        if not self._aside.isHidden():
            self._text.show_plain(block.text)

    def _on_fold_clicked(self) -> None:
        is_open = self._aside.isHidden()
        self.fold.setIcon(icons.icon("chevron-down" if is_open else "chevron-right", "second"))
        if is_open:
            self._text.show_plain(self._block.text)
        self._aside.setVisible(is_open)
