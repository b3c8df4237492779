"""What tensors matter: measured with little room on the disk too, guessed where it cannot be."""

from __future__ import annotations

import shutil
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from engine.calibrate.texts import split
from engine.ggml_types import GgmlType
from engine.gguf import GgufFile, TensorInfo
from engine.jobs import Progress, finish
from engine.llama.model import load_model
from engine.quantize import sensitivity
from engine.quantize.allocate import Choice, Item, allocate
from engine.quantize.encode import Care, Encoder
from engine.quantize.sensitivity import Group, Sensitivities, each_matters

N_CTX = 64
STEP = Progress("", 0, None, "steps")
WORDS = "Once upon a time there was a little boy who loved to play with his friend in the day. "


def measured(source: GgufFile, group: list[TensorInfo], folder: Path) -> tuple[Group, int]:
    """What `group` matters, and how many of the three chunks were kept."""
    text = folder / "text.txt"
    text.write_text(WORDS * 20)
    model = finish(load_model(source.path, is_copied=True))
    chunks = split([text], model.vocabulary, None, N_CTX)[:3]
    encoder = Encoder(None, Care(feedback=False))
    with closing(Sensitivities(source, source, model, chunks, encoder, 1, folder)) as runs:
        finish(runs.read_original(STEP))
        coarse = {tensor.name: GgmlType.Q3_K for tensor in group}
        found = finish(runs.measure(group, coarse, STEP))
        assert finish(runs.measure(group, coarse, STEP)) == found  # all is as it was
        return found, runs.n_kept


def test_what_is_not_kept_is_read_again(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Be there room on the workbench's disk for all that the original says, some of it, or none."""
    with GgufFile.open(tiny_gguf) as source:
        group = [tensor for tensor in source.tensors if "ffn_down" in tensor.name]
        expected, n_kept = measured(source, group, tmp_path)
        assert expected.divergence > 0 and n_kept == 3 and not expected.unused
        n_scored, n_vocab = N_CTX // 2 - 1, len(source.get("tokenizer.ggml.tokens"))
        usage = shutil.disk_usage(tmp_path)
        for n_chunks, n_kept in ((3, 1), (0, 0)):  # of the room a half is taken at most
            little = usage._replace(free=n_chunks * n_scored * n_vocab * 4)
            monkeypatch.setattr(shutil, "disk_usage", lambda _, free=little: free)
            assert measured(source, group, tmp_path) == (expected, n_kept)


class Watched(GgufFile):
    """A model that counts how often it is read from to put weights back."""

    n_reads = 0

    def raw(self, tensor: TensorInfo, start: int, stop: int) -> memoryview:
        self.n_reads += 1
        return super().raw(tensor, start, stop)


def test_weights_are_put_back_step_by_step_and_not_after_a_stop(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of large models that is gigabytes: a cancel would hang, and the model goes anyway."""
    monkeypatch.setattr(sensitivity, "CHUNK_ELEMENTS", 2**14)
    text = tmp_path / "text.txt"
    text.write_text(WORDS * 20)
    with GgufFile.open(tiny_gguf) as source, Watched.open(tiny_gguf) as loaded:
        assert isinstance(loaded, Watched)
        group = [tensor for tensor in source.tensors if "ffn_down" in tensor.name]
        coarse = {tensor.name: GgmlType.Q3_K for tensor in group}
        model = finish(load_model(tiny_gguf, is_copied=True))
        chunks = split([text], model.vocabulary, None, N_CTX)[:2]
        encoder = Encoder(None, Care(feedback=False))
        runs = Sensitivities(source, loaded, model, chunks, encoder, 1, tmp_path)
        with closing(runs):
            finish(runs.read_original(STEP))
            counts = [loaded.n_reads for _ in runs.measure(group, coarse, STEP)]
            assert loaded.n_reads > 10
            assert all(after - before <= 1 for before, after in pairwise(counts))
            n_reads, steps = loaded.n_reads, runs.measure(group, coarse, STEP)
            next(steps)
            steps.close()
            assert loaded.n_reads == n_reads


def test_what_the_model_does_not_compute_with_is_told(tiny_gguf: Path, tmp_path: Path) -> None:
    with GgufFile.open(tiny_gguf) as source:
        guesser = TensorInfo("blk.2.ffn_down.weight", (512, 256), GgmlType.F16)
        found, _ = measured(source, [guesser], tmp_path)
        assert found == Group((guesser.name,), 0.0, (guesser.name,))
        used = next(t for t in source.tensors if t.name == "blk.1.ffn_down.weight")
        found, _ = measured(source, [used, guesser], tmp_path)
        assert found.unused == (guesser.name,) and found.divergence > 0


def test_what_was_not_measured_is_not_ruined() -> None:
    """It matters as its role does elsewhere, or as all do; and gets its share of the room."""
    down, up, other = (f"blk.2.{role}.weight" for role in ("ffn_down", "ffn_up", "nextn.eh_proj"))
    groups = [
        Group(("blk.0.ffn_down.weight",), 0.2),
        Group(("blk.1.ffn_down.weight", down), 0.4, (down,)),
        Group(("blk.0.ffn_up.weight", "blk.1.ffn_up.weight", up), 0.02, (up,)),
        Group((other,), 0.0, (other,)),
    ]
    errors = {name: 0.01 for group in groups for name in group.tensors}
    found = each_matters(groups, errors)
    assert found["blk.1.ffn_down.weight"] == pytest.approx(40)
    assert found[down] == pytest.approx(30)
    assert found[up] == found["blk.0.ffn_up.weight"] == pytest.approx(1)
    assert found[other] == pytest.approx((1 + 20) / 2)
    types = {GgmlType.Q2_K: (84, 0.1), GgmlType.Q4_K: (144, 0.01), GgmlType.Q8_0: (272, 1e-4)}
    items = [
        Item(name, tuple(Choice(t, n, matters * error) for t, (n, error) in types.items()))
        for name, matters in found.items()
    ]
    chosen = allocate(items, 144 * len(items))
    assert chosen is not None
    assert {chosen[name].type for name in (down, other)} <= {GgmlType.Q4_K, GgmlType.Q8_0}
