"""What is computed on: chosen in Settings, and told in the window where it is not as expected.

The modules are shared libraries that the engine's own processes load, crash in and recover from.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from app.chat.session import State
from app.preferences.page import PreferencesPage
from app.problems import ProblemCard
from app.window import Window
from engine import starter
from tests.helpers.clicks import click
from tests.helpers.gpu_modules import CRASHES, card, compile_module, llama_cpp_with

WAIT_MS = 30_000


@pytest.fixture
def binding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A build in which CUDA crashes when it is tried, and Vulkan when it is to compute."""
    folder = llama_cpp_with(tmp_path, cuda=CRASHES, vulkan=card("Vulkan"))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder / "llama_cpp" / "lib"


def notices(window: Window) -> list[str]:
    place = window._notice
    cards = place.findChildren(ProblemCard) if place else []
    return [card.error.message for card in cards if card.isVisible()]


def words(page: PreferencesPage) -> str:
    return "\n".join(label.text() for label in page.compute.findChildren(QLabel))


def settings_of(qtbot: QtBot, window: Window) -> PreferencesPage:
    page = window.show_page("settings")
    assert isinstance(page, PreferencesPage)
    qtbot.waitUntil(lambda: window.context.computer.found is not None, timeout=WAIT_MS)
    return page


def test_a_module_that_crashes_is_told_until_it_is_read(
    qtbot: QtBot, window: Window, binding: Path
) -> None:
    page = settings_of(qtbot, window)
    told = "CUDA crashed when it was tried. Snug computes on Test Card 3000 instead."
    qtbot.waitUntil(lambda: notices(window) == [told])
    assert "Test Card 3000\nVulkan, 8 GB memory, 8 GB free" in words(page)
    assert "CUDA crashed when it was tried." in words(page)
    window.show_page("chat")
    click(qtbot, window, "Open Settings")
    assert window.current_page_name == "settings"
    click(qtbot, window, "Dismiss")
    assert notices(window) == []
    window._tell_of_graphics(told)  # as at the next start
    assert notices(window) == []


def test_what_crashed_is_tried_again_by_a_click(
    qtbot: QtBot, window: Window, binding: Path
) -> None:
    page = settings_of(qtbot, window)
    (binding / "libggml-cuda.so").unlink()  # as by an update: in its place, what runs has the old
    compile_module(binding, "cuda", card("CUDA"))
    click(qtbot, page, "Try again")
    qtbot.waitUntil(lambda: "CUDA crashed" not in words(page), timeout=WAIT_MS)
    assert notices(window) == []
    assert "Not used. Vulkan" in words(page)
    control = page.compute.device_control
    offered = {control.itemText(i) for i in range(control.count())}
    assert {"Test Card 3000 (CUDA0)", "Test Card 3000 (Vulkan0)"} < offered


def test_the_choice_is_stored_and_heeded(qtbot: QtBot, window: Window, binding: Path) -> None:
    page = settings_of(qtbot, window)
    control = page.compute.device_control
    offered = [control.itemText(i) for i in range(control.count())]
    assert offered == ["Automatic", "Processor only", "Test Card 3000"]
    control.setCurrentIndex(1)
    control.activated.emit(1)
    assert window.context.settings.value.device == "cpu"
    qtbot.waitUntil(lambda: "Not used. Vulkan" in words(page), timeout=WAIT_MS)
    assert [device.kind for device in window.context.computer.devices] == ["cpu"]
    assert notices(window) == []
    window.context.settings.update(device="CUDA7")
    assert control.currentText() == "CUDA7 (not here)"
    window.context.settings.reset("device")
    assert control.currentText() == "Automatic"


def test_a_load_that_crashes_on_a_card_goes_on_with_the_processor(
    qtbot: QtBot, window: Window, binding: Path
) -> None:
    window.chat_with(str(starter.MODEL))
    session = window.page("chat").session
    qtbot.waitUntil(lambda: session.state == State.CRASHED, timeout=WAIT_MS)
    click(qtbot, window, "Load again")
    qtbot.waitUntil(lambda: session.state == State.READY, timeout=WAIT_MS)
    assert session.info.device == "CPU"
    told = (
        "CUDA crashed when it was tried. Vulkan crashed at work."
        " Snug computes on the processor instead."
    )
    qtbot.waitUntil(lambda: notices(window) == [told])
