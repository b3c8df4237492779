"""What of a model of the hub is here already, and whether the hub has another version of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.hub.download import Download
from engine.hub.here import Here, find_here
from engine.hub.hub import Hub
from engine.jobs import finish
from tests.helpers.checkpoints import write_tiny_checkpoint
from tests.helpers.fake_hub import FakeHub, Repo, fake_hub


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with fake_hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        names = ("a-Q4_K_M-00001-of-00002.gguf", "a-Q4_K_M-00002-of-00002.gguf", "a-Q8_0.gguf")
        server.repos["ann/a"] = Repo({name: name.encode() for name in names})
        yield server


def look(server: FakeHub, folder: Path, repo_id: str = "ann/a") -> dict[str, Here]:
    return find_here(Hub(endpoint=server.url).repo(repo_id), folder)


def test_of_a_model_in_parts_all_must_be_here(server: FakeHub, tmp_path: Path) -> None:
    assert look(server, tmp_path) == {}
    done = finish(Download("ann/a", str(tmp_path), "Q4_K_M").run())
    here = {"a-Q4_K_M-00001-of-00002.gguf": Here(done.path)}
    assert look(server, tmp_path) == here
    second = tmp_path / "ann" / "a" / "a-Q4_K_M-00002-of-00002.gguf"
    second.unlink()
    assert look(server, tmp_path) == {}
    finish(Download("ann/a", str(tmp_path), "Q4_K_M").run())
    assert look(server, tmp_path) == here
    server.repos["ann/a"].revision = "1" * 40
    assert look(server, tmp_path) == here, "another revision with the same files"
    server.repos["ann/a"].files[second.name] += b"!"
    assert look(server, tmp_path) == {second.name.replace("2-of", "1-of"): Here(done.path, False)}


def test_a_file_of_the_users_own_is_not_the_hubs(server: FakeHub, tmp_path: Path) -> None:
    own = tmp_path / "ann" / "a" / "a-Q8_0.gguf"
    own.parent.mkdir(parents=True)
    own.write_bytes(server.repos["ann/a"].files[own.name])
    assert look(server, tmp_path) == {}


def test_a_checkpoint_is_its_folder_and_a_new_readme_makes_no_new_one(
    server: FakeHub, tmp_path: Path
) -> None:
    checkpoint = write_tiny_checkpoint(tmp_path / "source")
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()} | {"README.md": b"#"}
    server.repos["ann/c"] = Repo(files)
    done = finish(Download("ann/c", str(tmp_path)).run())
    files["README.md"] = b"# Better words"
    server.repos["ann/c"].revision = "1" * 40
    assert look(server, tmp_path, "ann/c") == {"config.json": Here(done.path)}
    assert done.path == str(tmp_path / "ann" / "c")
    files["model.safetensors"] += b"!"
    assert not look(server, tmp_path, "ann/c")["config.json"].is_current


def test_names_that_are_not_safe_are_passed_over(server: FakeHub, tmp_path: Path) -> None:
    server.repos["ann/a"].files["../../evil-Q6_K.gguf"] = b"x"
    done = finish(Download("ann/a", str(tmp_path), "Q8_0").run())
    assert look(server, tmp_path) == {"a-Q8_0.gguf": Here(done.path)}
