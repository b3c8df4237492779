"""The user's settings: one frozen value, and its file. Knows no Qt.

Written atomically; keys of a newer version are kept; a file that cannot be read is put aside.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from engine.folders import folders

log = logging.getLogger(__name__)


class Settings(NamedTuple):
    """Everything a user can choose. A field at its standard is not written to the file.

    Neither a msgspec struct nor a dataclass: it is needed before the first paint, and importing
    those takes 13 and 3 ms of the 110 that a bare window needs.
    """

    models_folder: str
    theme: Literal["system", "light", "dark"] = "system"
    n_threads: int = 0
    """0: the engine chooses."""
    added_models: tuple[str, ...] = ()
    """Models and checkpoint folders outside the models folder, absolute paths."""
    last_model: str = ""
    is_offline: bool = False
    """Nothing asks the network for anything."""
    download_limit: int = 0
    """Bytes a second that downloads may take; 0: all there is."""
    window_geometry: str = ""
    """What QWidget.saveGeometry gave, in base64."""


def standard() -> Settings:
    """The settings of someone who never changed any."""
    return Settings(models_folder=str(folders().models))


def _decode(raw: Any) -> Settings:
    """Settings from parsed JSON; raises ValueError naming the field that is wrong."""
    if not isinstance(raw, dict):
        raise ValueError("not an object")
    known = {name: raw[name] for name in Settings._fields if name in raw}
    for name, value in known.items():
        if not _CHECKS[name](value):
            raise ValueError(f"{name} cannot be {value!r}")
    if "added_models" in known:
        known["added_models"] = tuple(known["added_models"])
    return standard()._replace(**known)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "theme": lambda value: value in ("system", "light", "dark"),
    "models_folder": _is_text,
    "n_threads": lambda value: type(value) is int and value >= 0,
    "added_models": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "last_model": _is_text,
    "is_offline": lambda value: isinstance(value, bool),
    "download_limit": lambda value: type(value) is int and value >= 0,
    "window_geometry": _is_text,
}


class SettingsFile:
    """`settings.json` and the value it holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        """A sentence when the file could not be read or written, to be shown once."""
        self._unknown: dict[str, Any] = {}
        self.value = self._load()

    def _load(self) -> Settings:
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return standard()
        except OSError as error:
            log.warning("settings not readable: %s", error)
            self.problem = f"The settings in {self.path} could not be read: {error.strerror}."
            return standard()
        try:
            raw = json.loads(data)
            value = _decode(raw)
        except ValueError as error:  # also what json and UTF-8 raise
            self._put_aside(error)
            return standard()
        self._unknown = {k: v for k, v in raw.items() if k not in Settings._fields}
        return value

    def _put_aside(self, error: Exception) -> None:
        aside = self.path.with_suffix(".broken.json")
        log.warning("settings put aside to %s: %s", aside, error)
        self.problem = f"The settings could not be read. The old file is now {aside.name}."
        try:
            self.path.replace(aside)
        except OSError as moving:
            log.warning("settings not put aside: %s", moving)
            self.problem = "The settings could not be read, so the standard ones are used."

    def update(self, **changes: Any) -> Settings:
        """Change fields and write the file; the new value counts even where writing fails."""
        self.value = self.value._replace(**changes)
        self._save()
        return self.value

    def _save(self) -> None:
        """A failure is logged and told in `problem`: a choice of theme is no reason to stop."""
        usual = standard()._asdict()
        known = {k: v for k, v in self.value._asdict().items() if v != usual[k]}
        data = json.dumps(self._unknown | known, indent=2).encode()
        partial = self.path.with_name(self.path.name + ".partial")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        except OSError as error:
            log.warning("settings not written: %s", error)
            self.problem = f"The settings could not be saved: {error.strerror}."
        else:
            self.problem = ""
