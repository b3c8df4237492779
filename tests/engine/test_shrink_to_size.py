"""A shrink to a size: never more bytes, the same ones by any threads, and on from where it was."""

from __future__ import annotations

import gc
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine.convert.job import Convert
from engine.convert.lora.choice import Lora
from engine.errors import (
    AlreadyExists,
    CorruptFile,
    DiskFull,
    TooSmall,
    UnsupportedTensor,
)
from engine.ggml_types import GgmlType
from engine.gguf import GgufFile, gguf_size_bytes, write_gguf
from engine.jobs import Paused, Progress, Step, finish
from engine.leftovers import discard, find_leftovers
from engine.library import Library
from engine.llama.evaluate import Evaluator
from engine.llama.model import Model
from engine.partial import partial_of
from engine.quantize import choice, effort, times
from engine.quantize.choice import Pin
from engine.quantize.effort import Effort
from engine.quantize.gate import OFF
from engine.quantize.plan import plan
from engine.quantize.recipe import find_recipe
from engine.quantize.report import read_report, report_path
from engine.quantize.room import statistics_bytes
from engine.quantize.shrink import Shrink
from engine.quantize.shrink_to_size import ShrinkToSize, ShrunkToSize
from engine.quantize.workbench import folder_of, is_busy
from engine.source import open_source
from tests.engine.quantized_cases import digest as tensors_digest
from tests.engine.test_calibrate import write_mixture
from tests.engine.test_packed_models import write_checkpoint as write_packed_checkpoint
from tests.helpers import adapters
from tests.helpers.checkpoints import write_tiny_checkpoint
from tests.helpers.kills import kill_when

WORDS = "Once upon a time there was a little boy who loved to play with his friend in the day. "
LITTLE = Effort(
    chunks=2,
    own_chunks=2,
    most_runs=4,
    run_chunks=1,
    sample_rows=48,
    held_out=64,
    sweeps=1,
    refits=0,
    folds=False,
    judge_chunks=1,
    correct_chunks=1,
)
KEPT = {"own-words.tokens", "statistics.gguf", "matters.json", "errors.json"}
STAGES = (
    "Letting it write",
    "Calibrating",
    "Finding out what matters",
    "Trying types",
    "Correcting",
    "Shrinking",
)


@pytest.fixture(autouse=True)
def little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """What "balanced" does, but less of it."""
    monkeypatch.setitem(effort.EFFORTS, "balanced", LITTLE)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(WORDS * 40, encoding="utf-8")
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "out.gguf"


@pytest.fixture
def job(tiny_gguf: Path, out: Path, text: Path) -> ShrinkToSize:
    return ShrinkToSize(
        source=str(tiny_gguf),
        out=str(out),
        bits_per_weight=5,
        texts=(str(text),),
        judges=False,
        n_threads=1,
    )


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def straight(job: ShrinkToSize, folder: Path) -> str:
    """The digest of what `job` makes if nothing comes between."""
    out = folder / "straight.gguf"
    finish(msgspec.structs.replace(job, out=str(out), overwrite=True).run())
    return digest(out)


def is_alone(out: Path) -> bool:
    return sorted(out.parent.iterdir()) == sorted([out, report_path(out)])


def partial(out: Path) -> Path:
    return partial_of(folder_of(out) / "ours.gguf")


def types(path: Path) -> dict[str, GgmlType]:
    with GgufFile.open(path) as model:
        return {tensor.name: tensor.type for tensor in model.tensors}


def begin(job: ShrinkToSize, stage: str, part: float = 0.0) -> Generator[Step, None, ShrunkToSize]:
    """Run `job` to `part` of `stage`."""
    steps = job.run()
    while True:
        step = next(steps)
        assert isinstance(step, Progress)
        if step.stage == stage and step.done >= part * (step.total or 0):
            return steps


def pause(job: ShrinkToSize, stage: str, part: float = 0.0) -> None:
    with pytest.raises(Paused):
        begin(job, stage, part).throw(Paused())


