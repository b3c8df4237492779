"""Snug's main job by the command line, as a person or a script would call it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from engine.gguf import GgufFile
from engine.jobs import Paused
from engine.quantize.shrink import Shrink
from engine.quantize.shrink_to_size import ShrinkToSize
from engine.settings import SettingsFile
from tests.helpers.adapters import load_cases, write_case
from tests.helpers.checkpoints import write_tiny_checkpoint
from tests.helpers.gpu_modules import card, llama_cpp_with
from tests.helpers.pauses import pause

STOCK, FAST = ("--effort", "stock"), ("--effort", "fast")


def engine(*args: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "engine", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=300)


def answer_of(*args: object, stdin: str = "") -> Any:
    done = engine(*args, "--json", stdin=stdin)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_checkpoint_is_converted_shrunk_measured_and_talked_to(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    full = tmp_path / "full.gguf"
    converted = answer_of("convert", tiny_checkpoint, full, "--type", "bf16")
    assert converted["size_bytes"] == full.stat().st_size

    from_folder, from_file = tmp_path / "a.gguf", tmp_path / "b.gguf"
    shrunk = answer_of("shrink", tiny_checkpoint, "-o", from_folder, "--type", "Q4_K_M", *STOCK)
    answer_of("shrink", full, "-o", from_file, "--type", "Q4_K_M", *STOCK)
    assert shrunk["size_bytes"] == from_folder.stat().st_size < full.stat().st_size / 2
    assert from_folder.read_bytes() == from_file.read_bytes()

    summary = answer_of("inspect", from_folder)
    assert (summary["architecture"], summary["type"]) == ("llama", "Q4_K_M")

    text = tmp_path / "text.txt"
    text.write_text("The quick brown fox jumps over the lazy dog. " * 60)
    wide = tmp_path / "wide.gguf"
    answer_of("shrink", full, "-o", wide, "--type", "Q8_0", *STOCK)
    judge = ("--reference", full, "--text", text, "-c", 64)
    near, far = (answer_of("quality", m, *judge) for m in (wide, from_folder))
    gate = ("--gate", "same_top=1.5,p999=off", "--kv", "f16")
    same = answer_of("quality", full, *judge, *gate)
    assert same["kld_mean"] == pytest.approx(0, abs=1e-6)
    assert same["same_top_fraction"] == 1
    assert 1e-6 < near["kld_mean"] < far["kld_mean"] / 10
    assert same["perplexity"] == near["perplexity_reference"]
    assert near["failures"] == []
    (failure,) = same["failures"]
    assert (failure["threshold"], failure["value"]) == ("same_top", 1)
    assert same["kv_type"] == "f16" and same["probes"] is None

    talk = ("chat", from_folder, "-p", "Hello", "-n", 12, "--seed", 7)
    first, again = answer_of(*talk), answer_of(*talk)
    assert first["text"] == again["text"]
    assert 0 < first["generation_tokens"] <= 12
    assert first["finish_reason"] in ("stop", "length")
    assert answer_of("chat", from_folder, "-n", 3, stdin="From a pipe")["generation_tokens"] <= 3


def test_calibration_is_told_and_taken_again(tiny_gguf: Path, tmp_path: Path) -> None:
    calibrate = ("calibrate", tiny_gguf, "-o", tmp_path / "a.gguf", "--chunks", 2, "-c", 64)
    first, again = answer_of(*calibrate), answer_of(*calibrate)
    assert (first["n_tokens"], first["n_tensors"], first["is_reused"]) == (128, 15, False)
    assert again["is_reused"] and first["peak_bytes"] > 1 << 20
    done = engine(*calibrate)
    assert "15 tensors, 128 tokens (there already)" in done.stdout
    other = engine(*calibrate[:-1], 128)
    assert other.returncode == 1 and "exists already" in other.stderr


def test_the_width_is_chosen_for_this_computer(tiny_checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    assert answer_of("shrink", tiny_checkpoint, "-o", out, *FAST)["recipe"] == "Q8_0"


def test_an_adapter_is_merged_or_becomes_a_file_of_its_own(tmp_path: Path) -> None:
    case = load_cases()["bf16"]
    base, adapter = write_case(tmp_path, case)
    twice = ("--lora", adapter, "--lora-scale", 0.5, "--lora", adapter, "--lora-scale", -0.5)
    none, plain = tmp_path / "none.gguf", tmp_path / "plain.gguf"
    for out, loras in ((plain, ()), (none, twice)):
        answer_of("convert", base, out, "--type", "f32", *loras)
    models = [GgufFile.open(path) for path in (plain, none)]
    for one, other in zip(*(model.tensors for model in models), strict=True):
        rows = models[0].rows(one, 0, one.n_rows), models[1].rows(other, 0, other.n_rows)
        assert np.abs(rows[0] - rows[1]).max() < 1e-5

    answer_of("shrink", base, "--lora", adapter, "--type", "Q8_0", *STOCK)
    assert (tmp_path / "base-adapter-Q8_0.gguf").exists()

    alone = answer_of("convert", adapter, tmp_path / "adapter.gguf", "--base", base)
    assert (alone["type"], alone["n_tensors"]) == ("F32", len(case.gguf))
    assert alone["size_bytes"] == (tmp_path / "adapter.gguf").stat().st_size
    base.rename(tmp_path / "someone")
    assert "--base FOLDER" in refused("convert", adapter, tmp_path / "x.gguf")
    into_itself = ("convert", adapter, tmp_path / "x.gguf", "--lora", adapter)
    assert "is an adapter itself" in refused(*into_itself)
    assert "is no adapter" in refused("convert", base, tmp_path / "x.gguf", "--base", base)
    wrong_order = engine("shrink", base, "--lora-scale", 1, "--lora", adapter)
    assert wrong_order.returncode == 2 and "has to come after the --lora" in wrong_order.stderr


def test_speed_is_told_in_tokens_per_second(tiny_gguf: Path) -> None:
    result = answer_of("bench", tiny_gguf, "-p", 32, "-n", 8, "-r", 1)
    assert result["pp_tokens_per_second"] > 0 and result["tg_tokens_per_second"] > 0


def test_this_computer_is_described() -> None:
    computer = answer_of("devices")
    assert computer["memory_total_bytes"] > computer["memory_available_bytes"] > 0
    assert computer["cpu"]["physical_cores"] >= 1


def test_what_is_computed_on_can_be_chosen_and_is_told(
    tiny_gguf: Path, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The card crashes who computes on it."""
    monkeypatch.setenv("PYTHONPATH", str(llama_cpp_with(tmp_path, vulkan=card("Vulkan"))))
    ask = ("chat", tiny_gguf, "-p", "Hello", "-n", 2)
    asked = engine(*ask, "--device", "cpu")
    assert asked.returncode == 0 and "Vulkan" not in asked.stderr
    SettingsFile(own_home / "config" / "settings.json").update(device="cpu")
    assert [device["kind"] for device in answer_of("devices")["devices"]] == ["cpu"]
    assert engine(*ask).returncode == 0

    assert engine(*ask, "--device", "auto").returncode == 1
    asked = engine(*ask, "--device", "auto")
    assert asked.returncode == 0
    assert "Vulkan crashed at work. Snug computes on the processor instead." in asked.stderr
    told = engine("devices").stdout
    assert "Vulkan crashed at work." in told and "--try-again" in told
    told = engine("devices", "--try-again", "--device", "vulkan0").stdout
    assert "Vulkan0    Test Card 3000\n           Vulkan, 8 GB memory, 8 GB free\n" in told


