"""Makes resources/starter from a trained checkpoint: the GGUF, the text to measure on, the figures.

    python packaging/starter/publish.py build/Starter

The folder's name becomes the model's; its card is the one in resources/starter.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dialogues import Dialogues
from evaluate import evaluate
from held_out import questions

from engine import starter
from engine.client import Worker
from engine.convert.job import Convert
from engine.inspect import describe
from engine.quantize.quality import Quality
from engine.quantize.recipe import RECIPES
from engine.quantize.shrink import Shrink

TEXT_SEED, TEXT_TURNS = 0, 1200


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the starter of a trained checkpoint.")
    parser.add_argument("checkpoint", type=Path, help="the folder that train.py wrote")
    checkpoint = parser.parse_args().checkpoint.absolute()
    shutil.copy(starter.MODEL.with_name("README.md"), checkpoint)
    worker = Worker.start()
    try:
        worker.finish(Convert(str(checkpoint), str(starter.MODEL), "bf16", overwrite=True))
        starter.TEXT.write_text("".join(_text()), encoding="utf-8")
        figures = {"BF16": _held_out(starter.MODEL)}
        print("BF16", figures["BF16"], flush=True)
        with tempfile.TemporaryDirectory() as folder:
            for recipe in RECIPES:
                figures[recipe] = _measure(worker, recipe, Path(folder) / f"{recipe}.gguf")
                print(recipe, figures[recipe], flush=True)
    finally:
        worker.stop()
    summary = describe(starter.MODEL)
    about = {
        "name": summary.name,
        "license": summary.license,
        "sha256": hashlib.sha256(starter.MODEL.read_bytes()).hexdigest(),
        "size_bytes": summary.size_bytes,
        "n_params": summary.n_params,
        "n_ctx": summary.n_ctx_train,
        "figures": figures,
    }
    path = starter.MODEL.with_name("model.json")
    path.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _text() -> Iterator[str]:
    """What is asked and answered, as a text without marks; nothing of it is held out."""
    turns = itertools.chain.from_iterable(
        itertools.islice(Dialogues(TEXT_SEED + n).conversation(), 12)
        for n in range(TEXT_TURNS // 12)
    )
    for turn in turns:
        if turn.role != "system":
            yield turn.text + ("\n" if turn.role == "user" else "\n\n")


def _measure(worker: Worker, recipe: str, out: Path) -> dict[str, Any]:
    """What is left of the starter at this width."""
    shrunk = worker.finish(Shrink(str(starter.MODEL), str(out), recipe))
    report = worker.finish(Quality(str(out), str(starter.MODEL), str(starter.TEXT)))
    return {
        "size_bytes": shrunk.size_bytes,
        "bits_per_weight": round(shrunk.bits_per_weight, 2),
        "kld_mean": round(report.kld_mean, 5),
        "same_top_fraction": round(report.same_top_fraction, 4),
        **_held_out(out),
    }


def _held_out(model: Path) -> dict[str, Any]:
    scores = evaluate(model, questions(), lambda _question, _answer: None)
    return {kind: f"{score.right} of {score.asked}" for kind, score in scores.items()}


if __name__ == "__main__":
    main()
