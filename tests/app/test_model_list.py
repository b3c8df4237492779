"""The list of models stays quick with many: what is counted here is work, not time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from PySide6.QtCore import QModelIndex, Qt
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app import theme
from app.models import verdict
from app.models.list_view import ModelListView
from app.models.model_list import LINES_ROLE, Index, ModelList
from app.models.row import GAP, HEIGHT
from app.models.verdict import Conditions, Verdict
from engine.ggml_types import GgmlType
from engine.hardware import detect
from engine.library import Library
from engine.scan import Model
from tests.helpers.headers import Sizes, header

N_MODELS = 300
N_IN_SIGHT = 8
ROW_PX = HEIGHT + GAP
N_HOVERED = 2
"""The row that the mouse was over, and the one it is over now."""
NO_INDEX = QModelIndex()


def models_of(*names: str) -> tuple[Model, ...]:
    """Models that are gone, made anew."""
    by_name = {entry.path: entry for entry in Library(Path("/nowhere"), names).scan()}
    return tuple(Model(by_name[name], None) for name in names)


@pytest.fixture
def signals() -> tuple[ModelList, list[str]]:
    model, heard = ModelList(), list[str]()
    model.modelReset.connect(lambda: heard.append("reset"))
    model.rowsInserted.connect(lambda _parent, first, last: heard.append(f"+{first}-{last}"))
    model.rowsRemoved.connect(lambda _parent, first, last: heard.append(f"-{first}-{last}"))
    return model, heard


def test_few_that_come_or_go_leave_the_others(signals: tuple[ModelList, list[str]]) -> None:
    model, heard = signals
    conditions = Conditions(detect())
    model.show(models_of("/a", "/b", "/d"), conditions)
    heard.clear()
    for names, said in (
        (("/a", "/b", "/c", "/d", "/e"), ["+2-2", "+4-4"]),
        (("/b", "/d", "/e", "/f"), ["-2-2", "-0-0", "+3-3"]),
        (("/b", "/d", "/e", "/f"), []),
        (("/f", "/d", "/e", "/b"), ["reset"]),
        ((), ["-3-3", "-2-2", "-1-1", "-0-0"]),
    ):
        models = models_of(*names)
        model.show(models, conditions)
        assert model.models == models and model.rowCount() == len(models)
        assert heard == said
        heard.clear()


def test_what_is_known_keeps_its_place(signals: tuple[ModelList, list[str]]) -> None:
    model, heard = signals
    conditions = Conditions(detect())
    a, b, c, d = models_of("/a", "/b", "/c", "/d")
    (again,) = models_of("/b")
    for models, said in (
        ((a, b, d), ["+0-0", "+1-1", "+2-2"]),
        ((a, b, c, d), ["+2-2"]),
        ((a, again, c, d), []),
        ((again, c, d), ["-0-0"]),
        ((again, d), ["-1-1"]),
        ((d, again), ["reset"]),
    ):
        model.show(models, conditions)
        assert model.models == models and heard == said
        assert [model.row(at).entry for at in range(len(models))] == [m.entry for m in models]
        heard.clear()


class CountingList(ModelList):
    """Counts what Qt asks for: "lines" is a row that is painted, "length" one that is laid out."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def rowCount(self, parent: Index = NO_INDEX) -> int:
        self.counts["length"] += 1
        return super().rowCount(parent)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        self.counts["lines"] += role == LINES_ROLE
        return super().data(index, role)


class Shown:
    """Many models in a view with room for a few."""

    def __init__(self, models: tuple[Model, ...]) -> None:
        self.models = models
        self.list = CountingList()
        self.counts = self.list.counts
        self.view = ModelListView("Models", self.list)
        self.list.repainted.connect(self.view.repaint_rows)
        self.view.resize(500, N_IN_SIGHT * ROW_PX)
        self.view.show()
        self.show(models)
        self.counts.clear()

    def show(self, models: tuple[Model, ...]) -> None:
        self.list.show(models, Conditions(detect()))
        self.turn()

    def turn(self) -> None:
        for _ in range(3):
            QApplication.processEvents()


@pytest.fixture
def shown(
    qtbot: QtBot, qapp: QApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Shown:
    theme.apply(qapp, "light")
    small = header("llama", GgmlType.F16, Sizes(2, 64, 128, 4, 4, 16, 100))
    small.write_sparse(tmp_path / "model.gguf")
    library = Library(tmp_path)
    (entry,) = library.scan()
    estimate = library.estimate(entry)
    entries = (replace(entry, path=f"/{number}.gguf") for number in range(N_MODELS))
    shown = Shown(tuple(Model(entry, estimate) for entry in entries))
    qtbot.addWidget(shown.view)

    def judge(*about: Any) -> Verdict:
        shown.counts["judge"] += 1
        return really_judge(*about)

    really_judge = verdict.judge
    monkeypatch.setattr(verdict, "judge", judge)
    return shown


def test_models_out_of_sight_are_not_judged(shown: Shown) -> None:
    """And those in sight once, however often they are painted."""
    shown.show(shown.models)
    assert 0 < shown.counts["judge"] <= N_IN_SIGHT + 1
    shown.counts.clear()
    shown.view.repaint_rows()
    shown.turn()
    assert shown.counts["lines"] >= N_IN_SIGHT and shown.counts["judge"] == 0


def test_what_stays_in_sight_is_not_painted_again(shown: Shown) -> None:
    bar = shown.view.verticalScrollBar()
    assert bar.maximum() == (N_MODELS - N_IN_SIGHT) * ROW_PX
    for by_px, n_new in ((ROW_PX, 1), (10, 1), (2 * ROW_PX, 3)):
        shown.counts.clear()
        bar.setValue(bar.value() + by_px)
        shown.turn()
        assert n_new <= shown.counts["lines"] <= n_new + N_HOVERED
        assert shown.counts["judge"] <= n_new


def test_one_that_comes_has_the_others_laid_out_once(shown: Shown) -> None:
    """Qt asks how many rows there are, for every row that it lays out."""
    shown.view.verticalScrollBar().setValue(100 * ROW_PX)
    shown.turn()
    shown.counts.clear()
    shown.show(shown.models[:7] + shown.models[8:])
    assert shown.counts["length"] < 1.5 * N_MODELS
    assert shown.counts["lines"] <= N_IN_SIGHT + 2
    assert shown.view.verticalScrollBar().value() == 100 * ROW_PX


def test_where_nothing_came_or_went_nothing_is_laid_out(shown: Shown) -> None:
    shown.show(shown.models)
    assert shown.counts["length"] < N_MODELS / 2
    assert 0 < shown.counts["lines"] <= N_IN_SIGHT + 1
