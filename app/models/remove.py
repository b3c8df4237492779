"""Removes a model, and takes that back: an added one is forgotten, an own one goes to the trash.

Forgetting loses nothing, so it does not ask; what goes to the trash does.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QWidget

from app.background import in_background
from app.context import SettingsStore
from app.models.scan import Row
from app.problems import QuestionDialog
from app.widgets import Toast
from engine.errors import EngineError
from engine.quantize.report import report_path
from engine.words import format_bytes

if TYPE_CHECKING:
    from app.models.trash import Trashed


class Remover(QObject):
    """Removes models of `page`; `toast` offers to take the last one back."""

    changed = Signal(str)
    """The model at this path is gone, or here again."""
    failed = Signal(EngineError)

    def __init__(self, page: QWidget, settings: SettingsStore, toast: Toast) -> None:
        super().__init__(page)
        self._page = page
        self._settings = settings
        self._toast = toast

    def remove(self, row: Row) -> None:
        """Forget an added model; open the question about an own one, and return at once."""
        path = row.entry.path
        if not row.entry.own:
            place = self._forget(path)
            self._toast.offer("Removed from the list", partial(self._remember, path, place))
            self.changed.emit(path)
            return
        heading, action = f"Remove {row.entry.name}?", "Move to the trash"
        dialog = QuestionDialog(self._page, heading, what_is_lost(row), action)
        dialog.accepted.connect(partial(self._trash, row))
        dialog.finished.connect(dialog.deleteLater)
        dialog.open()

    def _forget(self, path: str) -> int | None:
        """Take `path` from the added models; returns its place among them, if it was one."""
        added = self._settings.value.added_models
        if path not in added:
            return None
        self._settings.update(added_models=tuple(other for other in added if other != path))
        return added.index(path)

    def _remember(self, path: str, place: int | None) -> None:
        added = list(self._settings.value.added_models)
        if place is not None and path not in added:
            added.insert(place, path)
            self._settings.update(added_models=tuple(added))
        self.changed.emit(path)

    def _trash(self, row: Row) -> None:
        from app.models.trash import move_to_trash

        path = row.entry.path
        work = partial(move_to_trash, (*row.entry.files, str(report_path(Path(path)))))
        in_background(self, work, partial(self._on_trashed, path), partial(self._on_failed, path))

    def _on_trashed(self, path: str, trashed: tuple[Trashed, ...]) -> None:
        place = self._forget(path)
        if all(item.in_trash for item in trashed):
            undo = partial(self._bring_back, path, trashed, place)
            self._toast.offer("Moved to the trash", undo)
        self.changed.emit(path)

    def _bring_back(self, path: str, trashed: tuple[Trashed, ...], place: int | None) -> None:
        from app.models.trash import bring_back

        work = partial(bring_back, trashed)
        in_background(
            self, work, lambda _: self._remember(path, place), partial(self._on_failed, path)
        )

    def _on_failed(self, path: str, error: EngineError) -> None:
        self.failed.emit(error)
        self.changed.emit(path)


def what_is_lost(row: Row) -> str:
    """Say exactly what removing the own model `row` does to the disk."""
    entry = row.entry
    size = f", {format_bytes(entry.summary.size_bytes)}," if entry.summary else ""
    if Path(entry.path).is_dir():
        what = f"The folder{size} and everything in it"
    elif len(entry.files) > 1:
        what = f"Its {len(entry.files)} files{size}"
    else:
        what = f"The file{size}"
    return f"{what} will be moved to the trash:\n{entry.path}"
