"""The list of models: a Qt model over the rows, and the words of one."""

from __future__ import annotations

from typing import Any, NamedTuple

from PySide6.QtCore import QAbstractListModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from app.models.scan import Row
from app.models.verdict import Tone
from engine.words import format_bytes, format_count

Index = QModelIndex | QPersistentModelIndex
ROW_ROLE = Qt.ItemDataRole.UserRole
LINES_ROLE = Qt.ItemDataRole.UserRole + 1


class Lines(NamedTuple):
    """What a row shows: name and facts at the left, size and badge at the right."""

    name: str
    facts: tuple[str, ...]
    size: str
    badge: str
    tone: Tone


class ModelList(QAbstractListModel):
    """Rows for a view; ROW_ROLE gives the `Row` itself, LINES_ROLE what is shown of it."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._rows: tuple[Row, ...] = ()

    @property
    def rows(self) -> tuple[Row, ...]:
        return self._rows

    def set_rows(self, rows: tuple[Row, ...]) -> None:
        """Show `rows`; the same models in the same order keep selection and scroll position."""
        if [row.entry.path for row in rows] == [row.entry.path for row in self._rows]:
            self._rows = rows
            if rows:
                self.dataChanged.emit(self.index(0), self.index(len(rows) - 1))
            return
        self.beginResetModel()
        self._rows = rows
        self.endResetModel()

    def index_of(self, path: str) -> QModelIndex:
        """The index of the model at `path`; invalid where it is not listed."""
        for number, row in enumerate(self._rows):
            if row.entry.path == path:
                return self.index(number)
        return QModelIndex()

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's signature
        return 0 if parent.isValid() else len(self._rows)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row = self._rows[index.row()]
        match role:
            case Qt.ItemDataRole.UserRole:
                return row
            case _ if role == LINES_ROLE:
                return lines(row)
            case Qt.ItemDataRole.DisplayRole:
                return row.entry.name
            case Qt.ItemDataRole.ToolTipRole:
                return row.verdict.reason
            case Qt.ItemDataRole.AccessibleTextRole:
                return ", ".join((row.entry.name, *facts(row), row.verdict.words))
        return None


def lines(row: Row) -> Lines:
    verdict, summary = row.verdict, row.entry.summary
    size = format_bytes(summary.size_bytes) if summary else ""
    return Lines(row.entry.name, facts(row), size, verdict.words, verdict.tone)


def facts(row: Row) -> tuple[str, ...]:
    """What is said of a model under its name: parameters and exact type."""
    summary = row.entry.summary
    if summary is None:
        return (row.entry.problem,)
    kind = ("Checkpoint",) if summary.kind == "checkpoint" else ()
    return (*kind, f"{format_count(summary.n_params)} parameters", summary.type)
