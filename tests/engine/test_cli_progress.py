"""The line in which a terminal shows how far a job is."""

from __future__ import annotations

from io import StringIO

import pytest

from engine.cli.progress import ProgressBar
from engine.jobs import Progress


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True

    def last_line(self) -> str:
        return self.getvalue().rpartition("\x1b[K")[2]


@pytest.fixture
def terminal() -> Terminal:
    return Terminal()


def test_a_job_of_stages_is_shown_as_a_whole(terminal: Terminal) -> None:
    bar = ProgressBar(terminal, {"Calibrating": 0.25, "Rounding": 0.75})
    for stage, done, percent in (
        ("Calibrating", 0, "0%"),
        ("Calibrating", 100, "25%"),
        ("Rounding", 0, "25%"),  # not 100 %, though its total is the same
        ("Rounding", 50, "62%"),
        ("Rounding", 100, "100%"),
    ):
        bar.show(Progress(stage, done, 100, "bytes"))
        assert terminal.last_line().startswith(f"{stage} [")
        assert terminal.last_line().endswith(f" {percent}")


def test_the_bar_is_full_only_at_the_end(terminal: Terminal) -> None:
    bar = ProgressBar(terminal)
    bar.show(Progress("Downloading", 990, 1000, "bytes"))
    assert "." in terminal.last_line()
    bar.show(Progress("Downloading", 1000, 1000, "bytes"))
    assert "." not in terminal.last_line().partition("]")[0]


def test_elsewhere_each_stage_is_named_once() -> None:
    out = StringIO()
    bar = ProgressBar(out)
    for done in range(3):
        bar.show(Progress("Calibrating", done, 3, "tokens"))
    bar.show(Progress("Shrinking", 0, 3, "bytes"))
    assert out.getvalue() == "Calibrating\nShrinking\n"
