"""Adds models by reference: files and folders from anywhere on this computer; nothing is copied."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFileDialog, QWidget

from app.background import in_background
from app.context import AppContext
from app.widgets import SecondaryButton, row
from engine.errors import EngineError


class AddButtons(QWidget):
    """At the head of the page; `add` takes what comes by another way."""

    added = Signal(str)
    """The first of the models that were found, listed before or not; nothing where none was."""
    failed = Signal(object)
    """An EngineError: why one of the paths leads to no model."""

    def __init__(self, context: AppContext, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._context = context
        file_button = SecondaryButton("Add a file", "file")
        file_button.setToolTip("Add a GGUF file from anywhere on this computer")
        file_button.clicked.connect(self._on_file_clicked)
        folder_button = SecondaryButton("Add a folder", "folder")
        folder_button.setToolTip("Add a checkpoint folder, or every model in a folder")
        folder_button.clicked.connect(self._on_folder_clicked)
        self.setLayout(row(file_button, folder_button))

    def add(self, paths: list[str]) -> None:
        """Add the models that `paths` lead to; each that leads to none has `failed` say why."""
        in_background(self, partial(_find_all, paths), self._on_found, self.failed.emit)

    def _on_found(self, found: tuple[list[str], list[EngineError]]) -> None:
        paths, problems = found
        for error in problems:
            self.failed.emit(error)
        settings, shelf = self._context.settings, self._context.shelf
        known = settings.value.added_models
        listed = {model.entry.path for model in shelf.listed} if shelf else set()
        new = [path for path in dict.fromkeys(paths) if path not in listed.union(known)]
        if new:
            settings.update(added_models=(*known, *new))
        self.added.emit(paths[0] if paths else "")

    def _on_file_clicked(self) -> None:
        paths, _ = QFileDialog.getOpenFileNames(
            self, "Add models", str(Path.home()), "GGUF models (*.gguf);;All files (*)"
        )
        if paths:
            self.add(paths)

    def _on_folder_clicked(self) -> None:
        path = QFileDialog.getExistingDirectory(self, "Add a folder", str(Path.home()))
        if path:
            self.add([path])


def _find_all(paths: list[str]) -> tuple[list[str], list[EngineError]]:
    """The models that `paths` lead to, and what is wrong with those that lead to none."""
    from engine.addable import find_addable

    models, problems = [], []
    for path in paths:
        try:
            models += find_addable(Path(path))
        except EngineError as error:
            problems.append(error)
    return models, problems
