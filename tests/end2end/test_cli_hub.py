"""The verbs that find, fetch, judge and list models, as a script calls them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import starter
from engine.settings import SettingsFile
from tests.helpers.fake_hub import FakeHub, Repo, fake_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tiny_gguf: Path) -> Iterator[FakeHub]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    data = tiny_gguf.read_bytes()
    with fake_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        files = {"Tiny-Q4_K_M.gguf": data, "Tiny-F16.gguf": data + bytes(32)}
        hub.repos["ann/Tiny-GGUF"] = Repo(files, tags=("gguf", "license:mit"))
        yield hub


def engine(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "engine", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def answer(*arguments: str) -> Any:
    done = engine(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_from_a_search_to_a_verified_model_in_the_library(hub: FakeHub, own_home: Path) -> None:
    (found,) = answer("search", "tiny", "--format", "gguf", "--license", "mit")
    assert found["id"] == "ann/Tiny-GGUF"
    refused = engine("download", found["id"])
    assert refused.returncode == 1 and "Q4_K_M, F16" in refused.stderr
    done = answer("download", found["id"], "Q4_K_M")
    path = Path(done["path"])
    assert path == own_home / "data" / "models" / "ann" / "Tiny-GGUF" / "Tiny-Q4_K_M.gguf"
    assert path.read_bytes() == hub.repos["ann/Tiny-GGUF"].files["Tiny-Q4_K_M.gguf"]
    listed = answer("library", "list")
    (model,) = [entry for entry in listed if entry["path"] == str(path)]
    assert model["source"]["repo"] == "ann/Tiny-GGUF"
    disk = answer("library", "disk")
    assert disk["disk"]["used_bytes"] == path.stat().st_size and not disk["unfinished"]
    assert disk["disk"]["free_bytes"] > 0
    assert f"{path.parents[2]}, " in engine("library", "disk").stdout
    (verified,) = answer("library", "verify", str(path))
    assert verified["good"] == [str(path)] and not verified["damaged"]
    with path.open("r+b") as file:
        file.seek(5000)
        file.write(b"flipped")
    (verified,) = answer("library", "verify", str(path))
    assert verified["damaged"] == [str(path)]


def test_a_search_for_what_fits_says_what_it_leaves_out(hub: FakeHub) -> None:
    hub.repos["ann/Tiny-GGUF"].extra["gguf"] = {"total": 1_000_000}
    hub.repos["ann/Tiny-Giant"] = Repo({}, extra={"gguf": {"total": 10**13}})
    hub.repos["ann/Tiny-Secret"] = Repo({})
    assert {model["id"] for model in answer("search", "tiny")} == set(hub.repos)
    assert [model["id"] for model in answer("search", "tiny", "--fits")] == ["ann/Tiny-GGUF"]
    said = engine("search", "tiny", "--fits").stdout
    assert said.endswith("1 too large and 1 of unknown size are left out.\n")


def test_a_folder_of_ones_own(hub: FakeHub, tmp_path: Path) -> None:
    done = answer("download", "ann/Tiny-GGUF", "Tiny-F16.gguf", "--to", str(tmp_path))
    assert Path(done["path"]) == tmp_path / "ann" / "Tiny-GGUF" / "Tiny-F16.gguf"


def test_fit_says_the_same_before_and_after_the_download(hub: FakeHub, tmp_path: Path) -> None:
    far = answer("fit", "ann/Tiny-GGUF:Q4_K_M", "--ctx", "512", "--kv", "q8_0")
    by_file = answer("fit", "ann/Tiny-GGUF:Tiny-Q4_K_M.gguf", "--ctx", "512", "--kv", "q8_0")
    assert by_file["devices"] == far["devices"]
    fetched = hub.n_body_bytes
    near = answer("download", "ann/Tiny-GGUF", "Q4_K_M", "--to", str(tmp_path))
    here = answer("fit", near["path"], "--ctx", "512", "--kv", "q8_0")
    sums = ("weights_bytes", "kv_bytes", "compute_bytes", "verdict", "devices")
    assert [far[key] for key in sums] == [here[key] for key in sums]
    assert far["verdict"] == "cpu" and far["tokens_per_second"] > 0
    assert fetched <= 2 << 20
    said = engine("fit", near["path"]).stdout
    assert " tokens of context, about " in said and " tokens per second." in said
    wider = answer("fit", near["path"], "--ctx", "512", "--kv", "f16")
    assert wider["kv_bytes"] / here["kv_bytes"] == pytest.approx(16 / 8.5)


def test_recommend_for_another_computer(tiny_checkpoint: Path, tmp_path: Path) -> None:
    computer = answer("devices")
    machine = tmp_path / "machine.json"
    machine.write_text(json.dumps(computer))
    assert answer("recommend", str(tiny_checkpoint), "--machine", str(machine))["recipe"] == "Q8_0"
    computer["memory_available_bytes"] = 1 << 20
    machine.write_text(json.dumps(computer))
    nothing = answer("recommend", str(tiny_checkpoint), "--machine", str(machine))
    assert nothing["recipe"] is None and "Nothing fits" in nothing["reason"]
    machine.write_text("{}")
    refused = engine("recommend", str(tiny_checkpoint), "--machine", str(machine))
    assert refused.returncode == 1 and "describe a computer" in refused.stderr


def test_names_that_would_mislead_are_refused(tiny_checkpoint: Path, tmp_path: Path) -> None:
    named = engine("shrink", str(tiny_checkpoint), "-o", str(tmp_path / "x.bin"), "--type", "Q8_0")
    assert named.returncode == 1 and "x.bin.gguf" in named.stderr
    missing = engine("fit", "models/nope.gguf")
    assert missing.returncode == 1 and "does not exist" in missing.stderr


def test_added_models_are_listed_and_forgotten(tiny_gguf: Path, tmp_path: Path) -> None:
    assert answer("library", "add", str(tiny_gguf)) == [str(tiny_gguf)]
    assert str(tiny_gguf) in {entry["path"] for entry in answer("library", "list")}
    assert answer("library", "remove", str(tiny_gguf)) == [str(tiny_gguf)]
    assert str(tiny_gguf) not in {entry["path"] for entry in answer("library", "list")}
    assert tiny_gguf.exists()
    winding = tiny_gguf.parent / "no" / ".." / tiny_gguf.name
    assert answer("library", "add", str(winding)) == [str(tiny_gguf)]
    forgotten = engine("library", "remove", str(winding))
    assert forgotten.stdout == f"forgotten: {tiny_gguf}\n"
    again = engine("library", "remove", str(tiny_gguf))
    assert again.returncode == 1 and "not added" in again.stderr
    nothing = engine("library", "add", str(tmp_path))
    assert nothing.returncode == 1 and "no model" in nothing.stderr


def test_what_nobody_noted_is_told_in_words() -> None:
    done = engine("library", "verify", str(starter.MODEL))
    assert done.returncode == 0
    assert f"unknown  {starter.MODEL}" in done.stdout and "no digest was recorded" in done.stdout


def test_the_models_folder_moves_with_all_that_points_into_it(
    tiny_gguf: Path, own_home: Path, tmp_path: Path
) -> None:
    model = own_home / "data" / "models" / "Tiny.gguf"
    model.parent.mkdir(parents=True)
    shutil.copy(tiny_gguf, model)
    answer("library", "add", str(model))
    done = engine("library", "move", str(tmp_path / "no" / ".." / "new"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"1 model moved to {tmp_path / 'new'}\n"
    moved = tmp_path / "new" / "Tiny.gguf"
    assert moved.read_bytes() == tiny_gguf.read_bytes() and not model.exists()
    value = SettingsFile(own_home / "config" / "settings.json").value
    assert (value.models_folder, value.added_models) == (str(moved.parent), (str(moved),))
    again = engine("library", "move", str(tmp_path / "new"))
    assert again.returncode == 1 and "already" in again.stderr


def test_models_that_lie_here_twice_are_found(tiny_gguf: Path, own_home: Path) -> None:
    assert engine("library", "duplicates").stdout == "No model is here twice.\n"
    own = own_home / "data" / "models" / "Tiny.gguf"
    own.parent.mkdir(parents=True)
    shutil.copy(tiny_gguf, own)
    answer("library", "add", str(tiny_gguf))
    (same,) = answer("library", "duplicates")["groups"]
    assert set(same["paths"]) == {str(own), str(tiny_gguf)}
    assert same["extra_bytes"] == tiny_gguf.stat().st_size
    told = engine("library", "duplicates").stdout
    assert str(own) in told and str(tiny_gguf) in told
    assert (own_home / "cache" / "hashes.json").exists() and own.exists()


def test_no_network_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    done = engine("search", "x")
    assert done.returncode == 1 and "cannot be reached" in done.stderr
    assert "Traceback" not in done.stderr