def stages(job: ShrinkToSize) -> list[str]:
    """Run `job` to its end; returns its stages."""
    seen: dict[str, None] = {}
    finish(job.run(), lambda step: seen.update({getattr(step, "stage", ""): None}))
    return list(seen)


def test_threads_change_no_byte(job: ShrinkToSize, out: Path) -> None:
    """Of nothing: what the model writes, the statistics, what matters, errors, the file."""
    found = []
    job = msgspec.structs.replace(job, overwrite=True)
    for n_threads in (1, 2, 3):
        steps = begin(msgspec.structs.replace(job, n_threads=n_threads), "Shrinking")
        bench = folder_of(out)
        kept = {path.name: digest(path) for path in bench.iterdir() if path.name in KEPT}
        finish(steps)
        found.append({**kept, "out": digest(out)})
    assert found[0] == found[1] == found[2]
    assert {*KEPT, "out"} == set(found[0])


def test_experts_too(tmp_path: Path, job: ShrinkToSize, out: Path) -> None:
    source = write_mixture(tmp_path / "mixture", n_experts=4, n_used=2)
    job = msgspec.structs.replace(job, source=str(source), effort="fast")
    expected = straight(job, tmp_path)
    assert straight(msgspec.structs.replace(job, n_threads=3), tmp_path / "out") == expected
    of = types(tmp_path / "straight.gguf")
    assert of["blk.0.ffn_gate_exps.weight"].is_quantized
    assert not of["blk.0.ffn_gate_inp.weight"].is_quantized
    smaller = finish(msgspec.structs.replace(job, bits_per_weight=3.5).run())
    assert smaller.bits_per_weight <= 3.5
    assert logits_are_finite(out)


