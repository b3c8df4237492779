import os

import pytest

from engine import words


@pytest.mark.parametrize(
    ("size_bytes", "said"),
    [
        (0, "0 bytes"),
        (512, "512 bytes"),
        (999, "999 bytes"),
        (1_500, "1.5 kB"),
        (999_960, "1 MB"),
        (123_456_789, "123 MB"),
        (4_920_000_000, "4.9 GB"),
        (9_970_000_000, "10 GB"),
        (16_400_000_000, "16 GB"),
        (2.5e15, "2500 TB"),
    ],
)
def test_bytes(size_bytes: float, said: str) -> None:
    assert words.format_bytes(size_bytes) == said


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0"), (656_000, "656K"), (8_030_000_000, "8B"), (7_240_000_000, "7.2B"), (16_384, "16K")],
)
def test_count(count: int, said: str) -> None:
    assert words.format_count(count) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.01, "under 0.1 s"),
        (0.42, "0.4 s"),
        (12.3, "12 s"),
        (59.6, "1 min"),
        (75, "1 min 15 s"),
        (1800, "30 min"),
        (4000, "1 h 7 min"),
        (7200, "2 h"),
    ],
)
def test_duration(seconds: float, said: str) -> None:
    assert words.format_duration(seconds) == said


def test_time_left_grows_coarse() -> None:
    assert words.format_time_left(None) == ""
    assert words.format_time_left(3) == "a few seconds left"
    assert words.format_time_left(23) == "about 25 s left"
    assert words.format_time_left(58) == "about 1 min left"
    assert words.format_time_left(140) == "about 2 min left"


def test_only_the_end_is_a_hundred_percent() -> None:
    assert words.format_percent(0.9999) == "99 %"
    assert words.format_percent(1.0) == "100 %"


def test_speed_and_plural() -> None:
    assert words.format_speed(42.4, "tokens") == "42 tok/s"
    assert words.format_speed(120e6, "bytes") == "120 MB/s"
    assert words.plural(1, "model") == "1 model"
    assert words.plural(1200, "reply", "replies") == "1,200 replies"


@pytest.mark.skipif(os.name == "nt", reason="there the folder is shown as it is")
def test_a_path_is_short_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert words.format_path("/home/ann/models/a.gguf") == "~/models/a.gguf"
    assert words.format_path("/home/anna/a.gguf") == "/home/anna/a.gguf"
    assert words.format_path("/home/ann") == "~"
