"""The header of a model on the hub tells as much as the whole file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.checkpoint import Checkpoint
from engine.errors import AccessDenied, CorruptFile, EngineError, NetworkError, NotFound
from engine.fit.shape import Shape
from engine.gguf import GgufFile
from engine.hub.hub import Hub
from engine.hub.outline import fetch_outline
from engine.inspect import describe
from engine.jobs import finish
from tests.helpers.checkpoints import write_tiny_checkpoint
from tests.helpers.fake_hub import FakeHub, Fault, Repo, fake_hub
from tests.helpers.headers import header


@pytest.fixture
def server() -> Iterator[FakeHub]:
    with fake_hub() as server:
        yield server


def outline(server: FakeHub, folder: Path, token: str = "") -> Path:
    hub = Hub(token, server.url)
    repo = hub.repo("ann/model")
    return finish(fetch_outline(hub, repo, repo.variants()[0], folder))


def test_of_a_gguf_a_few_megabytes_are_read(server: FakeHub, tmp_path: Path) -> None:
    whole = header("qwen2").write_sparse(tmp_path / "whole-Q8_0.gguf")
    server.repos["ann/model"] = Repo({"m-Q8_0.gguf": whole.read_bytes()})
    ours, theirs = GgufFile.open(outline(server, tmp_path / "out")), GgufFile.open(whole)
    assert (ours.metadata, ours.tensors) == (theirs.metadata, theirs.tensors)
    assert ours.size_bytes == theirs.size_bytes > 500e6
    assert server.n_body_bytes < 16e6
    assert Shape.from_metadata(ours.metadata) == Shape.from_metadata(theirs.metadata)


def test_a_checkpoint_can_be_described_before_it_is_here(server: FakeHub, tmp_path: Path) -> None:
    checkpoint = write_tiny_checkpoint(tmp_path / "model", sharded=True)
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    server.repos["ann/model"] = Repo(files)
    found = outline(server, tmp_path / "out" / "model")
    assert Checkpoint.open(found).tensors.keys() == Checkpoint.open(checkpoint).tensors.keys()
    whole = describe(checkpoint)
    assert describe(found).n_params == whole.n_params
    assert describe(found).size_bytes == whole.size_bytes
    assert server.n_body_bytes < sum(map(len, files.values())) / 2


def test_a_server_without_ranges_is_understood(
    server: FakeHub, tmp_path: Path, tiny_gguf: Path
) -> None:
    server.repos["ann/model"] = Repo({"m.gguf": tiny_gguf.read_bytes()})
    server.faults = [Fault("no ranges", times=9)]
    found = GgufFile.open(outline(server, tmp_path / "out"))
    assert found.tensors == GgufFile.open(tiny_gguf).tensors


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("status", status=401), AccessDenied),
        (Fault("status", status=404), NotFound),
        (Fault("status", status=503), NetworkError),
        (Fault("cut", at=100), NetworkError),
        (Fault("loop", times=99), NetworkError),
        (Fault("flip", at=0), CorruptFile),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
def test_what_goes_wrong_is_told(
    server: FakeHub, tmp_path: Path, tiny_gguf: Path, fault: Fault, error: type[EngineError]
) -> None:
    server.repos["ann/model"] = Repo({"m.gguf": tiny_gguf.read_bytes()})
    server.faults = [fault]
    with pytest.raises(error) as told:
        outline(server, tmp_path / "out")
    assert told.value.hint
