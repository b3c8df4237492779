"""Modules for graphics that crash, hang or have no driver, and what is used instead of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from engine import gpu_modules, starter
from engine.cli import main
from engine.client import Worker
from engine.detect import Detect
from engine.errors import WorkerCrashed
from engine.fit.job import Fit
from engine.folders import folders
from engine.gguf import write_gguf
from engine.gguf_values import Value
from engine.gpu_modules import Found, graphics, probe, select
from engine.graphics_cards import AMD, NVIDIA, Card
from engine.hardware import Computer, Device, Graphics
from engine.inference import Generate, Load, LoadSettings, ModelInfo
from engine.processes import AUTO, CPU, is_crash
from engine.splits import open_gguf
from tests.helpers.gpu_modules import (
    CRASHES,
    FINDS_NOTHING,
    HANGS,
    HAS_NO_DRIVER,
    card,
    compile_module,
    llama_cpp_with,
)

CRASHED = "Vulkan crashed at work. Snug computes on the processor instead."


def detect(device: str = AUTO, *, tries_again: bool = False) -> Graphics:
    worker = Worker.start(device=device)
    try:
        found: Computer = worker.finish(Detect(tries_again))
        return found.graphics
    finally:
        worker.stop()


def load(device: str = AUTO) -> ModelInfo:
    worker = Worker.start(device=device)
    try:
        info: ModelInfo = worker.finish(Load(str(starter.MODEL), LoadSettings(n_ctx=512)))
        return info
    finally:
        worker.stop()


def tried(told: Graphics) -> dict[str, str]:
    return {unused.name: unused.reason for unused in told.unused}


def test_a_module_that_crashes_takes_nobody_along(tmp_path: Path) -> None:
    found = probe(compile_module(tmp_path, "vulkan", CRASHES))
    assert found.is_quarantined
    assert found.problem == "Vulkan crashed when it was tried."
    assert str(-signal.SIGABRT) in found.details


def test_a_module_that_hangs_is_given_up(tmp_path: Path) -> None:
    found = probe(compile_module(tmp_path, "cuda", HANGS), patience_s=3)
    assert found.is_quarantined
    assert found.problem == "CUDA did not answer within 3 s when it was tried."


@pytest.mark.parametrize("source", [HAS_NO_DRIVER, FINDS_NOTHING])
def test_without_a_driver_there_is_no_quarantine(tmp_path: Path, source: str) -> None:
    found = probe(compile_module(tmp_path, "vulkan", source))
    assert not found.is_quarantined and found.is_final
    assert found.problem == "Vulkan has no driver here."


def test_devices_are_told_as_the_module_has_them(tmp_path: Path) -> None:
    (device,) = probe(compile_module(tmp_path, "vulkan", card("Vulkan"))).devices
    assert (device.name, device.description) == ("Vulkan0", "Test Card 3000")
    assert (device.kind, device.backend) == ("gpu", "Vulkan")
    assert device.memory_total_bytes == 8_000_000_000


def test_the_next_module_is_used_after_one_that_crashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binding = llama_cpp_with(tmp_path, cuda=CRASHES, vulkan=card("Vulkan"))
    monkeypatch.setenv("PYTHONPATH", str(binding))
    told = detect()
    assert tried(told) == {"CUDA": "CUDA crashed when it was tried."}
    assert [device.name for device in told.devices] == ["Vulkan0"]
    assert told.notice == (
        "CUDA crashed when it was tried. Snug computes on Test Card 3000 instead."
    )


def test_all_is_tried_once_and_again_when_someone_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = tmp_path / "count"
    counts = f'FILE *f = fopen("{count}", "a"); fputs("x", f); fclose(f);'
    source = "#include <stdio.h>\n" + CRASHES.replace("abort();", f"{counts} abort();")
    monkeypatch.setenv("PYTHONPATH", str(llama_cpp_with(tmp_path, vulkan=source)))
    for _ in range(2):
        assert tried(detect()) == {"Vulkan": "Vulkan crashed when it was tried."}
    assert count.read_text() == "x"
    detect(tries_again=True)
    assert count.read_text() == "xx"
    monkeypatch.setenv("GGML_VK_VISIBLE_DEVICES", "0")  # as a new driver, it may work now
    detect()
    assert count.read_text() == "xxx"


def test_a_load_that_crashes_on_a_card_is_repeated_on_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(llama_cpp_with(tmp_path, vulkan=card("Vulkan"))))
    with pytest.raises(WorkerCrashed):
        load()
    info = load()
    assert info.device == "CPU"
    assert info.notice == CRASHED
    assert tried(detect()) == {"Vulkan": "Vulkan crashed at work."}
    assert not list(folders().cache.glob("computing-*"))


def crash(worker: Worker) -> None:
    """End it as a fault would, and wait until that was heard of."""
    os.kill(worker.pid, signal.SIGSEGV)
    worker.stop()


def test_a_card_is_not_blamed_for_what_it_was_only_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binding = llama_cpp_with(tmp_path, vulkan=card("Vulkan", works=True))
    monkeypatch.setenv("PYTHONPATH", str(binding))
    model = str(starter.MODEL)
    for job in (Fit(model), Load(model, LoadSettings(n_ctx=512, n_gpu_layers=0))):
        worker = Worker.start()
        worker.finish(job)
        crash(worker)
        assert tried(detect()) == {}
    worker = Worker.start()
    assert worker.finish(Load(model, LoadSettings(n_ctx=512))).device == "Test Card 3000"
    worker.finish(Generate(prompt="Once", max_tokens=1))
    crash(worker)
    assert tried(detect()) == {}  # it has shown that it can
    worker = Worker.start()
    worker.finish(Load(model, LoadSettings(n_ctx=512)))
    crash(worker)
    assert tried(detect()) == {"Vulkan": "Vulkan crashed at work."}


def test_a_card_is_not_blamed_for_a_model_that_llama_cpp_gives_up_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binding = llama_cpp_with(tmp_path, vulkan=card("Vulkan", works=True))
    monkeypatch.setenv("PYTHONPATH", str(binding))
    path = tmp_path / "wrong.gguf"
    with open_gguf(starter.MODEL) as good:
        used = f"{good.get('general.architecture')}.expert_used_count"
        wrong = {**good.metadata, used: Value.u32(4)}  # of none
        with write_gguf(path, wrong, good.tensors) as writer:
            for tensor in good.tensors:
                writer.write(good.raw(tensor, 0, tensor.n_rows))
    worker = Worker.start()
    with pytest.raises(WorkerCrashed, match="stopped unexpectedly") as crashed:
        worker.finish(Load(str(path), LoadSettings(n_ctx=512)))
    assert "GGML_ASSERT" in crashed.value.details
    worker.stop()
    assert tried(detect()) == {}


def test_a_folder_of_any_name_can_be_computed_and_crashed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    binding = llama_cpp_with(folder, vulkan=card("Vulkan"))
    monkeypatch.setenv("PYTHONPATH", str(binding))
    with pytest.raises(WorkerCrashed):
        load()
    assert load().notice == CRASHED


@pytest.mark.skipif(os.name == "nt", reason="limits of a process")
def test_a_mark_is_there_whole_or_not_at_all() -> None:
    full = """
