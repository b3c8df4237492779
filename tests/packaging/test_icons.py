"""The icon in the forms of Windows and macOS, as Qt reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import icons
import pytest
from PySide6.QtGui import QColor, QGuiApplication, QImageReader


@pytest.mark.parametrize(
    ("make", "suffix", "sides"),
    [
        (icons.ico, "ico", [16, 24, 32, 48, 64, 128, 256]),
        (icons.icns, "icns", [32, 64, 128, 256, 512, 1024]),
    ],
)
def test_every_size_is_drawn(
    tmp_path: Path,
    qapp: QGuiApplication,
    make: Callable[[], bytes],
    suffix: str,
    sides: list[int],
) -> None:
    file = tmp_path / f"snug.{suffix}"
    file.write_bytes(make())
    reader = QImageReader(str(file))
    images = []
    for i in range(reader.imageCount()):
        reader.jumpToImage(i)
        images.append(reader.read())
    assert sorted(image.width() for image in images) == sides
    for image in images:
        assert image.height() == image.width()
        assert image.pixelColor(0, 0).alpha() == 0  # rounded, not a square
        assert image.pixelColor(image.rect().center()) != QColor(0, 0, 0, 0)
