"""The user's settings: one frozen value, and its file. Knows no Qt.

Written atomically; keys of a newer version are kept; a file that cannot be read is put aside.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from app.folders import folders

log = logging.getLogger(__name__)


def _default_models_folder() -> str:
    return str(folders().models)


class Settings(msgspec.Struct, frozen=True):
    """Everything a user can choose. A field at its default is not written to the file."""

    theme: Literal["system", "light", "dark"] = "system"
    models_folder: str = msgspec.field(default_factory=_default_models_folder)
    n_threads: Annotated[int, msgspec.Meta(ge=0)] = 0
    """0: the engine chooses."""
    added_models: tuple[str, ...] = ()
    """Models and checkpoint folders outside the models folder, absolute paths."""
    last_model: str = ""
    window_geometry: str = ""
    """What QWidget.saveGeometry gave, in base64."""


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
            return Settings()
        except OSError as error:
            log.warning("settings not readable: %s", error)
            self.problem = f"The settings in {self.path} could not be read: {error.strerror}."
            return Settings()
        try:
            raw = msgspec.json.decode(data, type=dict[str, Any])
            value = msgspec.convert(raw, Settings)
        except msgspec.MsgspecError as error:
            self._put_aside(error)
            return Settings()
        self._unknown = {k: v for k, v in raw.items() if k not in Settings.__struct_fields__}
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
        self.value = msgspec.structs.replace(self.value, **changes)
        self._save()
        return self.value

    def _save(self) -> None:
        """A failure is logged and told in `problem`: a choice of theme is no reason to stop."""
        standard = msgspec.to_builtins(Settings())
        known = {
            name: value
            for name, value in msgspec.to_builtins(self.value).items()
            if value != standard[name]
        }
        data = msgspec.json.format(msgspec.json.encode(self._unknown | known), indent=2)
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