def test_people_get_words_and_figures(tiny_gguf: Path) -> None:
    assert "cores" in engine("devices").stdout
    assert "llama" in engine("inspect", tiny_gguf).stdout
    talk = engine("chat", tiny_gguf, "-p", "Hello", "-n", 4, "--temp", 0)
    assert talk.stdout.strip() and "tokens/s" in talk.stderr


@pytest.mark.parametrize(
    "args",
    [("dance",), ("chat",), ("bench", "x.gguf", "-p", "-3"), ("convert", "a", "b", "--type", "q4")],
)
def test_wrong_usage_is_2(args: tuple[str, ...]) -> None:
    done = engine(*args)
    assert done.returncode == 2 and "usage:" in done.stderr


def refused(*args: object) -> str:
    """The one sentence with which the engine declines."""
    done = engine(*args)
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("snug-engine: ")]
    assert len(told) == 1, done.stderr
    return told[0]


def test_what_cannot_be_done_is_a_sentence(
    tiny_gguf: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    no_model = tmp_path / "letter.gguf"
    no_model.write_text("Dear friend, this is no model.")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(tiny_gguf.read_bytes()[:-5000])
    pickle = tmp_path / "pickle"
    pickle.mkdir()
    (pickle / "config.json").write_text((tiny_checkpoint / "config.json").read_text())
    (pickle / "pytorch_model.bin").write_bytes(b"PK\x03\x04" + bytes(100))
    (tmp_path / "empty").mkdir()
    (tmp_path / "there.gguf").write_bytes(b"mine")

    assert "GGUF" in refused("inspect", no_model)
    assert "incomplete" in refused("chat", cut, "-p", "x")
    assert "config.json" in refused("inspect", tmp_path / "empty")
    assert "run" in refused("convert", pickle, tmp_path / "o.gguf")
    refused("inspect", tmp_path / "nothing")
    refused("shrink", tiny_gguf, "-o", tmp_path / "there.gguf", "--type", "Q8_0")
    assert (tmp_path / "there.gguf").read_bytes() == b"mine"
    refused("shrink", tiny_gguf, "--type", "Q9_X", "-o", tmp_path / "q9.gguf")
    long = "word " * 5000
    assert "context" in refused("chat", tiny_gguf, "-p", long, "-c", 256)
    assert "nothing to measure" in refused("bench", tiny_gguf, "-p", 0, "-n", 0)
    assert sorted(p.suffix for p in tmp_path.iterdir() if "partial" in p.name) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have a display")
@pytest.mark.parametrize("display", [{}, {"DISPLAY": ":6553"}], ids=["none", "dead"])
def test_without_a_display_the_main_job_is_done_in_the_terminal(
    own_home: Path, display: dict[str, str]
) -> None:
    without = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    }
    command = [sys.executable, "-m", "app"]
    done = subprocess.run(
        command,
        env=without | display,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("There is no display here")
    assert "mean KLD" in done.stdout and "shrinks language models" in done.stdout
    shrunk, report = sorted((own_home / "data" / "models").iterdir())
    assert report.name == f"{shrunk.stem}.quality.json"
    assert shrunk.name == "starter-Q8_0.gguf"


def test_trying_it_out_tells_a_script_all_figures(tmp_path: Path) -> None:
    told = answer_of("try", "--folder", tmp_path / "new")
    assert set(told) == {"shrink", "quality", "chat"}
    assert Path(told["shrink"]["path"]).is_file()
    assert told["quality"]["same_top_fraction"] > 0.9
    # What is quantized already is only talked to.
    again = answer_of("try", told["shrink"]["path"], "--folder", tmp_path)
    assert set(again) == {"chat"} and again["chat"]["text"]


def test_a_checkpoint_is_tried_out_as_well(tiny_checkpoint: Path, tmp_path: Path) -> None:
    assert set(answer_of("try", tiny_checkpoint, "--folder", tmp_path)) == {"shrink", "chat"}


def test_a_checkpoint_cannot_be_replaced_by_what_is_made_of_it(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    source = tmp_path / "Tiny"
    shutil.copytree(tiny_checkpoint, source)
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    (tmp_path / "link").symlink_to(source / "tokenizer.json")
    for out in (source / "model.safetensors", source / "config.json", tmp_path / "link"):
        for verb in (
            ("shrink", source, "-o", out, "--type", "Q8_0", *STOCK),
            ("convert", source, out),
        ):
            done = engine(*verb, "--overwrite")
            assert done.returncode == 1 and "cannot replace the model" in done.stderr
    assert {path.name: path.read_bytes() for path in source.iterdir()} == before
    # An earlier result beside the checkpoint's files is none of them.
    for _ in range(2):
        verb = ("shrink", source, "-o", source / "a.gguf", "--type", "q8_0", *FAST)
        done = engine(*verb, "--overwrite")
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files and signals")
def test_what_is_no_file_stays_what_it_is(tiny_checkpoint: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    for name in ("pipe", "nowhere"):
        out = tmp_path / name
        done = engine("shrink", tiny_checkpoint, "-o", out, "--type", "Q8_0", "--overwrite", *STOCK)
        assert done.returncode == 1 and "no ordinary file" in done.stderr
    assert engine("inspect", tmp_path / "pipe").returncode == 1


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("told", ["SIGTERM", "SIGHUP", "SIGINT", "SIGKILL, then SIGTERM"])
def test_a_closed_terminal_keeps_what_is_done_and_ctrl_c_does_not(
    tmp_path: Path, told: str
) -> None:
    source = write_tiny_checkpoint(tmp_path / "Big", hidden=1024, ffn=4096, n_layers=2)
    out, partial = tmp_path / "big.gguf", tmp_path / "big.gguf.partial"
    arguments = ("shrink", source, "-o", out, "--type", "Q5_K_M", "-t", "1", *STOCK)
    # Whoever runs the tests may ignore Ctrl+C, as nohup and `&` do: that is inherited.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "engine", *map(str, arguments)],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    signal.signal(signal.SIGINT, before)
    children = psutil.Process(process.pid).children
    while not partial.exists() or partial.stat().st_size < 1 << 20:
        assert process.poll() is None, "it ended before it could be told to"
        time.sleep(0.005)
    workers = children()
    if told == "SIGKILL, then SIGTERM":  # as when the worker is slow to hear its own
        process.kill()
        workers[0].terminate()
    else:
        os.killpg(process.pid, signal.Signals[told])
    status = process.wait(30)
    psutil.wait_procs(workers, 30)
    assert told != "SIGINT" or status == 130
    left = {path.name for path in tmp_path.iterdir()} - {source.name}
    assert left == (set() if told == "SIGINT" else {partial.name, f"{partial.name}.json"})
    done = engine(*arguments)
    assert done.returncode == 0, done.stderr
    assert ("Going on" in done.stderr) == (told != "SIGINT")
    straight = tmp_path / "straight.gguf"
    assert engine("shrink", source, "-o", straight, "--type", "Q5_K_M", *STOCK).returncode == 0
    assert out.read_bytes() == straight.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {source.name, out.name, straight.name}


def test_without_a_type_the_one_it_was_begun_with_is_taken(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(tiny_checkpoint, tmp_path / "Tiny"))
    pause(Shrink(str(source), str(tmp_path / "Tiny-Q3_K_M.gguf"), "Q3_K_M", 1), 0.5)
    done = engine("shrink", source, *STOCK)
    assert done.returncode == 0 and "Going on" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"Tiny", "Tiny-Q3_K_M.gguf"}


def test_what_was_begun_to_fit_is_gone_on_with(tiny_checkpoint: Path, tmp_path: Path) -> None:
    """By its own settings, though it would be recommended another size now."""
    source = Path(shutil.copytree(tiny_checkpoint, tmp_path / "Tiny"))
    out = tmp_path / "Tiny-Q3_K_M.gguf"
    job = ShrinkToSize(str(source), str(out), recipe="Q3_K_M", effort="fast", n_threads=1)
    steps = job.run()
    while getattr(next(steps), "stage", "") != "Trying types":
        pass
    with pytest.raises(Paused):
        steps.throw(Paused())
    done = engine("shrink", source, "-t", "1")
    assert done.returncode == 0 and "Calibrating" not in done.stderr
    assert f"Going on with {out.name}, which was begun and not finished: Q3_K_M" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {
        "Tiny",
        out.name,
        "Tiny-Q3_K_M.quality.json",
    }


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("chat", "x.gguf", "--seed", "99999999999999999999"), "from 0 to 4294967295"),
        (("chat", "x.gguf", "-t", "many"), "must be a number"),
        (("bench", "x.gguf", "-r", "0"), "from 1 to"),
    ],
)
def test_a_number_that_cannot_be_is_wrong_usage(arguments: tuple[str, ...], sentence: str) -> None:
    done = engine(*arguments)
    assert done.returncode == 2 and sentence in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_an_output_that_cannot_be_written_ends_in_a_sentence(tiny_gguf: Path) -> None:
    command = f"{sys.executable} -m engine inspect {tiny_gguf} --json"
    for end in ("> /dev/full", "0<&- 2>&-", "0<&- >&-"):
        done = subprocess.run(["sh", "-c", f"{command} {end}"], capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        assert done.returncode == (1 if "full" in end else 0)
