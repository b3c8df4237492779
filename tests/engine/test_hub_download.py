"""A model as one thing: a checkpoint or all parts of a GGUF, through cuts, kills and tricks."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import AccessDenied, AlreadyExists, DiskFull, NotFound, UnsafeFile
from engine.hub import download, part, provenance, transfer
from engine.hub.download import Download
from engine.jobs import Progress, Step, finish
from tests.helpers.fake_hub import FakeHub, Fault, Repo, fake_hub

_RANDOM = random.Random(2)
CHECKPOINT = {
    "config.json": b'{"model_type": "llama"}',
    "tokenizer.json": _RANDOM.randbytes(3_000),
    "model-00001-of-00002.safetensors": _RANDOM.randbytes(300_000),
    "model-00002-of-00002.safetensors": _RANDOM.randbytes(200_001),
    "model.safetensors.index.json": b"{}",
    "evil.py": b"import os",
}
GGUFS = {
    "m-Q4_K_M.gguf": _RANDOM.randbytes(100_000),
    "m-Q8_0-00001-of-00002.gguf": _RANDOM.randbytes(90_000),
    "m-Q8_0-00002-of-00002.gguf": _RANDOM.randbytes(80_000),
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    monkeypatch.setattr(part, "PIECE_BYTES", 1 << 15)
    monkeypatch.setattr(transfer, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setenv("SNUG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with fake_hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        hub.repos["ann/big"] = Repo(CHECKPOINT, tags=("license:mit",))
        hub.repos["ann/big-GGUF"] = Repo(GGUFS)
        yield hub


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_checkpoint_comes_as_one_without_what_could_run(hub: FakeHub, models: Path) -> None:
    done = finish(Download("ann/big", str(models)).run())
    found = files_below(Path(done.path))
    assert Path(done.path) == models / "ann" / "big"
    note = found.pop("model.json")
    assert found == {name: data for name, data in CHECKPOINT.items() if name != "evil.py"}
    assert b"sha256:" in note and done.size_bytes == sum(map(len, found.values()))
    source = provenance.source_of(Path(done.path))
    assert source and (source.repo, source.revision, source.license) == ("ann/big", "0" * 40, "mit")


def test_the_parts_of_a_gguf_come_together(hub: FakeHub, models: Path) -> None:
    done = finish(Download("ann/big-GGUF", str(models), "q8_0").run())
    assert done.label == "Q8_0"
    assert Path(done.path).name == "m-Q8_0-00001-of-00002.gguf"
    finish(Download("ann/big-GGUF", str(models), "m-Q4_K_M.gguf").run())
    found = files_below(models / "ann" / "big-GGUF")
    found.pop("model.json")
    assert found == GGUFS
    assert set(provenance.read(models / "ann" / "big-GGUF").files) == set(GGUFS)


@pytest.mark.parametrize(
    ("repo", "wanted", "hint"),
    [
        ("ann/big-GGUF", "", "Q4_K_M, Q8_0"),
        ("ann/big-GGUF", "Q2_K", "Q4_K_M, Q8_0"),
        ("ann/none", "", "name"),
    ],
)
def test_what_there_is_to_choose_from_is_told(
    hub: FakeHub, models: Path, repo: str, wanted: str, hint: str
) -> None:
    with pytest.raises(NotFound) as told:
        finish(Download(repo, str(models), wanted).run())
    assert hint in told.value.hint
    assert not models.exists()


def test_what_is_here_is_not_fetched_again(hub: FakeHub, models: Path) -> None:
    job = Download("ann/big", str(models))
    finish(job.run())
    n_requests = len(hub.requests)
    finish(job.run())
    assert len(hub.requests) == n_requests


def test_a_file_of_the_users_is_left_alone(hub: FakeHub, models: Path) -> None:
    own = models / "ann" / "big" / "config.json"
    own.parent.mkdir(parents=True)
    own.write_bytes(CHECKPOINT["config.json"])
    with pytest.raises(AlreadyExists):
        finish(Download("ann/big", str(models)).run())
    assert files_below(models) == {"ann/big/config.json": CHECKPOINT["config.json"]}


def test_a_cancelled_download_goes_on_where_it_was(hub: FakeHub, models: Path) -> None:
    steps = Download("ann/big", str(models), bytes_per_second=2_000_000).run()
    for step in steps:
        if step.done > 400_000:
            break
    steps.close()
    (staging,) = (models / "ann" / "big").iterdir()
    assert staging.name.startswith(download.STAGING)
    note = download.read_note(staging)
    assert note is not None and note.label == "Checkpoint"
    before = hub.n_body_bytes
    done = finish(note.job.run())
    missing = done.size_bytes - before
    assert hub.n_body_bytes - before <= missing + transfer.CONNECTIONS * part.PIECE_BYTES
    assert not staging.exists()


def test_a_repository_that_moved_on_is_never_mixed(hub: FakeHub, models: Path) -> None:
    job = Download("ann/big", str(models), bytes_per_second=2_000_000)
    steps = job.run()
    for step in steps:
        if step.done > 350_000:
            break
    steps.close()
    new = {name: data[::-1] for name, data in CHECKPOINT.items()}
    hub.repos["ann/big"] = Repo(new, revision="1" * 40)
    done = finish(Download("ann/big", str(models)).run())
    found = files_below(Path(done.path))
    found.pop("model.json")
    assert found == {name: data for name, data in new.items() if name != "evil.py"}


def test_a_new_readme_costs_nothing_of_what_is_here(hub: FakeHub, models: Path) -> None:
    steps = Download("ann/big", str(models), bytes_per_second=2_000_000).run()
    for step in steps:
        if step.done > 350_000:
            break
    steps.close()
    here_bytes = hub.n_body_bytes
    files = {**hub.repos["ann/big"].files, "README.md": b"another"}
    hub.repos["ann/big"] = Repo(files, revision="1" * 40)
    done = finish(Download("ann/big", str(models)).run())
    again = hub.n_body_bytes - done.size_bytes
    assert here_bytes > 350_000
    assert again <= transfer.CONNECTIONS * part.PIECE_BYTES + len(b"another")
    assert provenance.read(Path(done.path)).files["config.json"].revision == "1" * 40


def test_what_takes_the_place_meanwhile_stays_and_so_does_the_download(
    hub: FakeHub, models: Path
) -> None:
    own = models / "ann" / "big" / "config.json"

    def take_the_place(step: Step) -> None:
        if isinstance(step, Progress) and step.done > 400_000:
            own.write_bytes(b"mine")

    job = Download("ann/big", str(models), bytes_per_second=2_000_000)
    with pytest.raises(AlreadyExists):
        finish(job.run(), take_the_place)
    assert own.read_bytes() == b"mine"
    own.unlink()
    finish(Download("ann/big", str(models)).run())
    assert own.read_bytes() == CHECKPOINT["config.json"]


def test_files_of_one_name_do_not_share_a_place(hub: FakeHub, models: Path) -> None:
    hub.repos["ann/two"] = Repo({"Q4/m.gguf": b"4" * 100_000, "Q8/m.gguf": b"8" * 100_000})
    steps = Download("ann/two", str(models), "Q8/m.gguf", bytes_per_second=200_000).run()
    for step in steps:
        if step.done > 40_000:
            break
    steps.close()
    finish(Download("ann/two", str(models), "Q4/m.gguf").run())
    (left,) = (models / "ann" / "two").glob(f"{download.STAGING}*")
    assert "Q8" in left.name


def test_progress_of_the_whole_never_goes_back(hub: FakeHub, models: Path) -> None:
    hub.faults = [Fault("cut", at=1000 * k) for k in range(1, 10)]
    done = [
        step.done
        for step in Download("ann/big", str(models), bytes_per_second=3_000_000).run()
        if step.stage == "Downloading"
    ]
    assert done == sorted(done) and done[-1] == sum(map(len, CHECKPOINT.values())) - 9


def test_a_gated_model_says_where_to_ask_and_a_token_opens_it(
    hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repos["ann/big"].token = "sesame"
    with pytest.raises(AccessDenied) as told:
        finish(Download("ann/big", str(models)).run())
    assert f"{hub.url}/ann/big" in told.value.hint
    assert not models.exists() or not any(models.iterdir())
    monkeypatch.setenv("HF_TOKEN", "sesame")
    finish(Download("ann/big", str(models)).run())
    assert hub.tokens_at_storage == []
    assert not any(b"sesame" in data for data in files_below(models).values())


def test_no_room_is_told_before_the_first_byte(
    hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "KEPT_FREE_BYTES", 1 << 60)
    with pytest.raises(DiskFull):
        finish(Download("ann/big", str(models)).run())
    assert not hub.requests and not any(models.iterdir())


def test_what_is_in_its_place_needs_no_room(
    hub: FakeHub, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill came when all but one file had got their places, and the disk is all but full."""
    home = models / "ann" / "big"
    finish(Download("ann/big", str(models)).run())
    staging = home / f"{download.STAGING}config.json"
    staging.mkdir()
    (home / "config.json").rename(staging / "config.json")
    free_bytes = part.KEPT_FREE_BYTES + 10_000
    usage = shutil.disk_usage(models)._replace(free=free_bytes)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    finish(Download("ann/big", str(models)).run())
    assert (home / "config.json").read_bytes() == CHECKPOINT["config.json"]
    assert not staging.exists()


