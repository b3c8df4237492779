"""A shrink with the user's conversations: the same words when it goes on, and none left behind."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from app import own_texts, shrinks, unfinished
from app.context import AppContext
from app.store import Status, Store
from app.tasks import Task, TaskState
from engine.errors import EngineError
from engine.jobs import Progress
from engine.leftovers import find_leftovers
from engine.quantize.gate import OFF
from engine.quantize.report import read_report
from engine.quantize.shrink_to_size import ShrinkToSize
from tests.helpers.checkpoints import write_tiny_checkpoint

PATIENCE_MS = 240_000
SECRET = "My dog is called Orpheus. "


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "conversations.db")
    yield store
    store.close()


def talk(store: Store, words: str) -> int:
    prompt = store.start_conversation(words)
    store.end_answer(store.begin_answer(prompt, "x").id, f"{words} Yes.", Status.COMPLETE)
    return prompt.conversation_id


def test_the_same_words_again_though_there_was_more_talk(store: Store, tmp_path: Path) -> None:
    first = talk(store, SECRET)
    second = talk(store, "What is a boat?")
    path = own_texts.path_for(tmp_path, "/models/out.gguf", time.time())
    own_texts.write(store, path)
    words = path.read_bytes()
    assert words.count(b"\n") == 2 and b"Orpheus" in words
    if os.name != "nt":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    time.sleep(0.01)  # the name tells milliseconds
    talk(store, "Another one.")
    goes_on = store.add_prompt(first, store.conversation(first).active_leaf_id, "And my cat?")
    store.add_prompt(first, goes_on.parent_id, "And my horse?")
    store.rename(second, "Boats")
    own_texts.write(store, path)
    assert path.read_bytes() == words

    store.delete(first)
    own_texts.write(store, path)
    assert b"Orpheus" not in path.read_bytes()


def test_without_conversations_it_is_refused_in_words(context: AppContext, tmp_path: Path) -> None:
    out = str(tmp_path / "out.gguf")
    context.store.delete(talk(context.store, SECRET))
    texts = (str(shrinks.own_text(context, out)),)
    with pytest.raises(EngineError, match="no conversations yet"):
        shrinks.start(context, ShrinkToSize("a.gguf", out, recipe="Q4_K_M", texts=texts))
    assert not context.tasks.listed and not Path(texts[0]).exists()


def wait_until(qtbot: QtBot, task: Task, is_so: Callable[[], bool]) -> None:
    qtbot.waitUntil(lambda: is_so() or task.is_over, timeout=PATIENCE_MS)
    assert is_so(), task.error


@pytest.mark.timeout(900)
def test_it_goes_on_after_a_restart_of_the_window(
    qtbot: QtBot, context: AppContext, tmp_path: Path
) -> None:
    models = Path(context.settings.value.models_folder)
    source = write_tiny_checkpoint(tmp_path / "Small", n_layers=1)
    out = models / "Small.gguf"
    talk(context.store, SECRET * 600)
    text = shrinks.own_text(context, str(out))
    job = ShrinkToSize(
        str(source),
        str(out),
        bits_per_weight=6,
        effort="fast",
        texts=(str(text),),
        judges=False,
        gate=OFF,
        n_threads=1,
    )
    task = shrinks.start(context, job)
    assert "Orpheus" in text.read_text()
    seen: list[str] = []
    task.stepped.connect(lambda step: seen.append(getattr(step, "stage", "")))
    wait_until(qtbot, task, lambda: "Looking at the tensors" in seen)
    task.pause()
    wait_until(qtbot, task, lambda: task.state is TaskState.PAUSED)
    assert not text.exists()
    context.shutdown()

    again = AppContext()
    try:
        time.sleep(0.01)
        talk(again.store, "Something else.")
        assert shrinks.own_text(again, str(out)) == text
        (left,) = find_leftovers(models)
        task = unfinished.resume(again, left)
        assert "Orpheus" in text.read_text() and "Something" not in text.read_text()
        steps: list[object] = []
        task.stepped.connect(steps.append)
        wait_until(qtbot, task, lambda: task.state is TaskState.SUCCEEDED)
        stages = {step.stage for step in steps if isinstance(step, Progress)}
        assert "Shrinking" in stages and "Calibrating" not in stages
        report = read_report(out)
        assert report and not any("begun again" in note for note in report.notes)
        assert not list((again.folders.cache / own_texts.FOLDER).iterdir())
    finally:
        again.shutdown()
