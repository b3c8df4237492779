"""The models folder on its way: nothing is lost, nothing half, and nothing of others is touched."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from engine import move
from engine.errors import AlreadyExists, DiskFull, NotWritable, StorageError
from engine.folders import folders
from engine.ggml_types import GgmlType
from engine.hub.download import STAGING, Download, Note
from engine.hub.provenance import source_of
from engine.jobs import finish
from engine.leftovers import MOVING, find_leftovers
from engine.library import Library
from engine.move import Moved, MoveModels
from engine.output import new_file
from engine.quantize.shrink import Shrink
from engine.settings import Settings, SettingsFile
from tests.engine.quantized_cases import write_source
from tests.helpers.pauses import gone_on, pause, run

_RANDOM = random.Random(3)
MODELS = {
    "own.gguf": _RANDOM.randbytes(300_000),
    "ann/big/m-00001-of-00002.gguf": _RANDOM.randbytes(200_000),
    "ann/big/m-00002-of-00002.gguf": _RANDOM.randbytes(100_001),
    "ann/big/m.quality.json": b"{}",
    "bob/check/config.json": b'{"model_type": "llama"}',
    "bob/check/model.safetensors": _RANDOM.randbytes(250_000),
    "bob/check/deep/vocab.txt": b"words",
}
OTHERS = {"letter.txt": b"Dear Ann", "ann/big/README.md": b"# Big"}
LONG_AGO = 1_000_000_000


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A models folder with things in it that are no models."""
    folder = tmp_path / "old"
    for name, data in (MODELS | OTHERS).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (LONG_AGO, LONG_AGO))
    note = {"repo": "ann/big", "revision": "0", "license": "mit", "size_bytes": 9, "digest": "x"}
    noted = ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf")
    (folder / "ann/big/model.json").write_text(json.dumps({"files": dict.fromkeys(noted, note)}))
    return folder


@pytest.fixture
def new(elsewhere: Path) -> Path:
    """Where the models go; not there yet."""
    return elsewhere


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("model.json", "model.json.new")
    }


def job(old: Path, new: Path) -> MoveModels:
    return MoveModels(str(old), str(new), str(folders().config / "settings.json"))


def moved(old: Path, new: Path) -> Moved:
    done: Moved = finish(job(old, new).run())
    return done


def stored() -> SettingsFile:
    return SettingsFile(folders().config / "settings.json")


def test_models_move_and_all_else_stays(old: Path, new: Path) -> None:
    done = moved(old, new)

    assert files_below(new) == MODELS
    assert files_below(old) == OTHERS
    assert not list(old.rglob("model.json")) and not (old / "bob").exists()
    assert (done.n_models, done.size_bytes, done.left) == (3, sum(map(len, MODELS.values())), ())
    source = source_of(new / "ann/big/m-00001-of-00002.gguf")
    assert source and source.repo == "ann/big"
    assert (new / "own.gguf").stat().st_mtime == LONG_AGO
    assert [entry.own for entry in Library(new).scan()] == [True] * 3


def test_an_unfinished_download_goes_along(old: Path, new: Path) -> None:
    staging = old / "ann" / "big" / f"{STAGING}x"
    staging.mkdir()
    note = Note(Download("ann/big", str(old)), "Q8_0", 1 << 30)
    (staging / "download.json").write_bytes(msgspec.json.encode(note))
    with (staging / "x.gguf.part").open("wb") as part:
        part.seek(64 << 20)
        part.write(b"the end")
    for path in (staging / "download.json", staging / "x.gguf.part", staging):
        os.utime(path, (LONG_AGO, LONG_AGO))

    moved(old, new)

    for path in new.rglob("*"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    (left,) = find_leftovers(new)
    assert (left.job, left.title) == (note.job, note.title)
    assert left.size_bytes < 20 << 20, "holes stay holes"
    assert (Path(left.path) / "x.gguf.part").read_bytes().endswith(b"\0the end")


def test_an_unfinished_shrink_goes_along_and_on(old: Path, new: Path, tmp_path: Path) -> None:
    source = write_source(old / "ann" / "big" / "source.gguf", GgmlType.F16)
    finish(Shrink(str(source), str(tmp_path / "straight.gguf"), "Q4_K_M", 1).run())
    pause(Shrink(str(source), str(old / "small.gguf"), "Q4_K_M", 1), 0.7)

    moved(old, new)

    assert not list(old.rglob("*.partial*"))
    (left,) = find_leftovers(new)
    assert isinstance(left.job, Shrink) and left.title == "source.gguf to Q4_K_M"
    assert (left.job.source, left.job.out) == (
        str(new / "ann" / "big" / "source.gguf"),
        str(new / "small.gguf"),
    )
    assert gone_on(run(left.job)) > 0
    assert (new / "small.gguf").read_bytes() == (tmp_path / "straight.gguf").read_bytes()
    assert not find_leftovers(new)


def test_what_is_being_written_is_not_torn_away(old: Path, new: Path) -> None:
    with new_file(old / "fresh.gguf", size_bytes=4) as file:
        file.write(b"half")
        with pytest.raises(StorageError, match="still writing"):
            moved(old, new)
    assert not new.exists() and files_below(old).keys() >= MODELS.keys()


def test_what_a_killed_move_left_in_the_old_folder_is_no_hindrance(old: Path, new: Path) -> None:
    for name in ("lock", "plan.json", "files/half.gguf"):
        path = old / MOVING / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"{}")
        os.utime(path, (LONG_AGO, LONG_AGO))
    for folder in (old / MOVING / "files", old / MOVING):
        os.utime(folder, (LONG_AGO, LONG_AGO))
    moved(old, new)
    assert files_below(new) == MODELS


