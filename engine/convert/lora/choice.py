"""Which adapters a job merges."""

from __future__ import annotations

import msgspec


class Lora(msgspec.Struct, frozen=True):
    """The folder of an adapter, and how strongly it counts: 1 is as it was trained."""

    folder: str
    scale: float = 1.0
