from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.folders import folders
from engine.settings import SettingsFile, standard


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config" / "settings.json"


def test_home_moves_every_folder(own_home: Path) -> None:
    here = folders()
    assert all(own_home in folder.parents for folder in here)
    assert standard().models_folder == str(here.models)


def test_change_is_on_disk_at_once(path: Path) -> None:
    SettingsFile(path).update(theme="dark", added_models=("/models/a.gguf",))
    again = SettingsFile(path)
    assert again.value.theme == "dark"
    assert again.value.added_models == ("/models/a.gguf",)
    assert {p.name for p in path.parent.iterdir()} == {"settings.json", "settings.lock"}


def test_defaults_are_not_frozen_into_the_file(path: Path) -> None:
    SettingsFile(path).update(theme="dark")
    assert json.loads(path.read_bytes()) == {"theme": "dark"}


def test_unknown_keys_are_kept(path: Path) -> None:
    path.parent.mkdir()
    path.write_text('{"theme": "light", "from_the_future": [1, 2]}')
    SettingsFile(path).update(n_threads=3)
    assert json.loads(path.read_bytes()) == {
        "theme": "light",
        "from_the_future": [1, 2],
        "n_threads": 3,
    }


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"theme": "purple"}', '{"n_threads": -1}', '{"theme": 1}', "\xff"]
)
def test_bad_file_is_put_aside_and_told(path: Path, content: str) -> None:
    path.parent.mkdir()
    path.write_bytes(content.encode("latin-1"))
    file = SettingsFile(path)
    assert file.value == standard()
    assert "settings.broken.json" in file.problem
    assert path.with_suffix(".broken.json").read_bytes() == content.encode("latin-1")
    file.update(theme="dark")
    assert SettingsFile(path).value.theme == "dark"


def test_unwritable_place_is_told_and_the_value_counts(path: Path) -> None:
    path.parent.write_text("a file where the folder should be")
    file = SettingsFile(path)
    file.update(theme="dark")
    assert file.value.theme == "dark"
    assert "could not be saved" in file.problem


def test_two_that_have_it_open_do_not_undo_each_other(path: Path) -> None:
    window, script = SettingsFile(path), SettingsFile(path)
    window.update(theme="dark", added_models=("/a", "/b"))
    script.update(n_threads=3)
    script.update(added_models=(*script.value.added_models, "/c"))
    window.update(added_models=("/b", "/d"), window_geometry="AdnQ")

    assert (window.value.theme, window.value.n_threads) == ("dark", 3)
    assert window.value.added_models == ("/b", "/d", "/c")
    assert SettingsFile(path).value == window.value
    script.update(added_models=())
    assert script.value.added_models == ("/d",), "it never knew of what the window added"


def test_a_file_that_vanishes_or_breaks_changes_nothing_here(path: Path) -> None:
    file = SettingsFile(path)
    file.update(theme="dark", n_threads=3)
    path.write_text("{")
    file.reload()
    assert file.value.theme == "dark"
    assert "settings.broken.json" in file.problem
    assert not path.exists()
    file.update(n_threads=4)
    assert SettingsFile(path).value == file.value
    assert (file.value.theme, file.value.n_threads) == ("dark", 4)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"models_folder": ""}',
        '{"models_folder": "a\\u0000b"}',
        '{"n_ctx": -1}',
        '{"n_ctx": true}',
    ],
    ids=lambda text: text[:24],
)
def test_what_would_hurt_later_is_refused_now(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)
    file = SettingsFile(path)
    assert file.value == standard() and file.problem


def test_a_file_that_breaks_before_a_change_is_told(path: Path) -> None:
    file = SettingsFile(path)
    file.update(theme="dark")
    path.write_text("{")
    assert file.update(n_threads=3).theme == "dark"
    assert "could not be read" in file.problem and path.with_suffix(".broken.json").exists()


def test_many_writers_lose_nothing(path: Path) -> None:
    program = """
import sys
from pathlib import Path
from engine.settings import SettingsFile
for number in range(20):
    file = SettingsFile(Path(sys.argv[1]))
    file.update(added_models=(*file.value.added_models, f"/{sys.argv[2]}/{number}"))
"""
    command = [sys.executable, "-c", program, str(path)]
    writers = [subprocess.Popen([*command, name]) for name in ("one", "two", "three")]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    assert len(set(SettingsFile(path).value.added_models)) == 60
