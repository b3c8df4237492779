"""What a second look at a model's files finds: damage, and what is gone."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from engine import starter
from engine.errors import NotFound
from engine.hub.verify import Verified, Verify
from engine.jobs import finish

FILES = {
    "config.json": b"{}",
    "model-00001-of-00002.safetensors": b"one" * 100,
    "model-00002-of-00002.safetensors": b"two" * 100,
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A downloaded checkpoint; its repository had a GGUF too, which was removed."""
    folder = tmp_path / "ann" / "big"
    folder.mkdir(parents=True)
    notes = {}
    for name, data in (FILES | {"big-Q8_0.gguf": b"removed"}).items():
        (folder / name).write_bytes(data)
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        origin = {"repo": "ann/big", "revision": "0", "license": "mit"}
        notes[name] = origin | {"size_bytes": len(data), "digest": digest}
    (folder / "model.json").write_text(json.dumps({"files": notes}))
    (folder / "big-Q8_0.gguf").unlink()
    return folder


def verify(path: Path) -> Verified:
    verified: Verified = finish(Verify(str(path)).run())
    return verified


def test_a_shard_that_is_gone_is_missing(checkpoint: Path) -> None:
    gone, damaged = checkpoint / "model-00002-of-00002.safetensors", checkpoint / "config.json"
    gone.unlink()
    damaged.write_bytes(b"[]")

    found = verify(checkpoint)

    assert found.missing == (str(gone),)
    assert found.damaged == (str(damaged),)
    assert found.good == (str(checkpoint / "model-00001-of-00002.safetensors"),)
    assert not found.unknown


def test_a_part_that_is_gone_is_missing(tmp_path: Path) -> None:
    first, second = (tmp_path / f"m-0000{part}-of-00002.gguf" for part in (1, 2))
    second.write_bytes(b"GGUF")

    found = verify(first)

    assert found.missing == (str(first),)
    assert found.unknown == (str(second),)


def test_without_a_note_nothing_is_claimed() -> None:
    assert verify(starter.MODEL).unknown == (str(starter.MODEL),)


def test_a_model_that_is_not_there_is_told(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint)
    with pytest.raises(NotFound):
        verify(checkpoint)
