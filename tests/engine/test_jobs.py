"""How far a job is and how fast, as its progress tells."""

from __future__ import annotations

import pytest

from engine.jobs import Pace, Progress


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def downloaded(done: int) -> Progress:
    return Progress("Downloading", done, 1000, "bytes")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    """After three seconds of 100 bytes each."""
    pace = Pace(clock)
    for done in (0, 100, 200, 300):
        pace.update(downloaded(done))
        clock.now += 1
    clock.now -= 1
    return pace


def test_speed_and_time_left_are_those_of_the_last_seconds(pace: Pace, clock: Clock) -> None:
    assert (pace.fraction, pace.per_second, pace.seconds_left) == (0.3, 100, 7)
    for _ in range(10):
        clock.now += 1
        pace.update(downloaded(300 + int(clock.now - 103) * 10))
    assert pace.per_second == 10


@pytest.mark.parametrize("tells", [True, False], ids=["ticking", "silent"])
def test_a_stall_is_no_speed(pace: Pace, clock: Clock, tells: bool) -> None:
    speeds = [pace.per_second]
    for _ in range(81):
        clock.now += 0.1
        if tells:
            pace.update(downloaded(300))
        speeds.append(pace.per_second)
    assert speeds == sorted(speeds, reverse=True)
    assert speeds[-1] == 0 and pace.seconds_left is None
    assert pace.fraction == 0.3


def test_the_bar_never_goes_back_and_the_speed_is_not_below_nothing(
    pace: Pace, clock: Clock
) -> None:
    clock.now += 1
    pace.update(Progress("Asking the hub", 0, None, "bytes"))
    assert pace.fraction is None
    # A resumed download has lost the pieces that were on their way.
    shown: list[tuple[float | None, float]] = []
    for done in (250, 280, 310, 290, 340):
        clock.now += 1
        pace.update(downloaded(done))
        shown.append((pace.fraction, pace.per_second))
    assert shown == [(0.3, 0), (0.3, 30), (0.31, 30), (0.31, 0), (0.34, 50)]


def test_a_stage_has_its_own_speed_and_with_another_total_its_own_bar(pace: Pace) -> None:
    pace.update(Progress("Verifying", 100, 1000, "bytes"))
    assert (pace.fraction, pace.per_second) == (0.3, 0)
    pace.update(Progress("Comparing", 1, 10, "tokens"))
    assert pace.fraction == 0.1


def test_the_whole_of_a_job_of_stages_goes_on_from_one_to_the_next(clock: Clock) -> None:
    pace = Pace(clock, stages={"Reading": 0.2, "Trying": 0.5, "Writing": 0.3})
    shown: list[float | None] = []
    for stage, done, total in (
        ("Loading", 5, 10),  # says nothing of the whole
        ("Reading", 5, 10),
        ("Reading", 10, 10),
        ("Loading", 0, 10),
        ("Trying", 1, 10),
        ("Reading", 0, 10),  # begun anew after a pause
        ("Writing", 10, 10),
    ):
        pace.update(Progress(stage, done, total, "steps"))
        shown.append(pace.fraction)
    assert shown == [None, *map(pytest.approx, (0.1, 0.2, 0.2, 0.25, 0.25, 1.0))]


def test_the_shares_of_stages_are_of_one_whole() -> None:
    from engine.quantize.shrink_to_size import ShrinkToSize

    assert 0.9 < sum(ShrinkToSize.stages.values()) <= 1
