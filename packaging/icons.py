"""Snug's icon in the forms that systems want: pixels of resources/snug.svg in several sizes."""

from __future__ import annotations

import os
import struct
from pathlib import Path

SVG = Path(__file__).resolve().parents[1] / "resources" / "snug.svg"
ICO_SIDES = (16, 24, 32, 48, 64, 128, 256)
ICNS_SIDES = {b"ic07": 128, b"ic08": 256, b"ic09": 512, b"ic10": 1024, b"ic11": 32, b"ic12": 64}
"""By Apple's name of the size."""


def png(side: int) -> bytes:
    """A PNG file of `side` pixels."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    from PySide6.QtCore import QBuffer, QByteArray, QIODevice
    from PySide6.QtGui import QGuiApplication, QImage, QImageWriter, QPainter
    from PySide6.QtSvg import QSvgRenderer

    _app = QGuiApplication.instance() or QGuiApplication([])
    image = QImage(side, side, QImage.Format.Format_ARGB32)
    image.fill(0)
    painter = QPainter(image)
    QSvgRenderer(str(SVG)).render(painter)
    painter.end()
    data = QByteArray()
    buffer = QBuffer(data)
    buffer.open(QIODevice.OpenModeFlag.WriteOnly)
    writer = QImageWriter(buffer, QByteArray(b"png"))
    if not writer.write(image):
        raise RuntimeError(writer.errorString())
    return bytes(data.data())


def ico() -> bytes:
    """A file for Windows: a directory of images (ICONDIR), each a PNG, as Vista and newer read."""
    images = [png(side) for side in ICO_SIDES]
    found = struct.pack("<HHH", 0, 1, len(images))
    at = len(found) + 16 * len(images)
    for side, image in zip(ICO_SIDES, images, strict=True):
        # A side of 256 is written as 0.
        found += struct.pack("<BBBBHHII", side % 256, side % 256, 0, 0, 1, 32, len(image), at)
        at += len(image)
    return found + b"".join(images)


def icns() -> bytes:
    """A file for macOS: a PNG for each of Apple's names."""
    parts = {name: png(side) for name, side in ICNS_SIDES.items()}
    body = b"".join(
        name + struct.pack(">I", 8 + len(image)) + image for name, image in parts.items()
    )
    return b"icns" + struct.pack(">I", 8 + len(body)) + body