def test_what_comes_while_the_others_are_copied_goes_along(old: Path, new: Path) -> None:
    for _ in job(old, new).run():
        if (new / MOVING / "files" / "own.gguf").exists() and not (old / "later.gguf").exists():
            (old / "later.gguf").write_bytes(b"later")
            (old / "own.gguf").write_bytes(b"changed")
    is_one_disk = old.stat().st_dev == new.stat().st_dev  # then it is over before anything comes
    changes = {} if is_one_disk else {"later.gguf": b"later", "own.gguf": b"changed"}
    assert files_below(new) == MODELS | changes
    assert files_below(old) == OTHERS


def test_nothing_is_written_over(old: Path, new: Path) -> None:
    (new / "ann/big").mkdir(parents=True)
    (new / "ann/big/m-00002-of-00002.gguf").write_bytes(b"mine")
    with pytest.raises(AlreadyExists, match="m-00002"):
        moved(old, new)
    same_size = bytes(100_001)
    (new / "ann/big/m-00002-of-00002.gguf").write_bytes(same_size)
    with pytest.raises(AlreadyExists, match="m-00002"):
        moved(old, new)
    assert files_below(old) == MODELS | OTHERS
    assert files_below(new) == {"ann/big/m-00002-of-00002.gguf": same_size}


def test_a_copy_that_is_there_already_is_enough(old: Path, new: Path) -> None:
    """As after a kill between the copy and the removal."""
    shutil.copytree(old / "bob", new / "bob")
    moved(old, new)
    assert files_below(new) == MODELS and files_below(old) == OTHERS


def test_what_takes_a_place_while_the_others_are_copied_stays(old: Path, new: Path) -> None:
    with contextlib.suppress(AlreadyExists):
        for _ in job(old, new).run():
            if (new / MOVING / "files" / "own.gguf").exists():
                (new / "own.gguf").write_bytes(b"mine")
    if old.stat().st_dev == new.stat().st_dev:  # then it is over before anything comes
        assert files_below(new) == MODELS
    else:
        assert files_below(new) == {"own.gguf": b"mine"}
        assert files_below(old) == MODELS | OTHERS


def test_a_link_that_a_kill_has_left_is_no_hindrance(old: Path, new: Path) -> None:
    (old / "twin.gguf").symlink_to("own.gguf")
    new.mkdir()
    shutil.copy(old / "own.gguf", new)
    (new / "twin.gguf").symlink_to(new / "own.gguf")
    moved(old, new)
    assert files_below(old) == OTHERS and not (old / "twin.gguf").is_symlink()
    assert files_below(new) == MODELS | {"twin.gguf": MODELS["own.gguf"]}


def test_a_linked_folder_is_no_other_place(old: Path, new: Path) -> None:
    new.mkdir()
    (new / "ann").symlink_to(old / "ann")
    with pytest.raises(AlreadyExists):
        moved(old, new)
    assert files_below(old) == MODELS | OTHERS
    with pytest.raises(AlreadyExists):
        moved(old, old / "ann" / "..")


def test_links_lead_to_where_they_led(old: Path, new: Path, tmp_path: Path) -> None:
    far = tmp_path / "far"
    far.mkdir()
    (far / "far.gguf").write_bytes(b"far")
    (old / "there").symlink_to(far, target_is_directory=True)
    (old / "ann" / "far.gguf").symlink_to(Path("../../far/far.gguf"))
    (old / "twin.gguf").symlink_to("own.gguf")

    moved(old, new)

    assert (new / "there/far.gguf").read_bytes() == b"far" == (new / "ann/far.gguf").read_bytes()
    assert (new / "twin.gguf").resolve() == (new / "own.gguf").resolve()
    assert (far / "far.gguf").exists() and not (old / "there").is_symlink()


def test_a_folder_in_the_old_one_and_one_around_it(old: Path) -> None:
    moved(old, old / "inside")
    assert files_below(old) == OTHERS | {f"inside/{name}": data for name, data in MODELS.items()}
    moved(old / "inside", old)
    assert files_below(old) == MODELS | OTHERS


