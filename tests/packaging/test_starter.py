"""The starter that comes with Snug: what it is, what it knows, and what shrinking leaves of it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine import starter
from engine.client import Worker
from engine.gguf import GgufFile
from engine.quantize.figures import QualityReport
from engine.quantize.quality import Quality
from engine.quantize.shrink import Shrink

MAKING = Path(__file__).parents[2] / "packaging" / "starter"


@pytest.fixture(scope="module")
def shrunk(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The starter at four widths."""
    folder = tmp_path_factory.mktemp("shrunk")
    worker = Worker.start()
    try:
        for recipe in ("Q8_0", "Q4_K_M", "Q3_K_M", "Q2_K"):
            worker.finish(Shrink(str(starter.MODEL), str(folder / recipe), recipe))
    finally:
        worker.stop()
    return {path.name: path for path in folder.iterdir()}


def scores_of(model: Path) -> dict[str, Any]:
    """What packaging/starter/evaluate.py counts: by kind, how many were asked, right, ended."""
    command = [sys.executable, str(MAKING / "evaluate.py"), str(model), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    scores: dict[str, Any] = json.loads(done.stdout)
    return scores


def test_it_is_small_and_every_k_quant_applies() -> None:
    about = json.loads(starter.MODEL.with_name("model.json").read_text())
    data = starter.MODEL.read_bytes()
    assert len(data) == about["size_bytes"] < 20_000_000
    assert hashlib.sha256(data).hexdigest() == about["sha256"]
    model = GgufFile.open(starter.MODEL)
    names = {tensor.name for tensor in model.tensors}
    rows = {tensor.shape[0] for tensor in model.tensors if len(tensor.shape) == 2}
    heads = (model.metadata[f"llama.attention.head_count{kv}"].value for kv in ("", "_kv"))
    assert "output.weight" not in names  # tied
    assert rows and all(row % 256 == 0 for row in rows)
    n_heads, n_heads_kv = heads
    assert n_heads_kv < n_heads


def test_it_knows_the_held_out_questions() -> None:
    scores = scores_of(starter.MODEL)
    assert scores["help"]["asked"] == 200 and scores["off topic"]["asked"] == 50
    assert scores["help"]["right"] >= 180
    assert scores["off topic"]["right"] >= 40
    for kind in ("name", "more", "again"):  # the second turn
        assert scores[kind]["right"] >= 0.8 * scores[kind]["asked"], kind
    assert all(score["ended"] == score["asked"] for score in scores.values())


def test_it_still_knows_them_at_four_bits(shrunk: dict[str, Path]) -> None:
    assert scores_of(shrunk["Q4_K_M"])["help"]["right"] >= 170


def test_the_quality_report_shows_what_narrow_types_cost(shrunk: dict[str, Path]) -> None:
    wide, usual, narrow, narrowest = (
        report_on(shrunk[recipe]) for recipe in ("Q8_0", "Q4_K_M", "Q3_K_M", "Q2_K")
    )
    assert wide.kld_mean < usual.kld_mean < narrow.kld_mean < narrowest.kld_mean
    assert narrow.kld_mean > 3 * usual.kld_mean
    assert wide.same_top_fraction > usual.same_top_fraction > narrowest.same_top_fraction
    assert wide.verdict == "practically identical"
    assert narrowest.verdict not in (wide.verdict, usual.verdict)


def report_on(model: Path) -> QualityReport:
    worker = Worker.start()
    try:
        report: QualityReport = worker.finish(
            Quality(str(model), str(starter.MODEL), str(starter.TEXT), chunks=8)
        )
    finally:
        worker.stop()
    return report


def test_no_held_out_question_is_in_what_it_learned_from() -> None:
    program = """
import itertools
from dialogues import Dialogues
from held_out import forbidden, plain
held_out = forbidden()
conversations = (Dialogues(seed).conversation() for seed in range(20))
turns = itertools.chain.from_iterable(itertools.islice(c, 3000) for c in conversations)
said = {plain(turn.text) for turn in turns if turn.role == "user"}
print(len(held_out), len(said), len(held_out & said))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=MAKING, capture_output=True, text=True, check=True)
    n_held_out, n_said, n_both = map(int, done.stdout.split())
    assert n_held_out > 250 and n_said > 10_000 and n_both == 0
