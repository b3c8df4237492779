"""What several tests of the window share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app import theme
from app.context import AppContext
from app.window import Window


@pytest.fixture
def context(qapp: QApplication) -> Iterator[AppContext]:
    theme.apply(qapp, "light")
    context = AppContext()
    Path(context.settings.value.models_folder).mkdir(parents=True)
    yield context
    context.shutdown()


@pytest.fixture
def window(qtbot: QtBot, context: AppContext) -> Iterator[Window]:
    """Shown, and hearing of what it tells above its pages."""
    made = Window(context)
    qtbot.addWidget(made)
    with qtbot.waitExposed(made):
        made.show()
    made._listen_for_news()
    yield made
    made.close()
