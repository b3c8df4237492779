"""Reading config.json, which may hold anything: each value is checked as it is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from engine.errors import CorruptFile, UnsupportedArchitecture

MAX_INT = (1 << 31) - 1
MAX_FLOAT32 = 3.4028234663852886e38
MAX_ITEMS = 1 << 16


class Config:
    """Typed access to a config's values; null counts as absent unless one asks."""

    def __init__(self, values: Mapping[str, Any], where: str = "config.json") -> None:
        self._values = values
        self._where = where

    def has(self, key: str) -> bool:
        return self._values.get(key) is not None

    def is_null(self, key: str) -> bool:
        """Whether it is there, and switched off."""
        return key in self._values and self._values[key] is None

    def find(self, *keys: str) -> str | None:
        """The first of `keys` that is there."""
        return next((key for key in keys if self.has(key)), None)

    def count(
        self, key: str, default: int | None = None, *, smallest: int = 1, largest: int = MAX_INT
    ) -> int:
        """A whole number; raises CorruptFile, also when it is absent and there is no default."""
        value = self._values.get(key)
        if value is None:
            if default is None:
                raise self.bad(f"{key} is missing")
            return default
        if type(value) is float and value.is_integer():  # 4096.0
            value = int(value)
        if type(value) is not int or not smallest <= value <= largest:
            raise self.bad(f"{key} is {_short(value)}")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number above 0 that a float32 can hold."""
        value = self._values.get(key)
        if value is None:
            if default is None:
                raise self.bad(f"{key} is missing")
            return default
        if not (_is_number(value) and value > 0):
            raise self.bad(f"{key} is {_short(value)}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self._values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.bad(f"{key} is {_short(value)}")
        return value

    def text(self, key: str, default: str = "") -> str:
        value = self._values.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise self.bad(f"{key} is {_short(value)}")
        return value

    def numbers(self, key: str, n: int | None = None) -> list[float]:
        """A list of finite numbers, `n` of them if given; [] when absent."""
        values = self._list(key, n)
        if not all(_is_number(value) for value in values):
            raise self.bad(f"{key} is {_short(values)}")
        return [float(value) for value in values]

    def counts(self, key: str, n: int | None = None, *, smallest: int = 0) -> list[int]:
        """A list of whole numbers, `n` of them if given; [] when absent."""
        values = self._list(key, n)
        if not all(type(value) is int and smallest <= value <= MAX_INT for value in values):
            raise self.bad(f"{key} is {_short(values)}")
        return values

    def texts(self, key: str, n: int | None = None) -> list[str]:
        """A list of texts, `n` of them if given; [] when absent."""
        values = self._list(key, n)
        if not all(isinstance(value, str) for value in values):
            raise self.bad(f"{key} is {_short(values)}")
        return values

    def section(self, key: str) -> Config:
        """The object at `key`, empty when absent."""
        return Config(self._object(key), f"{key} in {self._where}")

    def over(self, key: str) -> Config:
        """This config, with what the object at `key` says instead."""
        return Config({**self._values, **self._object(key)}, self._where)

    def under(self, **defaults: Any) -> Config:
        """This config, where what is absent is as in `defaults`."""
        given = {key: value for key, value in self._values.items() if value is not None}
        return Config({**defaults, **given}, self._where)

    def raw(self, key: str) -> Any:
        """The value unchecked, None when absent: to hand it on to another config."""
        return self._values.get(key)

    def bad(self, why: str) -> CorruptFile:
        """The error that this config is damaged."""
        return CorruptFile(
            f"{self._where} is damaged: {why}.",
            hint="Download config.json again from where the checkpoint came from, or choose another"
            " upload of this model.",
        )

    def _list(self, key: str, n: int | None) -> list[Any]:
        values = self._values.get(key)
        if values is None:
            return []
        if not isinstance(values, list) or len(values) > MAX_ITEMS:
            raise self.bad(f"{key} is {_short(values)}")
        if n is not None and len(values) != n:
            raise self.bad(f"{key} has {len(values)} items instead of {n}")
        return values

    def _object(self, key: str) -> dict[str, Any]:
        value = self._values.get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self.bad(f"{key} is {_short(value)}")
        return value


def unsupported(what: str) -> UnsupportedArchitecture:
    """The refusal of a model that llama.cpp would run differently, or not at all."""
    return UnsupportedArchitecture(
        f"Snug cannot convert a model with {what} yet.", hint="Look for a GGUF of this model."
    )


def _is_number(value: Any) -> bool:
    """Whether a float32 can hold `value`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and abs(value) <= MAX_FLOAT32


def _short(value: Any) -> str:
    return ascii(value)[:60]
