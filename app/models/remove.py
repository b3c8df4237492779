"""Removes a model after asking: an added one is only forgotten, an own one goes to the trash."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QFile
from PySide6.QtWidgets import QWidget

from app.context import SettingsStore
from app.models.scan import Row
from app.problems import QuestionDialog
from engine.errors import EngineError, NotWritable
from engine.words import format_bytes


def ask_to_remove(
    parent: QWidget,
    row: Row,
    settings: SettingsStore,
    *,
    on_done: Callable[[], None],
    on_failed: Callable[[EngineError], None],
) -> None:
    """Open the question about `row` and return at once; nothing happens before it is answered."""
    action = "Move to the trash" if row.entry.own else "Remove from the list"
    dialog = QuestionDialog(parent, f"Remove {row.entry.name}?", what_is_lost(row), action)

    def on_accepted() -> None:
        try:
            remove_row(row, settings)
        except EngineError as error:
            on_failed(error)
        on_done()

    dialog.accepted.connect(on_accepted)
    dialog.finished.connect(dialog.deleteLater)
    dialog.open()


def what_is_lost(row: Row) -> str:
    """Say exactly what removing `row` does to the disk."""
    entry = row.entry
    if not entry.own:
        return f"Snug forgets it. The files stay where they are:\n{entry.path}"
    size = f", {format_bytes(entry.summary.size_bytes)}," if entry.summary else ""
    if Path(entry.path).is_dir():
        what = f"The folder{size} and everything in it"
    elif len(entry.files) > 1:
        what = f"Its {len(entry.files)} files{size}"
    else:
        what = f"The file{size}"
    return f"{what} will be moved to the trash:\n{entry.path}"


def remove_row(row: Row, settings: SettingsStore) -> None:
    """Forget an added model; move an own one to the trash. Raises NotWritable."""
    entry = row.entry
    if entry.path in settings.value.added_models:
        kept = tuple(path for path in settings.value.added_models if path != entry.path)
        settings.update(added_models=kept)
    if not entry.own:
        return
    for file in entry.files:
        if Path(file).exists() and not QFile.moveToTrash(file):
            raise NotWritable(
                f"{Path(file).name} could not be moved to the trash.",
                hint="This disk may have no trash. Show it in its folder and delete it there.",
                details=file,
            )
