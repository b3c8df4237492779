"""What the result is to be good at: text in general, the user's files, or their conversations."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFileDialog, QWidget

from app import theme
from app.widgets import SegmentedControl, TextLink, column, row, second, strong
from engine.words import plural

Kind = Literal["general", "files", "conversations"]
FILTER = "Texts and conversations (*.txt *.md *.jsonl);;All files (*)"
_WORDS = {
    "general": "Prose, conversations and code that come with Snug.",
    "conversations": "Your conversations in Snug. They stay on this computer: a private file of"
    " them is there only while the shrink runs.",
}


class TextsChoice(QWidget):
    changed = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.files: tuple[str, ...] = ()
        options = [
            ("general", "Anything"),
            ("files", "My texts"),
            ("conversations", "My conversations"),
        ]
        self.kinds = SegmentedControl("Tune for", options)
        self.kinds.set_value("general")
        self.kinds.chosen.connect(self._on_chosen)
        self._what = second("")
        self.choose_link = TextLink("Choose other files")
        self.choose_link.clicked.connect(self.choose_files)
        caption = strong("Tune for")
        caption.setWordWrap(False)
        heading = row(caption, None, self.kinds, spacing=theme.SPACE_12)
        below = row(self._what, self.choose_link)
        below.setStretch(0, 1)
        self.setLayout(column(heading, below, spacing=theme.SPACE_4))
        self._tell()

    @property
    def kind(self) -> Kind:
        value = self.kinds.value
        return "files" if value == "files" else "general" if value == "general" else "conversations"

    def choose_files(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(self, "Choose texts", str(Path.home()), FILTER)
        self.set_files(tuple(paths) or self.files)

    def set_files(self, paths: tuple[str, ...]) -> None:
        """Tune for `paths`; without any, for text in general."""
        self.files = paths
        self.kinds.set_value("files" if paths else "general")
        self._tell()

    def _on_chosen(self) -> None:
        if self.kind == "files" and not self.files:
            self.choose_files()
        self._tell()

    def _tell(self) -> None:
        self.choose_link.setVisible(self.kind == "files")
        if self.kind == "files":
            names = ", ".join(Path(path).name for path in self.files[:3])
            more = f" and {plural(len(self.files) - 3, 'more file')}" if len(self.files) > 3 else ""
            self._what.setText(f"{names}{more}. They are read on this computer, and stay there.")
            self._what.setToolTip("\n".join(self.files))
        else:
            self._what.setText(_WORDS[self.kind])
            self._what.setToolTip("")
        self.changed.emit()
