"""What several tests of the window share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication

from app import theme
from app.context import AppContext


@pytest.fixture
def context(qapp: QApplication) -> Iterator[AppContext]:
    theme.apply(qapp, "light")
    context = AppContext()
    Path(context.settings.value.models_folder).mkdir(parents=True)
    yield context
    context.shutdown()
