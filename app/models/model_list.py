"""The list of models: a Qt model over them, and the words of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from PySide6.QtCore import (
    QAbstractListModel,
    QModelIndex,
    QObject,
    QPersistentModelIndex,
    Qt,
    Signal,
)

from app.models.scan import Row
from app.models.verdict import Conditions, Tone
from engine.words import format_bytes, format_count, format_path

if TYPE_CHECKING:
    from engine.scan import Model

Index = QModelIndex | QPersistentModelIndex
ROW_ROLE = Qt.ItemDataRole.UserRole
LINES_ROLE = Qt.ItemDataRole.UserRole + 1
MOST_CHANGES = 50
"""So many models may come and go before the list counts as another one."""


class Lines(NamedTuple):
    """What a row shows: name and facts at the left, size and badge at the right."""

    name: str
    facts: tuple[str, ...]
    size: str
    badge: str
    tone: Tone


class ModelList(QAbstractListModel):
    """Models for a view; ROW_ROLE gives a `Row`, LINES_ROLE what is shown of it.

    There may be thousands: a row is made, and judged, when it is first looked at.
    """

    repainted = Signal()
    """The same models say something else."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.models: tuple[Model, ...] = ()
        self._conditions: Conditions | None = None
        self._facts = facts
        self._rows: dict[int, Row] = {}

    def show(
        self, models: tuple[Model, ...], conditions: Conditions, *, are_copies: bool = False
    ) -> None:
        """Show `models`; where few come or go, the others keep selection and scroll position.

        Of copies of one model it is said where each lies, not what it is. Models that are known
        already are best the same objects: they are not looked at.
        """
        self._facts = places if are_copies else facts
        self._conditions = conditions
        head = _n_same(self.models, models)
        tail = _n_same(self.models[head:][::-1], models[head:][::-1])
        old, new = (
            [model.entry.path for model in some[head : len(some) - tail]]
            for some in (self.models, models)
        )
        gone, come = set(old) - set(new), set(new) - set(old)
        is_in_order = [path for path in old if path not in gone] == [
            path for path in new if path not in come
        ]
        if not is_in_order or len(gone) + len(come) > MOST_CHANGES:
            self.beginResetModel()
            self._take(models)
            self.endResetModel()
            return
        for at in [head + at for at, path in enumerate(old) if path in gone][::-1]:
            self.beginRemoveRows(QModelIndex(), at, at)
            self._take(self.models[:at] + self.models[at + 1 :])
            self.endRemoveRows()
        for at in [head + at for at, path in enumerate(new) if path in come]:
            self.beginInsertRows(QModelIndex(), at, at)
            self._take((*self.models[:at], models[at], *self.models[at:]))
            self.endInsertRows()
        self._take(models)
        self.repainted.emit()  # `dataChanged` has a view lay out all of them again

    def _take(self, models: tuple[Model, ...]) -> None:
        self.models = models
        self._rows.clear()

    def row(self, at: int) -> Row:
        """What is known of the model at this place."""
        if at not in self._rows:
            model = self.models[at]
            assert self._conditions
            self._rows[at] = Row(model.entry, model.estimate, self._conditions)
        return self._rows[at]

    def index_of(self, path: str) -> QModelIndex:
        """The index of the model at `path`; invalid where it is not listed."""
        for number, model in enumerate(self.models):
            if model.entry.path == path:
                return self.index(number)
        return QModelIndex()

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008 - Qt's signature
        return 0 if parent.isValid() else len(self.models)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        row = self.row(index.row())
        match role:
            case Qt.ItemDataRole.UserRole:
                return row
            case _ if role == LINES_ROLE:
                return lines(row, self._facts)
            case Qt.ItemDataRole.DisplayRole:
                return row.entry.name
            case Qt.ItemDataRole.ToolTipRole:
                return row.verdict.reason
            case Qt.ItemDataRole.AccessibleTextRole:
                return ", ".join((row.entry.name, *self._facts(row), row.verdict.words))
        return None


def _n_same(old: Sequence[object], new: Sequence[object]) -> int:
    """How many are the same objects in both, from the beginning on."""
    pairs = enumerate(zip(old, new, strict=False))
    return next((at for at, (a, b) in pairs if a is not b), min(len(old), len(new)))


def lines(row: Row, facts_of: Callable[[Row], tuple[str, ...]]) -> Lines:
    verdict, summary = row.verdict, row.entry.summary
    size = format_bytes(summary.size_bytes) if summary else ""
    return Lines(row.entry.name, facts_of(row), size, verdict.words, verdict.tone)


def facts(row: Row) -> tuple[str, ...]:
    """What is said of a model under its name: parameters and exact type."""
    summary = row.entry.summary
    if summary is None:
        return (row.entry.problem,)
    kind = ("Checkpoint",) if summary.kind == "checkpoint" else ()
    return (*kind, f"{format_count(summary.n_params)} parameters", summary.type)


def places(row: Row) -> tuple[str, ...]:
    """What is said of one of several copies under its name: whose it is, and where."""
    entry = row.entry
    owner = entry.origin or ("Models folder" if entry.own else "Added")
    return ("Part of Snug",) if entry.is_starter else (owner, format_path(entry.path))
