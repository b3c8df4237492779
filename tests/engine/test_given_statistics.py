"""A shrink with statistics that were made before, of `calibrate` or of llama-imatrix."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine.calibrate.job import Calibrate
from engine.calibrate.statistics import Statistics
from engine.calibrate.vectors import digest_of
from engine.cli import main
from engine.convert.job import Convert
from engine.errors import CorruptFile, FormatError
from engine.gguf import GgufFile, TensorInfo, write_gguf
from engine.jobs import Notice, Progress, Step, finish
from engine.llama.ggml import quantize_rows
from engine.quantize import effort
from engine.quantize.effort import Effort
from engine.quantize.matrices import parts
from engine.quantize.report import read_report
from engine.quantize.shrink_to_size import ShrinkToSize
from engine.source import open_source
from tests.engine.test_calibrate import known, write_mixture, write_statistics
from tests.helpers.checkpoints import write_tiny_checkpoint

WORDS = "Once upon a time there was a little boy who loved to play with his friend in the day. "
N_CTX = 64
LITTLE = Effort(
    chunks=6,
    own_chunks=0,
    most_runs=4,
    run_chunks=1,
    sample_rows=48,
    held_out=32,
    sweeps=1,
    refits=0,
    folds=False,
    judge_chunks=1,
    n_ctx=N_CTX,
)


@pytest.fixture(autouse=True)
def little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(effort.EFFORTS, "balanced", LITTLE)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(WORDS * 60, encoding="utf-8")
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "out.gguf"


def calibrated(model: Path, text: Path, out: Path) -> Path:
    """What `snug-engine calibrate` makes, with the settings of LITTLE."""
    texts, held_out = (str(text),), LITTLE.held_out
    finish(Calibrate(str(model), str(out), texts, LITTLE.chunks, N_CTX, 1, held_out).run())
    return out


def as_theirs(ours: Path, out: Path) -> Path:
    """What llama-imatrix would write of the same: sums of squares and counts."""
    tensors = {}
    with Statistics.open(ours) as found:
        for name in found.tensors:
            counts = found.n_tokens(name)[:, None].astype(np.float32)
            tensors[f"{name}.in_sum2"] = known(found.importance(name)) * counts
            tensors[f"{name}.counts"] = counts
    return write_statistics(out, tensors)


def shrink(source: Path, out: Path, **settings: object) -> list[str]:
    """Returns the stages that were gone through."""
    seen: list[Step] = []
    job = ShrinkToSize(str(source), str(out), judges=False, n_threads=1, **settings)  # type: ignore[arg-type]
    finish(job.run(), seen.append)
    return [step.stage for step in seen if isinstance(step, Progress)]


def test_ours_are_as_good_as_reading_the_texts_again(
    tiny_gguf: Path, tmp_path: Path, text: Path, out: Path
) -> None:
    """The same bytes, and no text is read."""
    read = tmp_path / "read.gguf"
    shrink(tiny_gguf, read, recipe="Q3_K_M", keeps_types=True, texts=(str(text),))
    ours = calibrated(tiny_gguf, text, tmp_path / "ours.gguf")
    before = ours.read_bytes()
    for again in (False, True):
        stages = shrink(
            tiny_gguf,
            out,
            recipe="Q3_K_M",
            keeps_types=True,
            statistics=str(ours),
            overwrite=again,
        )
        assert "Shrinking" in stages and "Calibrating" not in stages
        assert out.read_bytes() == read.read_bytes()
    assert ours.read_bytes() == before
    report = known(read_report(out))
    assert report.settings["statistics"] == "ours.gguf"
    assert any("from ours.gguf, made from text.txt." in note for note in report.notes)


def with_other_norms(model: Path, out: Path) -> Path:
    """The same but for its norms, as after more training."""
    with GgufFile.open(model) as file, write_gguf(out, file.metadata, file.tensors) as writer:
        for tensor in file.tensors:
            rows = file.rows(tensor, 0, tensor.n_rows)
            is_norm = len(tensor.shape) == 1
            writer.write((1.01 * rows).tobytes() if is_norm else file.raw(tensor, 0, tensor.n_rows))
    return out


def test_those_of_another_model_are_taken_and_told(
    tiny_gguf: Path, tmp_path: Path, text: Path, out: Path
) -> None:
    other = with_other_norms(tiny_gguf, tmp_path / "other.gguf")
    for model, is_other in ((tiny_gguf, False), (other, True)):
        statistics = calibrated(model, text, tmp_path / f"of-{model.name}")
        seen: list[Step] = []
        job = ShrinkToSize(
            str(tiny_gguf),
            str(out),
            recipe="Q3_K_M",
            keeps_types=True,
            judges=False,
            n_threads=1,
            statistics=str(statistics),
            overwrite=True,
        )
        finish(job.run(), seen.append)
        notices = [step.text for step in seen if isinstance(step, Notice)]
        assert [text for text in notices if "another model" in text] == notices
        assert len(notices) == is_other
        notes = " ".join(known(read_report(out)).notes)
        assert ("another model" in notes) == is_other


def test_a_model_is_known_in_every_type(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint"
    write_tiny_checkpoint(checkpoint)
    digests = set()
    for kind in ("bf16", "f16", "f32"):
        made = tmp_path / f"{kind}.gguf"
        finish(Convert(str(checkpoint), str(made), kind).run())
        with GgufFile.open(made) as file:
            digests.add(digest_of(file))
    with closing(open_source(checkpoint)) as source:
        digests.add(digest_of(source))
    assert len(digests) == 1 and digests != {""}


@pytest.mark.parametrize("is_mixture", [False, True])
def test_an_importance_matrix_is_what_ggml_rounds_with(
    tiny_gguf: Path, tmp_path: Path, text: Path, out: Path, is_mixture: bool
) -> None:
    """Types are chosen in the size all the same, and the report says how it was rounded."""
    source = tiny_gguf
    if is_mixture:
        source = write_mixture(tmp_path / "mixture", n_experts=4, n_used=2)
    theirs = as_theirs(calibrated(source, text, tmp_path / "ours.gguf"), tmp_path / "im.gguf")
    stages = shrink(source, out, bits_per_weight=4.5, statistics=str(theirs))
    assert "Calibrating" not in stages and "Trying types" in stages
    report = known(read_report(out))
    assert report.bits_per_weight <= 4.5
    assert any("llama-quantize does with it" in note for note in report.notes)
    assert {line.rounding for line in report.tensors} <= {"as llama-quantize", "as it was"}
    n_types = set()
    with (
        GgufFile.open(out) as made,
        GgufFile.open(source) as original,
        Statistics.open(theirs) as im,
    ):
        stored = {tensor.name: tensor for tensor in made.tensors}
        for tensor in original.tensors:
            target = stored[tensor.name]
            if not target.type.is_quantized:
                continue
            n_types.add(target.type)
            rows, importance = original.rows(tensor, 0, tensor.n_rows), im.importance(tensor.name)
            expected = [
                quantize_rows(target.type, rows[part], known(importance)[i])
                for i, part in parts(tensor, 0, tensor.n_rows)
            ]
            raw = np.frombuffer(made.raw(target, 0, target.n_rows), np.uint8)
            assert np.array_equal(raw, np.concatenate(expected).reshape(-1))
    assert len(n_types) > 1


def test_what_matters_to_an_importance_matrix_gets_the_bits(
    tiny_gguf: Path, tmp_path: Path, text: Path, out: Path
) -> None:
    """Columns that no input comes by make no error: with them ruined a type is as good as exact."""
    ours = calibrated(tiny_gguf, text, tmp_path / "ours.gguf")
    squares = {}
    with Statistics.open(ours) as found, GgufFile.open(tiny_gguf) as model:
        for tensor in model.tensors:
            if tensor.name in found.tensors:
                squares[f"{tensor.name}.in_sum2"] = np.ones((1, tensor.n_cols), np.float32)
                squares[f"{tensor.name}.counts"] = np.ones((1, 1), np.float32)
    errors = []
    for used in (256, 1):
        squares["blk.0.ffn_up.weight.in_sum2"][0, used:] = 1e-12
        theirs = write_statistics(tmp_path / f"{used}.gguf", squares)
        settings = {"pins": (), "overwrite": True, "statistics": str(theirs)}
        shrink(tiny_gguf, out, recipe="Q3_K_M", **settings)
        (line,) = (x for x in known(read_report(out)).tensors if x.name == "blk.0.ffn_up.weight")
        errors.append(known(line.error))
    assert 0 < errors[1] < errors[0] / 3


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"hidden": 128}, "the inputs of .* are 128 numbers, here 256 numbers"),
        ({"n_layers": 3}, r"it tells of blk\.2\..*, which this one does not have"),
        ({"n_layers": 1}, "it tells nothing of layer 1"),
        ({"tied": False}, "it tells of output.weight, which"),
    ],
)
@pytest.mark.parametrize("is_theirs", [False, True])
def test_those_of_another_model_are_refused_before_anything_is_done(
    tiny_gguf: Path,
    tmp_path: Path,
    text: Path,
    out: Path,
    others: dict[str, int],
    words: str,
    is_theirs: bool,
) -> None:
    folder = write_tiny_checkpoint(tmp_path / "Other", **others)  # type: ignore[arg-type]
    finish(Convert(str(folder), str(tmp_path / "other.gguf"), "f16").run())
    given = calibrated(tmp_path / "other.gguf", text, tmp_path / "given.gguf")
    if is_theirs:
        given = as_theirs(given, given.with_name("theirs.gguf"))
    with pytest.raises(FormatError, match=f"{given.name} is of another model: {words}"):
        shrink(tiny_gguf, out, bits_per_weight=5, statistics=str(given))
    assert not list(out.parent.iterdir())


@pytest.mark.parametrize(
    ("ending", "shape"),
    [
        ("attn_q.weight.in_outer", (256, 255)),
        ("attn_q.weight.in_outer", (257, 256)),
        ("attn_q.weight.in_sample", (255, 32)),
        ("ffn_down.weight.counts", (1, 2)),
        ("ffn_down.weight.in_sum2", (512, 2)),
    ],
)
def test_figures_that_do_not_fit_together_are_told_before(
    tiny_gguf: Path, tmp_path: Path, text: Path, out: Path, ending: str, shape: tuple[int, ...]
) -> None:
    given, damaged = tmp_path / "given.gguf", tmp_path / "damaged.gguf"
    calibrated(tiny_gguf, text, given)
    with GgufFile.open(given) as file:
        infos = [
            TensorInfo(one.name, shape if one.name == f"blk.1.{ending}" else one.shape, one.type)
            for one in file.tensors
        ]
        with write_gguf(damaged, file.metadata, infos) as writer:
            for info in infos:
                writer.write(np.ones(info.n_elements, np.float32).tobytes())
    with pytest.raises(CorruptFile, match="do not fit together"):
        shrink(tiny_gguf, out, bits_per_weight=5, statistics=str(damaged))
    assert not list(out.parent.iterdir())


def test_numbers_that_are_none_are_told_before(
    tiny_gguf: Path, tmp_path: Path, text: Path, out: Path
) -> None:
    theirs = as_theirs(calibrated(tiny_gguf, text, tmp_path / "a.gguf"), tmp_path / "b.gguf")
    for number in (float("nan"), float("inf"), -1.0):
        with Statistics.open(theirs) as found:
            tensors = {
                f"{name}.in_sum2": known(found.importance(name)).copy() for name in found.tensors
            }
        tensors |= {
            name.replace("in_sum2", "counts"): np.ones((1, 1), np.float32) for name in tensors
        }
        tensors["blk.1.ffn_down.weight.in_sum2"][0, 3] = number
        damaged = write_statistics(tmp_path / "c.gguf", tensors)
        with pytest.raises(CorruptFile, match="do not fit together"):
            shrink(tiny_gguf, out, bits_per_weight=5, statistics=str(damaged))
    with pytest.raises(FormatError, match="no importance matrix"):
        shrink(tiny_gguf, out, bits_per_weight=5, statistics=str(tiny_gguf))
    assert not list(out.parent.iterdir())


def test_other_statistics_make_another_job(tiny_gguf: Path, tmp_path: Path, text: Path) -> None:
    given = calibrated(tiny_gguf, text, tmp_path / "given.gguf")
    job = ShrinkToSize(str(tiny_gguf), "out.gguf", statistics=str(given))
    key = job.key({})
    assert key != msgspec.structs.replace(job, statistics="").key({})
    assert key == job.key({})
    os.utime(given, ns=(1, 1))
    assert key != job.key({})


def test_the_command_takes_what_calibrate_makes(
    tiny_gguf: Path, tmp_path: Path, text: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = tmp_path / "given.gguf"
    words = ["--text", str(text), "--chunks", "4", "-c", "64", "-t", "1"]
    assert main(["calibrate", str(tiny_gguf), "-o", str(given), *words]) == 0
    command = ["shrink", str(tiny_gguf), "-o", str(out), "--type", "Q4_K_M", "--effort", "fast"]
    command += ["--gate", "off", "-t", "1"]
    assert main([*command, "--statistics", str(given)]) == 0
    report = known(read_report(out))
    assert any("feedback" in line.rounding for line in report.tensors)
    capsys.readouterr()
    assert main([*command, "--overwrite", "--calibration", str(given)]) == 1
    told = capsys.readouterr().err
    assert "given.gguf is a GGUF file and no text." in told and "--statistics" in told


@pytest.mark.parametrize("role", ["texts", "judge_text"])
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GGUF" + b"x" * 100, "a.txt is a GGUF file"),
        (b"\x00\x00\x02blk.0", "a.txt is no text"),
        ("Once upon a time.".encode("utf-16"), "a.txt is no text"),
    ],
)
def test_what_is_no_text_is_not_read_as_one(
    tiny_gguf: Path, tmp_path: Path, out: Path, role: str, data: bytes, words: str
) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    path = str(tmp_path / "a.txt")
    job = ShrinkToSize(str(tiny_gguf), str(out), bits_per_weight=5)
    job = msgspec.structs.replace(job, **{role: path if role == "judge_text" else (path,)})
    with pytest.raises(FormatError, match=words):
        finish(job.run())
    with pytest.raises(FormatError, match=words):
        finish(Calibrate(str(tiny_gguf), str(out), (path,)).run())
    assert not list(out.parent.iterdir())
