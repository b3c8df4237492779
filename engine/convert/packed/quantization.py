"""What the JSON files of a checkpoint say about how it was packed.

Says nothing about the tensors: whoever unpacks them compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine.checkpoint import read_optional_json
from engine.errors import CorruptFile

ORIGINAL_HINT = "Choose the original checkpoint of this model, in BF16, F16 or F32."

# Files that older tools wrote beside config.json, and the method that each is of.
SIDE_FILES = {
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "hf_quant_config.json": "modelopt",
}


class Quantization(msgspec.Struct, frozen=True):
    """The `method` (lower case) that packed the checkpoint `name`, and its `settings`."""

    name: str
    method: str
    settings: Mapping[str, Any]

    def integer(self, *keys: str, default: int) -> int:
        """The first of `keys` that is there; raises CorruptFile if it is no integer."""
        value = next((self.settings[k] for k in keys if self.settings.get(k) is not None), default)
        if type(value) is not int or not -1 <= value < 1 << 31:
            raise self.odd(keys[0], value)
        return value

    def flag(self, *keys: str) -> bool | None:
        """Like `integer`, of true and false; None if it is not said."""
        value = next((self.settings[k] for k in keys if self.settings.get(k) is not None), None)
        if value is not None and not isinstance(value, bool):
            raise self.odd(keys[0], value)
        return value

    def text(self, *keys: str, default: str = "") -> str:
        """Like `integer`, of a word in lower case."""
        value = next((self.settings[k] for k in keys if self.settings.get(k) is not None), default)
        if not isinstance(value, str):
            raise self.odd(keys[0], value)
        return value.lower()

    def odd(self, key: str, value: Any) -> CorruptFile:
        """The refusal of a setting that cannot be."""
        return CorruptFile(
            f'{self.name} is packed with {self.method}, but its "{key}" is {str(value)[:40]!a}.',
            hint="Download the checkpoint again, or choose its original in BF16, F16 or F32.",
        )

    def disagrees(self, why: str) -> CorruptFile:
        """The refusal of a checkpoint whose tensors are not what its config says."""
        return CorruptFile(
            f"{self.name} says that it is packed with {self.method}, but {why}.",
            hint="Use the config.json and the tensors of the same model.",
        )


def read_quantization(name: str, folder: Path, config: Mapping[str, Any]) -> Quantization | None:
    """None for a checkpoint of which no file says that it is packed; raises CorruptFile."""
    for settings in _in_config(config):
        if not isinstance(settings, dict):
            raise _unreadable(name)
        if settings:
            method = settings.get("quant_method", "")
            if not isinstance(method, str):
                raise _unreadable(name)
            return Quantization(name, method.lower() or _guess(settings), _flat(settings))
    for file_name, method in SIDE_FILES.items():
        if settings := read_optional_json(folder / file_name):
            return Quantization(name, method, _flat(settings))
    return None


def _in_config(config: Mapping[str, Any]) -> list[Any]:
    """The places where a config may say it; "quantization" is MLX's."""
    inner = config.get("text_config")
    configs = [config, inner] if isinstance(inner, dict) else [config]
    keys = ("quantization_config", "compression_config", "quantization")
    return [c[key] for c in configs for key in keys if c.get(key)]


def _guess(settings: Mapping[str, Any]) -> str:
    """The method of settings that do not name it: only MLX and old ModelOpt leave it out."""
    if "quant_algo" in settings or "quantization" in settings:
        return "modelopt"
    if "config_groups" in settings:
        return "compressed-tensors"
    return "mlx" if "group_size" in settings else "an unnamed method"


def _flat(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Settings one level down, where ModelOpt and old compressed-tensors have them, and all."""
    inner = settings.get("quantization") or settings.get("quantization_config")
    return {**settings, **inner} if isinstance(inner, dict) else settings


def _unreadable(name: str) -> CorruptFile:
    return CorruptFile(
        f'{name} is already quantized, but its "quantization_config" cannot be read.',
        hint=ORIGINAL_HINT,
    )
