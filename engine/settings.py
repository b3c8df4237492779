"""The user's settings: one frozen value, and its file. Knows no Qt.

Written atomically; keys of a newer version are kept; a file that cannot be read is put aside. The
window and the command line may both have it: each writes its changes over what is there by then.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from engine.alone import alone
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
    device: str = "auto"
    """What models are computed on: "auto", "cpu", or the name of a device."""
    added_models: tuple[str, ...] = ()
    """Models and checkpoint folders outside the models folder, absolute paths."""
    last_model: str = ""
    n_ctx: int = 0
    """Tokens of context for a chat, or what its model was trained for if that is less; 0: what
    fits."""
    is_offline: bool = False
    """Nothing asks the network for anything."""
    download_limit: int = 0
    """Bytes a second that downloads may take; 0: all there is."""
    looks_for_updates: bool = False
    """Once a day Snug asks whether there is a newer version."""
    dismissed_update: str = ""
    """The version that the user does not want to hear of again."""
    dismissed_notice: str = ""
    """What was last told about the graphics, and need not be told again."""
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
    "models_folder": lambda value: _is_text(value) and value and "\0" not in value,
    "n_threads": lambda value: type(value) is int and value >= 0,
    "device": lambda value: _is_text(value) and value,
    "added_models": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "last_model": _is_text,
    "n_ctx": lambda value: type(value) is int and value >= 0,
    "is_offline": lambda value: isinstance(value, bool),
    "download_limit": lambda value: type(value) is int and value >= 0,
    "looks_for_updates": lambda value: isinstance(value, bool),
    "dismissed_update": _is_text,
    "dismissed_notice": _is_text,
    "window_geometry": _is_text,
}


class SettingsFile:
    """`settings.json` and the value it holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem = ""
        """A sentence when the file could not be read or written, to be shown once."""
        self._unknown: dict[str, Any] = {}
        self.value = self._read() or standard()

    def reload(self) -> None:
        """Take over what others have written; where nothing can be read the value stays."""
        self.value = self._read() or self.value

    def update(self, **changes: Any) -> Settings:
        """Change fields and write the file; the new value counts even where writing fails.

        A failure is logged and told in `problem`: a choice of theme is no reason to stop.
        """
        before = now = self.value
        self.problem = ""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with alone(self.path.with_suffix(".lock")):
                now = self._read() or before
                self.value = _merged(before, now, changes)
                self._write()
        except OSError as error:
            log.warning("settings not written: %s", error)
            self.value = _merged(before, now, changes)
            self.problem = f"The settings could not be saved: {error.strerror}."
        return self.value

    def _read(self) -> Settings | None:
        """What the file says; None where it is not there or, as `problem` tells, of no use."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("settings not readable: %s", error)
            self.problem = f"The settings in {self.path} could not be read: {error.strerror}."
            return None
        try:
            raw = json.loads(data)
            value = _decode(raw)
        except (ValueError, RecursionError) as error:  # also what json and UTF-8 raise
            self._put_aside(error)
            return None
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

    def _write(self) -> None:
        usual = standard()._asdict()
        known = {k: v for k, v in self.value._asdict().items() if v != usual[k]}
        data = json.dumps(self._unknown | known, indent=2).encode()
        partial = self.path.with_name(self.path.name + ".partial")
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.path)


def _merged(before: Settings, now: Settings, changes: dict[str, Any]) -> Settings:
    """`now` with `changes` that were made to `before`; of a list only what differs is a change."""
    merged = dict(changes)
    for name, value in changes.items():
        if isinstance(value, tuple):
            old, new = getattr(before, name), getattr(now, name)
            kept = [item for item in value if item in new or item not in old]
            merged[name] = (*kept, *(x for x in new if x not in old and x not in value))
    return now._replace(**merged)
