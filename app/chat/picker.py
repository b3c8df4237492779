"""The head of the chat page: which model answers, how far it has loaded, and the ones to choose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QPoint, Qt, Signal
from PySide6.QtGui import QAction, QActionGroup
from PySide6.QtWidgets import QFileDialog, QFrame, QMenu, QVBoxLayout, QWidget

from app import theme
from app.chat.session import Session, State
from app.context import AppContext
from app.widgets import IconButton, ProgressBar, QuietButton, row, second
from engine.words import format_bytes, format_count, format_percent, format_time_left

if TYPE_CHECKING:
    from app.models.scan import Shelf
    from engine.scan import Model

HEIGHT_PX = 56
NAME_CHARS = 48


class ModelPicker(QFrame):
    """Chooses, loads and unloads the model of `session`."""

    models_requested = Signal()
    file_chosen = Signal(str)
    sidebar_requested = Signal()
    looked = Signal(object)
    """The Computer, after every look for models."""

    def __init__(
        self, context: AppContext, session: Session, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._context = context
        self._session = session
        self._models: tuple[Model, ...] = ()
        self._scan = context.scan
        self._scan.found.connect(self._on_found)
        self.sidebar_button = IconButton("sidebar", "Conversations")
        self.sidebar_button.clicked.connect(self.sidebar_requested)
        self.button = QuietButton("Choose a model", "chevron-down")
        self.button.setLayoutDirection(Qt.LayoutDirection.RightToLeft)  # the sign after the name
        self.button.setAccessibleName("Model")
        self.button.setToolTip("Choose the model that answers")
        self.button.clicked.connect(self.open_menu)
        self._about = second("")
        self._about.setWordWrap(False)
        self.cancel_button = IconButton("close", "Stop loading", size_px=28)
        self.cancel_button.clicked.connect(session.stop)
        self._context_label = second("")
        self._context_label.setWordWrap(False)
        self.bar = ProgressBar("Loading the model")
        self.bar.setFixedHeight(3)
        self.bar.hide()
        self.menu: QMenu | None = None
        line = row(
            self.sidebar_button,
            self.button,
            self._about,
            self.cancel_button,
            None,
            self._context_label,
        )
        line.setContentsMargins(theme.SPACE_16, 0, theme.PAGE_MARGIN, 0)
        self.setFixedHeight(HEIGHT_PX)
        box = QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(0)
        box.addStretch(1)
        box.addLayout(line)
        box.addStretch(1)
        box.addWidget(self.bar)
        session.changed.connect(self._on_changed)
        session.progressed.connect(self._on_progressed)
        self._on_changed()

    def refresh(self) -> None:
        """Look for models, beside the window; the menu shows what was found last."""
        self._scan.start()

    def open_menu(self) -> None:
        self.refresh()
        self.menu = self._build_menu()
        self.menu.popup(self.button.mapToGlobal(QPoint(0, self.button.height() + theme.SPACE_4)))

    def _on_found(self, shelf: Shelf) -> None:
        self.looked.emit(shelf.computer)
        if shelf.listed == self._models:
            return
        self._models = shelf.listed
        if self.menu and self.menu.isVisible():
            self._fill(self.menu)

    def _build_menu(self) -> QMenu:
        if self.menu:
            self.menu.deleteLater()
        menu = QMenu(self)
        menu.setToolTipsVisible(True)
        self._fill(menu)
        return menu

    def _fill(self, menu: QMenu) -> None:
        menu.clear()
        group = QActionGroup(menu)
        for entry in (model.entry for model in self._models):
            summary = entry.summary
            if summary is None or summary.kind != "gguf":
                continue
            name = shortened(entry.name).replace("&", "&&")
            action = QAction(f"{name}\t{summary.type} · {format_bytes(summary.size_bytes)}", menu)
            action.setToolTip(entry.path)
            action.setCheckable(True)
            action.setChecked(entry.path == self._session.model_path)
            action.triggered.connect(lambda _on, path=entry.path: self.file_chosen.emit(path))
            group.addAction(action)
            menu.addAction(action)
        menu.addSeparator()
        menu.addAction("Open a file…", self._on_open_clicked)
        menu.addAction("Manage models", self.models_requested.emit)
        if self._session.info is not None:
            menu.addAction("Unload the model", self._session.dismiss)

    def _on_open_clicked(self) -> None:
        dialog = QFileDialog(self, "Open a model", self._context.settings.value.models_folder)
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.setNameFilter("GGUF models (*.gguf)")
        dialog.fileSelected.connect(self.file_chosen)
        dialog.open()

    def _on_changed(self) -> None:
        session = self._session
        info = session.info
        name = info.name if info and info.name else Path(session.model_path).stem
        self.button.setText(shortened(name) or "Choose a model")
        is_loading = session.state == State.LOADING
        self.cancel_button.setVisible(is_loading)
        self.bar.setVisible(is_loading)
        self._context_label.setText(f"{format_count(info.n_ctx)} context" if info else "")
        if info:
            self._about.setText(f"{info.type} · {info.device}")
            self._about.setToolTip(f"{format_bytes(info.size_bytes)}, {info.n_threads} threads")
        elif is_loading:
            self._on_progressed()
        elif session.model_path:
            self._about.setText("not loaded")
        else:
            self._about.setText("")

    def _on_progressed(self) -> None:
        if self._session.state != State.LOADING:
            return
        fraction = self._session.pace.fraction
        self.bar.set_fraction(fraction)
        words = ["Loading", format_percent(fraction) if fraction is not None else ""]
        words.append(format_time_left(self._session.pace.seconds_left))
        self._about.setText(" · ".join(word for word in words if word))


def shortened(name: str) -> str:
    """A model's name for one line: the middle goes, the end often says which one it is."""
    if len(name) <= NAME_CHARS:
        return name
    return f"{name[: NAME_CHARS - 16]}…{name[-15:]}"
