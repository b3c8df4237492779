"""Models that lie on a disk twice: found by their bytes, without reading more than must be."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from engine.duplicates import Duplicates, FindDuplicates, Same
from engine.jobs import Step, finish
from engine.library import Library
from engine.other_apps import Place


@pytest.fixture
def data(tiny_gguf: Path) -> bytes:
    return tiny_gguf.read_bytes()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "hashes.json"


def put(path: Path, data: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def find(cache: Path, *paths: str) -> tuple[Duplicates, int]:
    """What is found among models of one file each, and how many bytes were read for it."""
    steps: list[Step] = []
    job = FindDuplicates({path: (path,) for path in paths}, str(cache))
    found: Duplicates = finish(job.run(), steps.append)
    return found, max(step.done for step in steps)  # type: ignore[union-attr]


def test_one_model_in_four_apps(tmp_path: Path, cache: Path, data: bytes) -> None:
    """What is told by notes and names is believed; LM Studio's copy has neither."""
    sha256 = hashlib.sha256(data).hexdigest()
    own = put(tmp_path / "models" / "ann" / "Tiny.gguf", data)
    source = {"repo": "ann/Tiny", "revision": "0", "license": "", "size_bytes": len(data)}
    note = {"files": {"Tiny.gguf": source | {"digest": f"sha256:{sha256}"}}}
    put(tmp_path / "models" / "ann" / "model.json", json.dumps(note).encode())
    studio = put(tmp_path / "studio" / "Tiny.gguf", data)
    put(tmp_path / "hf" / "models--ann" / "blobs" / sha256, data)
    snapshot = tmp_path / "hf" / "models--ann" / "snapshots" / "0" / "Tiny.gguf"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(f"../../blobs/{sha256}")
    blob = put(tmp_path / "ollama" / "blobs" / f"sha256-{sha256}", data)
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{sha256}"}
    put(tmp_path / "ollama/manifests/r/l/tiny/1b", json.dumps({"layers": [layer]}).encode())
    places = (
        Place("LM Studio", str(tmp_path / "studio")),
        Place("Hugging Face", str(tmp_path / "hf")),
        Place("Ollama", str(tmp_path / "ollama")),
    )
    entries = Library(tmp_path / "models", (), places).scan()

    found, n_read = find(cache, *(entry.path for entry in entries))

    (same,) = found.groups
    assert set(same.paths) == {own, studio, str(snapshot), blob}
    assert (same.size_bytes, same.extra_bytes) == (len(data), 3 * len(data))
    assert n_read == len(data), "only LM Studio's copy has to be read"
    assert find(cache, *same.paths) == (found, 0), "and that only once"


def test_links_take_no_room(tmp_path: Path, cache: Path, data: bytes) -> None:
    own = Path(put(tmp_path / "own.gguf", data))
    hard, soft = tmp_path / "hard.gguf", tmp_path / "soft.gguf"
    os.link(own, hard)
    soft.symlink_to(own)
    assert find(cache, str(own), str(hard), str(soft)) == (Duplicates(()), 0)

    copy = put(tmp_path / "copy.gguf", data)
    found, _ = find(cache, str(own), str(hard), str(soft), copy)
    assert found.groups == (Same((str(own), copy), len(data), len(data)),)


def test_what_is_as_large_is_not_the_same(tmp_path: Path, cache: Path, data: bytes) -> None:
    one = put(tmp_path / "one.gguf", data)
    other = put(tmp_path / "other.gguf", data[:-1] + bytes([data[-1] ^ 1]))
    larger = put(tmp_path / "larger.gguf", data + b"x")
    found, n_read = find(cache, one, other, larger)
    assert found == Duplicates(())
    assert n_read == 2 * len(data), "no other has the size of the larger one"


def test_a_file_that_changed_is_read_again(tmp_path: Path, cache: Path, data: bytes) -> None:
    one, two = put(tmp_path / "one.gguf", data), put(tmp_path / "two.gguf", data)
    found, _ = find(cache, one, two)
    assert len(found.groups) == 1
    put(Path(two), bytes(len(data)))
    os.utime(two, ns=(1, 1))
    assert find(cache, one, two) == (Duplicates(()), len(data))


def test_a_broken_cache_is_read_anew_and_a_cancel_keeps_what_was_read(
    tmp_path: Path, cache: Path, data: bytes
) -> None:
    put(cache, b"{broken")
    one, two = put(tmp_path / "one.gguf", data), put(tmp_path / "two.gguf", data)
    steps = FindDuplicates({path: (path,) for path in (one, two)}, str(cache)).run()
    for step in steps:
        if step.done > len(data):
            break
    steps.close()
    found, n_read = find(cache, one, two)
    assert len(found.groups) == 1
    assert n_read == len(data)


def test_parts_and_checkpoints_are_compared_as_a_whole(
    tmp_path: Path, cache: Path, data: bytes, tiny_checkpoint: Path
) -> None:
    names = [f"m-0000{part}-of-00002.gguf" for part in (1, 2)]
    models = {}
    for folder in ("a", "b", "c"):
        parts = [put(tmp_path / folder / name, name.encode()) for name in names]
        models[parts[0]] = tuple(parts)
    put(tmp_path / "c" / names[1], names[1].swapcase().encode())
    shutil.copytree(tiny_checkpoint, tmp_path / "Tiny")
    (tmp_path / "Tiny" / "README.md").write_text("fetched by another app")
    folders = (str(tiny_checkpoint), str(tmp_path / "Tiny"))
    models |= {folder: (folder,) for folder in folders}

    found = finish(FindDuplicates(models, str(cache)).run())

    assert [set(same.paths) for same in found.groups] == [
        set(folders),
        {str(tmp_path / "a" / names[0]), str(tmp_path / "b" / names[0])},
    ]


def test_what_is_gone_is_left_out(tmp_path: Path, cache: Path, data: bytes) -> None:
    here = put(tmp_path / "here.gguf", data)
    assert find(cache, here, str(tmp_path / "gone.gguf")) == (Duplicates(()), 0)
