"""Reading config.json, which may hold anything: each value is checked as it is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from engine.errors import CorruptFile

MAX_INT = (1 << 31) - 1
MAX_FLOAT32 = 3.4028234663852886e38


class Config:
    """Typed access to a config's values; null counts as absent, as in transformers."""

    def __init__(self, values: Mapping[str, Any], where: str = "config.json") -> None:
        self._values = values
        self._where = where

    def has(self, key: str) -> bool:
        return self._values.get(key) is not None

    def count(self, key: str, default: int | None = None, *, largest: int = MAX_INT) -> int:
        """A whole number from 1 to `largest`; raises CorruptFile, also when absent undefaulted."""
        value = self._values.get(key)
        if value is None:
            if default is None:
                raise self._bad(f"{key} is missing")
            return default
        if type(value) is not int or not 1 <= value <= largest:
            raise self._bad(f"{key} is {_short(value)}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number above 0 that a float32 can hold."""
        value = self._values.get(key)
        if value is None:
            if default is None:
                raise self._bad(f"{key} is missing")
            return default
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._bad(f"{key} is {_short(value)}")
        if not (math.isfinite(value) and 0 < value <= MAX_FLOAT32):
            raise self._bad(f"{key} is {_short(value)}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self._values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._bad(f"{key} is {_short(value)}")
        return value

    def text(self, key: str, default: str = "") -> str:
        value = self._values.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self._bad(f"{key} is {_short(value)}")
        return value

    def section(self, key: str) -> Config:
        """The object at `key`, empty when absent."""
        value = self._values.get(key)
        if value is None:
            return Config({}, f"{key} in {self._where}")
        if not isinstance(value, dict):
            raise self._bad(f"{key} is {_short(value)}")
        return Config(value, f"{key} in {self._where}")

    def _bad(self, why: str) -> CorruptFile:
        return CorruptFile(
            f"{self._where} is damaged: {why}.",
            hint="Download config.json again from where the checkpoint came from.",
        )


def _short(value: Any) -> str:
    return ascii(value)[:60]
