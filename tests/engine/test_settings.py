from __future__ import annotations

import json
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
    assert [p.name for p in path.parent.iterdir()] == ["settings.json"]


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
