"""Downloads against a server that does everything wrong that servers do."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import AccessDenied, CorruptFile, EngineError, NetworkError, NotFound
from engine.hub import part, transfer
from engine.jobs import Progress, finish
from tests.helpers.fake_hub import FakeHub, Fault, Repo, fake_hub

DATA = random.Random(1).randbytes(1_000_003)
DIGEST = "sha256:" + hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """One with a file of 16 pieces, against a client that has no patience."""
    monkeypatch.setattr(part, "PIECE_BYTES", 1 << 16)
    monkeypatch.setattr(transfer, "STALLED_S", 0.3)
    monkeypatch.setattr(transfer, "FIRST_PAUSE_S", 0.001)
    with fake_hub() as hub:
        hub.repos["owner/name"] = Repo({"m.gguf": DATA})
        yield hub


def wanted(hub: FakeHub, digest: str = DIGEST, size_bytes: int = len(DATA)) -> part.Wanted:
    return part.Wanted(f"{hub.url}/owner/name/resolve/main/m.gguf", size_bytes, digest)


def download(hub: FakeHub, folder: Path) -> Path:
    return finish(transfer.transfer(wanted(hub), folder / "m.gguf"))


def test_a_file_arrives_whole_and_alone(hub: FakeHub, tmp_path: Path) -> None:
    assert download(hub, tmp_path).read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]
    assert len(hub.requests) == 16 and hub.n_body_bytes == len(DATA)


@pytest.mark.parametrize("percent", range(100))
def test_after_a_cut_nothing_is_fetched_twice(hub: FakeHub, tmp_path: Path, percent: int) -> None:
    at = percent * (1 << 16) // 100
    hub.faults = [Fault("cut", at=at, times=1 + percent % 3)]
    assert download(hub, tmp_path).read_bytes() == DATA
    assert hub.n_body_bytes == len(DATA)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=503, times=3),
        Fault("status", status=500),
        Fault("status", status=429, retry_after="0"),
        Fault("status", status=429, retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
        Fault("wrong range", times=2),
        Fault("short", times=2),
        Fault("stall", at=1000, seconds=1.0),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status or fault.times}",
)
def test_what_passes_is_waited_for(hub: FakeHub, tmp_path: Path, fault: Fault) -> None:
    hub.faults = [fault]
    assert download(hub, tmp_path).read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == ["m.gguf"]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault("status", status=401, times=99), AccessDenied),
        (Fault("status", status=403, times=99), AccessDenied),
        (Fault("status", status=404, times=99), NotFound),
        (Fault("status", status=418, times=99), NetworkError),
        (Fault("status", status=502, times=99), NetworkError),
        (Fault("loop", times=999), NetworkError),
        (Fault("empty", times=999), NetworkError),
    ],
    ids=lambda value: str(getattr(value, "status", "")),
)
def test_what_does_not_pass_is_told_and_leaves_nothing(
    hub: FakeHub, tmp_path: Path, fault: Fault, error: type[EngineError]
) -> None:
    hub.faults = [fault]
    with pytest.raises(error) as told:
        download(hub, tmp_path)
    assert told.value.message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("at", [0, 1, 65_535, 65_536, 500_000, len(DATA) - 1])
def test_a_flipped_byte_is_found_and_nothing_is_kept(hub: FakeHub, tmp_path: Path, at: int) -> None:
    hub.faults = [Fault("flip", at=at, times=99)]
    with pytest.raises(CorruptFile, match="damaged"):
        download(hub, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_file_that_changes_on_the_way_is_fetched_anew(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults = [Fault("cut", at=100), Fault("changed")]
    target = tmp_path / "m.gguf"
    new = bytes(byte ^ 0xFF for byte in DATA[:64]) + DATA[64:]
    digest = "sha256:" + hashlib.sha256(new).hexdigest()
    finish(transfer.transfer(wanted(hub, digest), target))
    assert target.read_bytes() == new


def test_a_server_without_ranges_is_read_from_end_to_end(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults = [Fault("no ranges", times=999)]
    assert download(hub, tmp_path).read_bytes() == DATA


def test_a_stopped_download_goes_on(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults = [Fault("cut", at=60_000, times=8)]
    steps = transfer.transfer(wanted(hub), tmp_path / "m.gguf", bytes_per_second=400_000)
    for step in steps:
        assert isinstance(step, Progress)
        if step.done > len(DATA) // 2:
            break
    steps.close()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".part"]
    before = hub.n_body_bytes
    assert download(hub, tmp_path).read_bytes() == DATA
    # Only pieces that were under way when it stopped come again.
    assert hub.n_body_bytes - before <= len(DATA) - before + transfer.CONNECTIONS * (1 << 16)


def test_progress_never_goes_back(hub: FakeHub, tmp_path: Path) -> None:
    hub.faults = [Fault("cut", at=100 * k) for k in range(1, 30)]
    done = [
        step.done
        for step in transfer.transfer(wanted(hub), tmp_path / "m.gguf", bytes_per_second=2_000_000)
        if step.stage == "Downloading"
    ]
    assert done == sorted(done) and done[-1] == len(DATA)
