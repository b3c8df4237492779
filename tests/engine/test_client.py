"""The handle on the worker, against real processes: a good one, and some that go wrong."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from engine import client
from engine.chat import Message
from engine.client import Cancelled, Failed, Stepped, Succeeded, Worker, blames_model, explain_death
from engine.errors import (
    DeviceLost,
    InferenceError,
    NotFound,
    OutOfMemory,
    StorageError,
    UnsupportedArchitecture,
    WorkerCrashed,
)
from engine.folders import folders
from engine.ggml_types import GgmlType
from engine.gguf import TensorInfo, Value, write_gguf
from engine.inference import Generate, Load, LoadSettings
from engine.jobs import Piece, Progress
from engine.protocol import STUCK_STATUS
from engine.quantize.quality import Quality
from engine.quantize.shrink import Shrink
from tests.helpers.checkpoints import write_tiny_checkpoint

IMPATIENT = "from engine import worker; worker.GRACE_S = 2.0; worker.main()"
"""The real worker, but it waits less long before it ends itself."""
FAKE = Path(__file__).parents[1] / "helpers" / "fake_worker.py"


def fake(mode: str) -> Worker:
    return Worker.start(command=[sys.executable, str(FAKE), mode])


def load(path: str = "/nowhere.gguf") -> Load:
    return Load(path, LoadSettings())


def last(events: queue.Queue[Any]) -> Any:
    """The outcome of a call, waiting for it."""
    while isinstance(event := events.get(timeout=30), Stepped):
        pass
    return event


@pytest.mark.parametrize(
    ("mode", "error"),
    [("abort", WorkerCrashed), ("kill", WorkerCrashed), ("out-of-memory", OutOfMemory),
     ("garbage", WorkerCrashed)],
)  # fmt: skip
def test_a_death_ends_every_open_call_with_its_reason(mode: str, error: type[Exception]) -> None:
    worker = fake(mode)
    first: queue.Queue[Any] = queue.Queue()
    second: queue.Queue[Any] = queue.Queue()
    worker.run(load(), first.put)
    worker.run(load(), second.put)
    assert first.get(timeout=30) == Stepped(Piece("a", 1))
    for events in (first, second):
        outcome = last(events)
        assert isinstance(outcome, Failed)
        assert type(outcome.error) is error
        assert outcome.error.message and outcome.error.hint and outcome.error.details
    late: queue.Queue[Any] = queue.Queue()
    worker.run(load(), late.put)
    assert isinstance(late.get(timeout=1), Failed)
    worker.stop()


def test_a_worker_that_does_not_listen_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "STOP_S", 0.5)
    worker = fake("deaf")
    events: queue.Queue[Any] = queue.Queue()
    worker.run(load(), events.put)
    worker.stop()
    assert isinstance(last(events), Cancelled)


def test_errors_of_the_engine_keep_their_class() -> None:
    worker = Worker.start()
    events: queue.Queue[Any] = queue.Queue()
    worker.run(load("/no/such/model.gguf"), events.put)
    outcome = last(events)
    assert isinstance(outcome, Failed) and isinstance(outcome.error, NotFound)
    assert worker.ready and worker.ready.pid == worker.pid
    worker.stop()


def test_a_good_worker_runs_jobs_in_turn_and_hears_a_cancel(tiny_gguf: Path) -> None:
    worker = Worker.start()
    first: queue.Queue[Any] = queue.Queue()
    second: queue.Queue[Any] = queue.Queue()
    worker.run(load(str(tiny_gguf)), first.put)
    waiting = worker.run(load(str(tiny_gguf)), second.put)
    waiting.cancel()
    outcome = last(first)
    assert isinstance(outcome, Succeeded) and outcome.result.path == str(tiny_gguf)
    assert isinstance(last(second), Cancelled)
    worker.stop()


@pytest.mark.parametrize("told", ["cancel", "pause", "the window is gone"])
def test_only_a_cancel_takes_away_what_a_job_can_go_on_from(tmp_path: Path, told: str) -> None:
    source = write_tiny_checkpoint(tmp_path / "Big", hidden=1024, ffn=2048, n_layers=4)
    job = Shrink(str(source), str(tmp_path / "big.gguf"), "Q5_K_M", 1)
    worker = Worker.start()
    events: queue.Queue[Any] = queue.Queue()
    call = worker.run(job, events.put)
    step: Any = None
    while not (isinstance(step, Progress) and step.stage == "Shrinking" and step.done):
        step = events.get(timeout=30).step
    if told == "the window is gone":
        worker.stop()
    else:
        getattr(call, told)()
    assert isinstance(last(events), Cancelled)
    worker.stop()
    left = {path.name for path in tmp_path.iterdir()} - {source.name}
    assert left == (set() if told == "cancel" else {"big.gguf.partial", "big.gguf.partial.json"})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs a file whose opening hangs")
def test_a_job_that_hangs_is_cancelled_with_its_worker(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hangs.txt")
    reasons: list[Any] = []
    worker = Worker.start(reasons.append, command=[sys.executable, "-P", "-c", IMPATIENT])
    hanging: queue.Queue[Any] = queue.Queue()
    waiting: queue.Queue[Any] = queue.Queue()
    job = Quality("/no/model.gguf", "/no/reference.gguf", str(tmp_path / "hangs.txt"))
    call = worker.run(job, hanging.put)
    worker.run(load(), waiting.put)
    for _ in range(3000):
        with contextlib.suppress(OSError):  # nobody reads it yet
            silent = os.open(tmp_path / "hangs.txt", os.O_WRONLY | os.O_NONBLOCK)
            break
        time.sleep(0.01)
    call.cancel()
    assert isinstance(last(hanging), Cancelled)
    other = last(waiting)
    assert isinstance(other, Failed) and "did not stop when it was asked" in other.error.message
    os.close(silent)
    worker.stop()
    assert not worker.is_alive
    assert reasons == [other.error]


def test_a_cancel_that_was_heard_does_not_end_the_next_job(endless_gguf: Path) -> None:
    worker = Worker.start(command=[sys.executable, "-P", "-c", IMPATIENT])
    worker.finish(load(str(endless_gguf)))
    for seconds in (0.0, 2.5):  # the second answer outlives the patience with the first
        events: queue.Queue[Any] = queue.Queue()
        call = worker.run(Generate(prompt="Once"), events.put)
        assert isinstance(events.get(timeout=30), Stepped)
        time.sleep(seconds)
        call.cancel()
        assert isinstance(last(events), Cancelled)
    assert worker.is_alive
    worker.stop()


@pytest.mark.parametrize(
    ("status", "line", "error"),
    [
        (-6, "ggml_cuda: CUDA error: an illegal memory access", DeviceLost),
        (-6, "terminate called after throwing 'std::bad_alloc'", OutOfMemory),
        (-6, "  what():  vk::Device::allocateMemory: ErrorOutOfDeviceMemory", OutOfMemory),
        (-6, "  what():  vk::Device::allocateMemory: ErrorOutOfHostMemory", OutOfMemory),
        (-6, "ggml_vulkan: Device memory allocation of size 99 failed.", OutOfMemory),
        (-6, "  what():  vk::Queue::submit: ErrorDeviceLost", DeviceLost),
        (1, "error loading model: unknown model architecture: 'x'", UnsupportedArchitecture),
        (-11, "nothing of note", WorkerCrashed),
        (STUCK_STATUS, "nothing of note", WorkerCrashed),
    ],
)
def test_a_death_is_explained_from_its_log(status: int, line: str, error: type[Exception]) -> None:
    explained = explain_death(status, ["earlier", line, "(core dumped)"])
    assert type(explained) is error
    assert line in explained.details


@pytest.mark.parametrize(
    ("line", "is_of_model"),
    [
        ("/b/vendor/llama.cpp/src/llama-model.cpp:1362: GGML_ASSERT(n_expert > 0) failed", True),
        ("src/llama.cpp:12: fatal error", True),
        (r"C:\b\llama.cpp\src\llama-vocab.cpp:7: GGML_ASSERT(false) failed", True),
        ("/b/llama.cpp/ggml/src/gguf.cpp:70: GGML_ASSERT(n > 0) failed", True),
        ("/b/llama.cpp/ggml/src/ggml-cpu/ops.cpp:70: GGML_ASSERT(n > 0) failed", True),
        ("/b/llama.cpp/ggml/src/ggml-vulkan/ggml-vulkan.cpp:70: GGML_ASSERT(n) failed", False),
        ("/b/llama.cpp/ggml/src/ggml-cuda/ggml-cuda.cu:98: CUDA error", False),
        ("/b/llama.cpp/ggml/src/ggml-backend.cpp:98: GGML_ASSERT(backend) failed", False),
        ("llama_model_loader: loaded meta data from llama-2.gguf", False),
    ],
)
def test_what_gave_up_is_known_from_the_log(line: str, is_of_model: bool) -> None:
    assert blames_model(["earlier", line, "(core dumped)"]) == is_of_model


@pytest.mark.parametrize("mark", [b"", b"/gone/libggml-evil.so", b"/caf\xe9/\xff"])
def test_a_mark_that_says_nothing_keeps_no_call_waiting(mark: bytes) -> None:
    ends: queue.Queue[Any] = queue.Queue()
    worker = Worker.start(ends.put, command=[sys.executable, str(FAKE), "abort"])
    path = folders().cache / f"computing-{worker.pid}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(mark)
    events: queue.Queue[Any] = queue.Queue()
    worker.run(load(), events.put)
    assert isinstance(last(events), Failed)
    assert isinstance(ends.get(timeout=30), WorkerCrashed)
    assert not path.exists()
    worker.stop()


def test_a_name_that_is_no_text_is_refused_and_the_worker_lives_on() -> None:
    worker = Worker.start()
    with pytest.raises(StorageError, match="not valid text"):
        worker.finish(load("/tmp/caf\udce9.gguf"))
    with pytest.raises(NotFound):
        worker.finish(load("/no/such/model.gguf"))
    worker.stop()


def test_a_prompt_that_is_no_text_is_refused_as_a_text(tiny_gguf: Path) -> None:
    worker = Worker.start()
    worker.finish(load(str(tiny_gguf)))
    with pytest.raises(InferenceError, match="This text holds a character"):
        worker.finish(Generate(prompt="Once \ud800 upon", max_tokens=1))
    with pytest.raises(InferenceError, match="This text holds a character"):
        worker.finish(Generate(messages=(Message("user", "caf\udce9"),), max_tokens=1))
    assert worker.finish(Generate(prompt="Once", max_tokens=1)).generation_tokens == 1
    worker.stop()


def test_a_file_that_calls_itself_what_is_no_text_is_an_error_like_others(tmp_path: Path) -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    tensor = TensorInfo("token_embd.weight", (32, 2), GgmlType.F32)
    path = tmp_path / "odd.gguf"
    with write_gguf(path, {"general.architecture": Value.string(name)}, [tensor]) as writer:
        writer.write(bytes(tensor.n_bytes))
    worker = Worker.start()
    with pytest.raises(UnsupportedArchitecture, match=r"caf\?"):
        worker.finish(load(str(path)))
    worker.stop()
