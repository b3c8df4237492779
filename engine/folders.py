"""Where Snug keeps its things on this computer. Creates nothing.

The environment variable SNUG_HOME puts them all below one folder (a portable copy, a test).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Folders(NamedTuple):
    """`config` holds settings, `data` conversations, `models` shrunk models, `log` the log."""

    config: Path
    data: Path
    cache: Path
    log: Path
    models: Path


def folders() -> Folders:
    """The folders of this user, by the customs of the system."""
    home = os.environ.get("SNUG_HOME")
    if home:
        root = Path(home)
        return Folders(
            root / "config", root / "data", root / "cache", root / "log", root / "data" / "models"
        )
    import platformdirs

    data = platformdirs.user_data_path("snug", appauthor=False)
    return Folders(
        config=platformdirs.user_config_path("snug", appauthor=False),
        data=data,
        cache=platformdirs.user_cache_path("snug", appauthor=False),
        log=platformdirs.user_log_path("snug", appauthor=False),
        models=data / "models",
    )