def test_a_large_model_is_read_in_eight_bits(
    job: ShrinkToSize, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What matters in it is the same, so nearly all types are, and no byte of its own is used."""
    finish(job.run())
    read_whole = types(out)
    compact = msgspec.structs.replace(LITTLE, reads_compact=True)
    monkeypatch.setitem(effort.EFFORTS, "balanced", compact)
    finish(msgspec.structs.replace(job, overwrite=True).run())
    read_compact = types(out)
    same = sum(read_compact[name] is read_whole[name] for name in read_whole)
    assert read_compact.keys() == read_whole.keys() and same >= 0.8 * len(read_whole)
    assert logits_are_finite(out)


def test_paused_in_each_stage_it_goes_on_to_the_same_bytes(
    job: ShrinkToSize, out: Path, tmp_path: Path
) -> None:
    expected = straight(job, tmp_path)
    for stage in STAGES:
        pause(job, stage, 0.5)
        assert [path.name for path in out.parent.iterdir()] == [folder_of(out).name]
        assert not is_busy(folder_of(out))
    assert partial(out).exists()
    seen = stages(msgspec.structs.replace(job, n_threads=2, overwrite=True))
    assert not set(seen) & {*STAGES} - {"Shrinking"}
    assert "Going on" in seen
    assert digest(out) == expected and is_alone(out)


def test_the_times_are_those_of_all_sessions(
    job: ShrinkToSize, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one that was killed too, as far as it has kept them."""
    monkeypatch.setattr(times, "EVERY_S", 0.0)
    for stage in ("Calibrating", "Trying types", "Shrinking"):
        steps = begin(job, stage, 0.5)
        time.sleep(0.4)
        next(steps)
        with pytest.raises(Paused):
            steps.throw(Paused())
    steps = begin(job, "Shrinking")
    kept = msgspec.json.decode((folder_of(out) / "times.json").read_bytes(), type=times.Taken)
    assert kept.seconds > 1.2 and kept.steps.keys() >= {"calibration", "measuring"}
    with pytest.raises(Paused):
        steps.throw(Paused())
    done = finish(job.run())
    report = read_report(out)
    assert report is not None
    took = {stage.name: stage.seconds for stage in report.stages}
    names = ["calibration", "measuring", "correcting (ours)", "rounding (ours)"]
    assert list(took) == names == [stage.name for stage in report.stages]
    assert all(took[name] >= 0.4 for name in names if name != "correcting (ours)")
    assert sum(took.values()) <= done.seconds


def test_the_times_of_a_kill_are_kept_along_the_way(
    job: ShrinkToSize, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(times, "EVERY_S", 0.0)
    steps = begin(job, "Trying types", 0.5)
    kept = msgspec.json.decode((folder_of(out) / "times.json").read_bytes(), type=times.Taken)
    assert list(kept.steps) == ["calibration", "measuring"]
    assert 0 < sum(kept.steps.values()) < kept.seconds
    steps.close()


def test_a_cancel_leaves_nothing(job: ShrinkToSize, out: Path) -> None:
    for stage in STAGES:
        begin(job, stage).close()
        assert not list(out.parent.iterdir()), stage
    pause(job, "Shrinking", 0.5)
    begin(job, "Going on").close()
    assert not list(out.parent.iterdir())


def test_a_text_that_is_written_anew_changes_nothing(
    job: ShrinkToSize, out: Path, tmp_path: Path
) -> None:
    expected = straight(job, tmp_path)
    pause(job, "Shrinking", 0.5)
    (text,) = map(Path, job.texts)
    words = text.read_bytes()
    text.unlink()
    text.write_bytes(words)
    os.utime(text, (1, 1))
    seen = stages(job)
    assert "Going on" in seen and "Calibrating" not in seen
    assert digest(out) == expected and is_alone(out)


def other_effort(job: ShrinkToSize) -> ShrinkToSize:
    return msgspec.structs.replace(job, effort="fast")


def other_text(job: ShrinkToSize) -> ShrinkToSize:
    Path(job.texts[0]).write_text("The big dog was happy and she saw it. " * 90)
    return job


@pytest.mark.parametrize("change", [other_effort, other_text])
def test_what_another_job_has_left_is_not_gone_on_from(
    job: ShrinkToSize,
    out: Path,
    tmp_path: Path,
    change: Callable[[ShrinkToSize], ShrinkToSize],
) -> None:
    """Not even the unfinished file, though it is of the same source and as long."""
    pause(job, "Shrinking", 0.9)
    other = change(job)
    expected = straight(other, tmp_path)
    seen = stages(other)
    assert "Calibrating" in seen and "Going on" not in seen
    is_told = "The texts have changed: beginning again" in seen
    assert is_told == (change is other_text)
    assert digest(out) == expected and is_alone(out)


@pytest.mark.parametrize(
    "others",
    [
        {"gate": OFF, "most_bytes": 10**9},
        {"bits_per_weight": 6.0},
        {"pins": (Pin("attn_k", "Q8_0"),)},
        {"profile": "any"},
        {"bits_per_weight": 0.0, "recipe": "Q4_K_M", "keeps_types": True},
    ],
    ids=["gate", "size", "pins", "profile", "recipe"],
)
def test_what_was_found_out_does_for_other_settings(
    job: ShrinkToSize, out: Path, tmp_path: Path, others: dict[str, object]
) -> None:
    """To the bytes that they give without it; the unfinished file is none of theirs."""
    other = msgspec.structs.replace(job, **others)
    expected = straight(other, tmp_path)
    pause(job, "Shrinking", 0.9)
    seen = stages(other)
    assert not {"Letting it write", "Calibrating", "Finding out what matters"} & set(seen)
    assert ("Trying types" in seen) == ("profile" in others)
    assert "Shrinking" in seen and "Going on" not in seen
    assert digest(out) == expected and is_alone(out)


def test_folds_are_those_of_the_size(
    job: ShrinkToSize, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They, their errors and what makes up for them: those of another size are none of its."""
    folder = write_tiny_checkpoint(tmp_path / "Small", hidden=96, ffn=160, n_layers=1, n_heads=2)
    monkeypatch.setattr(choice, "WORTH_FOLDING", 10.0)
    monkeypatch.setitem(effort.EFFORTS, "balanced", msgspec.structs.replace(LITTLE, folds=True))
    job = msgspec.structs.replace(job, source=str(folder), bits_per_weight=7.0)
    expected = straight(job, tmp_path)
    pause(msgspec.structs.replace(job, bits_per_weight=6.0), "Shrinking")
    pause(job, "Shrinking")
    pause(msgspec.structs.replace(job, bits_per_weight=6.0), "Shrinking")
    again = {"Folding", "Trying types again", "Correcting"}
    assert not again & set(stages(job))  # they are still there
    assert digest(out) == expected and is_alone(out)


def test_a_real_process_killed_in_every_stage(
    tiny_checkpoint: Path, job: ShrinkToSize, out: Path, tmp_path: Path
) -> None:
    job = msgspec.structs.replace(job, source=str(tiny_checkpoint), effort="fast")
    expected = straight(job, tmp_path)
    bench = folder_of(out)
    reached = ("lock", "source.gguf", "statistics.gguf", "matters.json", "errors.json")
    for path in (*(bench / name for name in reached), partial(out)):
        kill_once_there(job, path)
        if out.exists():  # it was quicker
            break
        (left,) = find_leftovers(out.parent)
        assert left.path == str(bench)
    if not out.exists():
        subprocess.run(command(job), check=True, stdout=subprocess.DEVNULL)
    assert digest(out) == expected and is_alone(out)


def command(job: ShrinkToSize) -> list[str]:
    words = ["shrink", job.source, "-o", job.out, "--bpw", "5", "--effort", job.effort]
    words += ["--calibration", *job.texts, "--gate", "off", "-t", "1", "--json"]
    return [sys.executable, "-m", "engine", *words]


def kill_once_there(job: ShrinkToSize, path: Path) -> None:
    """Run `snug-engine shrink`; kill it and its worker when `path` is there, or soon after."""
    kill_when(command(job), path.exists, within_s=0.1)


def test_the_size_is_never_exceeded(job: ShrinkToSize, out: Path) -> None:
    source = Path(job.source)
    job = msgspec.structs.replace(job, bits_per_weight=0.0, overwrite=True)
    least = least_bytes(job)
    with pytest.raises(TooSmall, match=r"cannot be made as small as .*: the least is "):
        finish(msgspec.structs.replace(job, size_bytes=least - 1).run())
    assert not list(out.parent.iterdir())
    for size_bytes in (least, least + 50_001, 2 * source.stat().st_size):
        done = finish(msgspec.structs.replace(job, size_bytes=size_bytes).run())
        assert out.stat().st_size == done.size_bytes <= size_bytes
        assert size_bytes != least or done.size_bytes == least
    done = finish(msgspec.structs.replace(job, bits_per_weight=4.7).run())
    assert 4.6 < done.bits_per_weight <= 4.7
    finish(msgspec.structs.replace(job, recipe="Q3_K_M").run())
    stock = plan(open_source(source), find_recipe("Q3_K_M")).size_bytes
    assert 0.95 * stock < out.stat().st_size <= stock
    assert is_alone(out)


def least_bytes(job: ShrinkToSize) -> int:
    """The smallest size there is, as the refusal tells it."""
    with pytest.raises(TooSmall) as caught:
        finish(msgspec.structs.replace(job, size_bytes=1).run())
    return int(caught.value.details.split()[2])


@pytest.mark.parametrize(
    ("hidden", "ffn", "tied"),
    [(96, 160, True), (96, 160, False), (256, 416, False), (72, 100, True)],
)
def test_rows_of_any_length(
    tmp_path: Path, job: ShrinkToSize, out: Path, hidden: int, ffn: int, tied: bool
) -> None:
    folder = write_tiny_checkpoint(
        tmp_path / "Odd", hidden=hidden, ffn=ffn, n_heads=2, n_kv_heads=1, tied=tied
    )
    bits = 17.0 if hidden % 32 else 6.0
    job = msgspec.structs.replace(job, source=str(folder), effort="fast", bits_per_weight=bits)
    done = finish(job.run())
    assert done.bits_per_weight <= bits and is_alone(out)
    of = types(out)
    assert of["token_embd.weight"].is_quantized == (hidden % 32 == 0)
    assert ("output.weight" in of) != tied
    assert logits_are_finite(out)


def logits_are_finite(model: Path) -> bool:
    evaluator = finish(Evaluator.load(model, 32, n_threads=1))
    try:
        logits = evaluator.logits(list(range(100, 132)))
        return logits is not None and bool(np.isfinite(logits).all())
    finally:
        evaluator.close()


def test_packed_tensors_keep_their_bits(tmp_path: Path, job: ShrinkToSize, out: Path) -> None:
    folder = write_packed_checkpoint(tmp_path / "Packed", "gptq")
    job = msgspec.structs.replace(job, source=str(folder), effort="fast", bits_per_weight=4.8)
    finish(job.run())
    view, shrunk = open_source(folder), GgufFile.open(out)
    after = {tensor.name: tensor for tensor in shrunk.tensors}
    packed = [tensor for tensor in view.tensors if tensor.type.is_quantized]
    assert packed and after["token_embd.weight"].type.is_quantized
    for tensor in packed:
        kept = shrunk.raw(after[tensor.name], 0, tensor.n_rows)
        assert kept == view.raw(tensor, 0, tensor.n_rows)


def test_adapters_are_merged_before(tmp_path: Path, job: ShrinkToSize, out: Path) -> None:
    """As when they are merged into a file first, and that is shrunk."""
    base, adapter = adapters.write_case(tmp_path, adapters.load_cases()["bf16"])
    loras = (Lora(str(adapter)),)
    job = msgspec.structs.replace(job, source=str(base), effort="fast", bits_per_weight=7)
    finish(msgspec.structs.replace(job, loras=loras).run())
    merged = tmp_path / "merged.gguf"
    finish(Convert(str(base), str(merged), "f32", loras=loras).run())
    again = msgspec.structs.replace(job, source=str(merged), out=str(tmp_path / "again.gguf"))
    finish(again.run())
    assert tensors_digest(out) == tensors_digest(tmp_path / "again.gguf")


def test_one_that_is_quantized_already_is_refused(
    job: ShrinkToSize, out: Path, tmp_path: Path
) -> None:
    q8 = tmp_path / "q8.gguf"
    finish(Shrink(job.source, str(q8), "Q8_0", 1).run())
    with pytest.raises(UnsupportedTensor, match="quantized already"):
        finish(msgspec.structs.replace(job, source=str(q8)).run())
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize(
    ("tensor", "row"), [("blk.1.ffn_down.weight", 0), ("token_embd.weight", 1)]
)
def test_a_damaged_model_is_told(
    job: ShrinkToSize, out: Path, tmp_path: Path, tensor: str, row: int
) -> None:
    """Be it that what it computes is no number, or that a row does which no text comes by."""
    broken = tmp_path / "broken.gguf"
    with (
        GgufFile.open(Path(job.source)) as source,
        write_gguf(broken, source.metadata, source.tensors) as writer,
    ):
        for one in source.tensors:
            data = bytearray(source.raw(one, 0, one.n_rows))
            if one.name == tensor:
                data[row * one.row_bytes : row * one.row_bytes + 2] = b"\xff\x7f"
            writer.write(bytes(data))
    with pytest.raises(CorruptFile) as caught:
        finish(msgspec.structs.replace(job, source=str(broken), effort="fast").run())
    assert caught.value.hint and not list(out.parent.iterdir())


def test_it_can_be_paused_while_long_texts_are_read_again(job: ShrinkToSize, out: Path) -> None:
    n_open = n_open_models()
    steps = begin(job, "Looking at the tensors")
    Path(job.texts[0]).write_text(WORDS * 10_000)
    while getattr(next(steps), "stage", "") != "Reading the texts":
        pass
    with pytest.raises(Paused):
        steps.throw(Paused())
    assert n_open_models() == n_open
    assert not is_busy(folder_of(out))


def n_open_models() -> int:
    return sum(isinstance(found, Model) and bool(found.handle) for found in gc.get_objects())


def test_a_full_disk_is_told_and_costs_nothing_that_was_found_out(
    job: ShrinkToSize, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = straight(job, tmp_path)
    steps = begin(job, "Trying types", 0.9)
    usage = shutil.disk_usage(out.parent)._replace(free=10_000)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _folder: usage)
        with pytest.raises(DiskFull) as caught:
            finish(steps)
    assert "goes on from there" in caught.value.hint
    (left,) = find_leftovers(out.parent)
    assert left.job == job and not out.exists()
    assert not {"Calibrating", "Finding out what matters"} & set(stages(job))
    assert digest(out) == expected and is_alone(out)


def test_a_disk_that_cannot_hold_all_at_once_is_told_before(
    tiny_checkpoint: Path, job: ShrinkToSize, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy that is read, the statistics, the result: though the result alone would fit."""
    no_round = msgspec.structs.replace(LITTLE, correct_chunks=0)
    monkeypatch.setitem(effort.EFFORTS, "balanced", no_round)
    job = msgspec.structs.replace(job, source=str(tiny_checkpoint))
    with closing(open_source(job.source)) as source:
        whole = gguf_size_bytes(source.metadata, source.tensors)
        statistics = statistics_bytes(source, LITTLE.held_out)
    steps = begin(job, "Looking at the tensors")
    on_disk = (folder_of(out) / "statistics.gguf").stat().st_size
    assert 0.9 * on_disk < statistics <= on_disk
    with pytest.raises(Paused):
        steps.throw(Paused())

    usage, free = shutil.disk_usage(out.parent), whole // 2
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage._replace(free=free))
    begin(job, "Trying types").close()  # what is there already needs no more room
    assert not list(out.parent.iterdir())
    monkeypatch.setitem(effort.EFFORTS, "balanced", LITTLE)
    free = 2 * whole + statistics
    with pytest.raises(DiskFull):  # two models, in F32, for the second round
        finish(job.run())
    monkeypatch.setitem(effort.EFFORTS, "balanced", no_round)
    free = whole + statistics + whole // 4
    seen: list[Step] = []
    with pytest.raises(DiskFull, match="lie on the disk meanwhile") as caught:
        finish(job.run(), seen.append)
    assert "for statistics" in caught.value.details
    assert "Preparing the model" not in {getattr(step, "stage", "") for step in seen}
    assert not list(out.parent.iterdir())


def test_two_at_once_do_not_share_a_workbench(job: ShrinkToSize, out: Path) -> None:
    steps = begin(job, "Calibrating")
    with pytest.raises(AlreadyExists, match="being made by another job"):
        finish(job.run())
    assert is_busy(folder_of(out)) and not find_leftovers(out.parent)
    finish(steps)
    assert is_alone(out)


def test_a_link_is_no_workbench(job: ShrinkToSize, out: Path, tmp_path: Path) -> None:
    """What it leads to is somebody's."""
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "letter.txt").write_text("Dear Ann")
    folder_of(out).symlink_to(theirs, target_is_directory=True)
    with pytest.raises(AlreadyExists, match="is a link"):
        finish(job.run())
    assert not find_leftovers(out.parent)
    assert (theirs / "letter.txt").exists()


def test_what_is_left_is_one_thing_to_resume_or_discard(job: ShrinkToSize, out: Path) -> None:
    pause(job, "Shrinking", 0.5)
    (left,) = find_leftovers(out.parent)
    assert left.path == str(folder_of(out))
    assert left.title == f"{Path(job.source).name} to 5 bits per weight"
    assert left.job == job
    assert left.size_bytes > partial(out).stat().st_size
    assert not Library(out.parent).scan()
    discard((left,))
    assert not list(out.parent.iterdir())