@pytest.mark.parametrize(
    "name", ["../m.gguf", "a/../../m.gguf", "C:m.gguf", "con.gguf", "m\u202e.gguf", "/m.gguf"]
)
def test_a_hostile_name_is_refused_before_anything_is_written(
    hub: FakeHub, models: Path, name: str
) -> None:
    hub.repos["ann/evil"] = Repo({name: b"x"})
    with pytest.raises(UnsafeFile):
        finish(Download("ann/evil", str(models)).run())
    assert not models.exists()


@pytest.mark.skipif(os.name == "nt", reason="kills as POSIX does")
@pytest.mark.parametrize("first", range(0, 100, 10))
def test_killed_at_any_moment_it_goes_on(hub: FakeHub, models: Path, first: int) -> None:
    """Ten random moments each."""
    program = f"""
import time
from engine.hub import part
from engine.hub.download import Download
from engine.jobs import finish
part.PIECE_BYTES, part.SAVE_EVERY_S = 1 << 15, 0.0
import huggingface_hub.hf_api, httpx2
print("ready", flush=True)
finish(Download("ann/big", {str(models)!r}, bytes_per_second=3_000_000).run())
"""
    whole = {name: data for name, data in CHECKPOINT.items() if name != "evil.py"}
    n_times = 0
    for moment in range(first, first + 10):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            time.sleep(random.Random(moment).uniform(0, 0.35))
            process.send_signal(signal.SIGKILL)
        n_times += process.returncode == -signal.SIGKILL
        if moment % 2:  # else: the next one goes on and is killed as well
            done = finish(Download("ann/big", str(models)).run())
            found = files_below(models / "ann" / "big")
            found.pop("model.json")
            assert found == whole
            assert all(
                hashlib.sha256(found[name]).digest() == hashlib.sha256(data).digest()
                for name, data in whole.items()
            )
            for name in (*found, "model.json"):
                (Path(done.path) / name).unlink()
    assert n_times > 3