def test_no_room_is_told_before_the_first_byte(
    old: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(move, "KEPT_FREE_BYTES", 1 << 60)
    if old.stat().st_dev == new.parent.stat().st_dev:  # a rename needs none
        moved(old, new)
        assert files_below(new) == MODELS
        return
    with pytest.raises(DiskFull):
        moved(old, new)
    assert not new.exists() and files_below(old) == MODELS | OTHERS


def test_a_file_is_no_folder(old: Path, tmp_path: Path) -> None:
    with pytest.raises(NotWritable):
        moved(old, old / "letter.txt")
    assert files_below(old) == MODELS | OTHERS


def test_where_a_file_has_but_one_name_it_is_renamed(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on exFAT; and one that is refused, as on Windows when it is open, takes the others back.

    This system does neither, so it is told to.
    """
    real_rename = Path.rename
    refused = [old / "own.gguf"]

    def link(_path: Path, _name: Path) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    def rename(path: Path, target: Path) -> Path:
        if path in refused:
            raise PermissionError(errno.EACCES, "open elsewhere")
        return real_rename(path, target)

    monkeypatch.setattr(os, "link", link)
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(NotWritable):
        moved(old, tmp_path / "new")
    assert files_below(old) == MODELS | OTHERS and not (tmp_path / "new").exists()
    refused.clear()
    moved(old, tmp_path / "new")
    assert files_below(tmp_path / "new") == MODELS and files_below(old) == OTHERS


@pytest.mark.parametrize("n_steps", range(1, 12))
def test_cancelled_at_any_step_everything_is_where_it_was(
    old: Path, new: Path, n_steps: int
) -> None:
    steps = job(old, new).run()
    for _ in range(n_steps):
        if next(steps, None) is None:
            assert files_below(new) == MODELS
            return
    steps.close()
    assert files_below(old) == MODELS | OTHERS
    assert not new.exists()


@pytest.mark.skipif(os.name == "nt", reason="kills as POSIX does")
@pytest.mark.parametrize("first", range(0, 48, 4))
def test_killed_at_any_moment_every_model_is_whole_somewhere(
    old: Path, new: Path, first: int
) -> None:
    """Four random moments each, each a little further than the last."""
    program = f"""
from engine import copying
from engine.jobs import finish
from engine.move import MoveModels
copying.BLOCK_BYTES = 1 << 12
print("ready", flush=True)
finish(MoveModels({str(old)!r}, {str(new)!r}, {str(stored().path)!r}).run())
"""
    for moment in range(first, first + 4):
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
            assert process.stdout
            process.stdout.readline()
            time.sleep(random.Random(moment).uniform(0, 0.03))
            process.send_signal(signal.SIGKILL)
        here, there = files_below(old), files_below(new) if new.exists() else {}
        whole = {name: data for name, data in there.items() if not name.startswith(MOVING)}
        assert whole.items() <= MODELS.items(), "nothing is half under its name"
        for model in ("own", "ann/big/m-", "bob/check/"):
            files = {name for name in MODELS if name.startswith(model)}
            assert files <= here.keys() or files <= whole.keys()
        assert (here | whole) == MODELS | OTHERS

    moved(old, new)
    assert files_below(new) == MODELS and files_below(old) == OTHERS
    assert source_of(new / "ann/big/m-00002-of-00002.gguf")
    assert not list(new.rglob("*.new"))


def test_settings_follow_what_has_moved(old: Path, new: Path) -> None:
    stored().update(models_folder=str(old), last_model="/of/last/year.gguf", n_threads=3)
    added = str(old / "bob/check"), str(old / "gone.gguf"), "/else/where.gguf"
    for _ in job(old, new).run():  # the window is open meanwhile
        stored().update(added_models=added, last_model=str(old / "own.gguf"))
    assert stored().value == Settings(
        str(new),
        added_models=(str(new / "bob/check"), str(old / "gone.gguf"), "/else/where.gguf"),
        last_model=str(new / "own.gguf"),
        n_threads=3,
    )


def test_the_settings_have_followed_when_the_first_old_name_goes(
    old: Path, new: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ends the job then, as a window does that is closed, has all models in the list."""
    stored().update(models_folder=str(old))
    real_unlink = Path.unlink

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".gguf" and old in path.parents:
            raise KeyboardInterrupt
        real_unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(KeyboardInterrupt):
        moved(old, new)
    assert stored().value.models_folder == str(new)
    assert files_below(new) == MODELS


def test_settings_that_cannot_be_saved_are_told_before_anything_moves(old: Path, new: Path) -> None:
    folders().config.parent.mkdir(parents=True, exist_ok=True)
    folders().config.write_text("a file where the folder should be")
    with pytest.raises(NotWritable, match="settings could not be saved"):
        moved(old, new)
    assert files_below(old) == MODELS | OTHERS and not new.exists()