import resource
from pathlib import Path
from engine import gpu_modules
resource.setrlimit(resource.RLIMIT_FSIZE, (4, 4))
gpu_modules.hand_over(Path("libggml-vulkan.so"))
"""
    subprocess.run([sys.executable, "-c", full], check=True)
    assert not list(folders().cache.iterdir())


def test_a_job_tells_once_what_it_is_not_computed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(llama_cpp_with(tmp_path, vulkan=card("Vulkan"))))
    with pytest.raises(WorkerCrashed):
        load()
    text = tmp_path / "text.txt"
    text.write_text("The fox sat down by the river. " * 200)
    model = str(starter.MODEL)
    assert main(["quality", model, "--reference", model, "--text", str(text), "--chunks", "1"]) == 0
    assert capsys.readouterr().err.count(CRASHED) == 1


def test_a_worker_that_was_killed_says_nothing_of_the_card(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = card("Vulkan").replace(
        "crash(void) { abort(); }", "crash(void) { raise(SIGKILL); return 0; }"
    )
    binding = llama_cpp_with(tmp_path, vulkan=f"#include <signal.h>\n{source}")
    monkeypatch.setenv("PYTHONPATH", str(binding))
    with pytest.raises(WorkerCrashed):
        load()
    assert tried(detect()) == {}


def test_who_wants_the_processor_gets_it_without_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(llama_cpp_with(tmp_path, vulkan=card("Vulkan"))))
    info = load(CPU)
    assert (info.device, info.notice) == ("CPU", "")
    told = detect(CPU)
    assert [device.name for device in told.devices] == ["Vulkan0"]  # it can still be chosen


def test_a_device_that_is_not_there_is_told() -> None:
    info = load("CUDA7")
    assert info.device == "CPU"
    assert info.notice == (
        "CUDA7, which was chosen, is not there. Snug computes on the processor instead."
    )


def test_a_build_without_modules_tries_nothing() -> None:
    told = detect()
    assert told == Graphics()
    assert not (folders().cache / "graphics.json").exists()


def device(name: str, kind: str = "gpu") -> Device:
    return Device(name, f"Card {name}", kind, 0, 0)  # type: ignore[arg-type]


def test_the_better_card_is_selected_unless_another_is_named() -> None:
    cuda, vulkan = Path("libggml-cuda.so"), Path("libggml-vulkan.so")
    inside = Found((device("CUDA0", "igpu"),))
    both = {cuda: inside, vulkan: Found((device("Vulkan0"), device("Vulkan1")))}
    assert select(AUTO, both) == vulkan
    assert select("cuda0", both) == cuda
    assert select(AUTO, {cuda: inside, vulkan: Found(problem="Vulkan has no driver here.")}) == cuda
    assert select(CPU, both) is None


def test_a_damaged_record_is_no_reason_to_stop(tmp_path: Path) -> None:
    module = compile_module(tmp_path, "vulkan", card("Vulkan"))
    record = folders().cache / "graphics.json"
    record.parent.mkdir(parents=True)
    record.write_text("{")
    assert gpu_modules.look([module])[module].devices
    record.unlink()
    record.mkdir()  # nothing can be kept here
    assert gpu_modules.look([module])[module].devices


def test_what_goes_wrong_while_looking_is_told_and_not_raised(tmp_path: Path) -> None:
    gone = tmp_path / "libggml-vulkan.so"
    found = gpu_modules.look([gone])[gone]
    assert found.problem == "Vulkan could not be tried." and not found.is_final
    assert "FileNotFoundError" in found.details


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_only_faults_of_its_own_are_crashes() -> None:
    assert is_crash(-signal.SIGSEGV) and is_crash(-signal.SIGABRT)
    assert not any(map(is_crash, (0, 1, 3, 70, -signal.SIGKILL, -signal.SIGTERM)))


def test_an_old_driver_is_told_once() -> None:
    cards = (Card(NVIDIA, "470.82"),)
    why = "NVIDIA GPU found, but its driver is too old (470.82): 535 or newer."
    cuda, vulkan = Path("libggml-cuda.so"), Path("libggml-vulkan.so")
    nothing = Found(problem="Vulkan found nothing to compute on.")
    told = graphics(AUTO, {cuda: Found(problem=why), vulkan: nothing}, cards)
    assert tried(told) == {"CUDA": why, "Vulkan": nothing.problem}
    assert told.notice == f"{why} Snug computes on the processor instead."
    assert tried(graphics(AUTO, {vulkan: nothing}, cards))["NVIDIA"] == why
    by_vulkan = Device("Vulkan0", "NVIDIA GeForce GTX 1060", "gpu", 0, 0)
    assert graphics(AUTO, {vulkan: Found((by_vulkan,))}, cards).notice == ""
    assert graphics(CPU, {vulkan: nothing}, cards).notice == ""
    assert graphics(AUTO, {}, cards) == Graphics()  # a build that has nothing for graphics


CUDA, VULKAN = Path("libggml-cuda.so"), Path("libggml-vulkan.so")
NO_CUDA = Found(problem="CUDA has no driver here.")
NO_VULKAN = Found(problem="Vulkan has no driver here.")
NOT_TRIED = Found(problem="Vulkan could not be tried.", is_final=False)
INSTALL = "Install the newest driver of the graphics card to use it."
INSTEAD = "Snug computes on the processor instead."


@pytest.mark.parametrize(
    ("cards", "cuda", "vulkan", "notice"),
    [
        (
            (Card(AMD, "amdgpu"),),
            NO_CUDA,
            NOT_TRIED,
            f"Vulkan could not be tried. It is tried again when a model is loaded. {INSTEAD}",
        ),
        (
            (Card(AMD, "amdgpu"), Card(NVIDIA, "550.54")),
            Found(problem="CUDA found nothing to compute on."),
            NO_VULKAN,
            (
                f"CUDA found nothing to compute on. {INSTALL}"
                f" Vulkan has no driver here. {INSTALL} {INSTEAD}"
            ),
        ),
        (
            (Card(AMD, "amdgpu"), Card(NVIDIA, "470.82")),
            NO_CUDA,
            NO_VULKAN,
            (
                "NVIDIA GPU found, but its driver is too old (470.82): 535 or newer."
                f" Vulkan has no driver here. {INSTALL} {INSTEAD}"
            ),
        ),
        ((), NO_CUDA, NO_VULKAN, ""),
        ((Card(0x1234, "bochs-drm"),), NO_CUDA, NO_VULKAN, ""),  # a virtual machine
        ((Card(AMD, "amdgpu"),), NO_CUDA, Found((device("Vulkan0"),)), ""),
    ],
)
def test_a_card_that_is_not_used_is_told_with_what_to_do(
    cards: tuple[Card, ...], cuda: Found, vulkan: Found, notice: str
) -> None:
    assert graphics(AUTO, {CUDA: cuda, VULKAN: vulkan}, cards).notice == notice
    assert graphics(CPU, {CUDA: cuda, VULKAN: vulkan}, cards).notice == ""
