"""What llama.cpp's converter and transformers made of tiny checkpoints of every architecture.

`make record-upstream` recorded it (tests/record/), one file a case. The weights are not stored:
they come from the name and shape of their tensor, here as there, in integer arithmetic that no
library can change. A case needs neither torch nor transformers nor llama.cpp's converter.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from math import prod
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from tests.helpers.tiny_tokenizers import write_tokenizer

RECORDED = Path(__file__).parents[1] / "engine" / "data" / "upstream"
FLOAT_TYPES = ("f32", "f16", "bf16")


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """A tensor of the checkpoint: its values lie evenly within `spread` around `center`."""

    dtype: str
    shape: tuple[int, ...]
    center: float
    spread: float


class Written(msgspec.Struct, frozen=True, array_like=True):
    """A tensor of upstream's GGUF, its shape with columns first.

    `data` is its type and the beginning of the SHA-256 of its bytes ("BF16 0123456789abcdef"), in
    the order of FLOAT_TYPES; once if it is the same in all.
    """

    shape: tuple[int, ...]
    data: tuple[str, ...]

    def of(self, float_type: str) -> tuple[str, str]:
        type_name, digest = self.data[FLOAT_TYPES.index(float_type) % len(self.data)].split()
        return type_name, digest


class Case(msgspec.Struct, frozen=True):
    """A checkpoint and what upstream makes of it.

    `config` is written as the models on the hub have it, `saved_config` as transformers 5 writes
    it; from the latter upstream makes the same file, except for the keys in `saved_config_keys`.
    `keys` are those of the F32 file: type and value, of a long array its length and digest.
    `file_types` are general.file_type in the order of FLOAT_TYPES. `logits` are those of
    transformers after the `positions` of `prompt`; llama.cpp's on upstream's own F32 file are
    `deviation` away (relative to the largest); None where llama.cpp refuses that file.
    """

    name: str
    config: dict[str, Any]
    saved_config: dict[str, Any] | None
    generation_config: dict[str, Any] | None
    tokenizer: dict[str, Any]
    tensors: dict[str, Stored]
    prompt: tuple[int, ...]
    positions: tuple[int, ...]
    logits_base64: str
    deviation: float | None
    keys: dict[str, tuple[str, Any]]
    saved_config_keys: dict[str, tuple[str, Any] | None]
    file_types: tuple[int, ...]
    written: dict[str, Written]

    @property
    def logits(self) -> NDArray[np.float32]:
        """[len(positions), n_vocab]"""
        data = base64.b64decode(self.logits_base64)
        return np.frombuffer(data, "<f4").reshape(len(self.positions), -1)


def case_names() -> list[str]:
    return sorted(path.stem for path in RECORDED.glob("*.json"))


def load_case(name: str) -> Case:
    return msgspec.json.decode((RECORDED / f"{name}.json").read_bytes(), type=Case)


def case_text(case: Case) -> str:
    """The file of a case: JSON with a line for each entry, so that changes can be read."""
    lines = []
    for name, value in msgspec.to_builtins(case).items():
        if name in ("tensors", "keys", "saved_config_keys", "written") and value:
            entries = ",\n  ".join(f"{_json(key)}: {_json(entry)}" for key, entry in value.items())
            lines.append(f"{_json(name)}: {{\n  {entries}\n }}")
        else:
            lines.append(f"{_json(name)}: {_json(value)}")
    return "{\n " + ",\n ".join(lines) + "\n}\n"


def write_checkpoint(case: Case, folder: Path, *, saved: bool = False) -> Path:
    """Write the checkpoint of `case` into `folder`, with the config as transformers 5 saves it."""
    folder.mkdir(parents=True, exist_ok=True)
    config = case.saved_config if saved else case.config
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    if case.generation_config:
        text = json.dumps(case.generation_config, indent=2)
        (folder / "generation_config.json").write_text(text, encoding="utf-8")
    write_tokenizer(folder, case.tokenizer)
    write_tensors(folder / "model.safetensors", case.tensors)
    return folder


def write_tensors(path: Path, tensors: dict[str, Stored]) -> None:
    """Write a safetensors file with the values that belong to the names."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    chunks, offset = [], 0
    for name, stored in tensors.items():
        data = stored_bytes(name, stored)
        header[name] = {
            "dtype": stored.dtype,
            "shape": list(stored.shape),
            "data_offsets": [offset, offset + len(data)],
        }
        offset += len(data)
        chunks.append(data)
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    path.write_bytes(struct.pack("<Q", len(encoded)) + encoded + b"".join(chunks))


def stored_bytes(name: str, stored: Stored) -> bytes:
    """The bytes of a tensor in the type it is stored in; BF16 and whole numbers by cutting off."""
    values = weights(name, stored)
    if stored.dtype == "F32":
        return values.astype("<f4").tobytes()
    if stored.dtype == "F16":
        return values.astype("<f2").tobytes()
    if stored.dtype == "BF16":
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    assert stored.dtype == "U8"
    return np.floor(values).astype(np.uint8).tobytes()


def weights(name: str, stored: Stored) -> NDArray[np.float32]:
    """The values of a tensor before they are stored, float32."""
    n = prod(stored.shape)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    # SplitMix64 (Steele, Lea, Flood 2014), the nth state of which is known without the others.
    state = np.uint64(seed) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ state >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ state >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    even = (state >> np.uint64(40)).astype(np.float32) * np.float32(2**-23) - np.float32(1)
    values = even * np.float32(stored.spread) + np.float32(stored.center)
    return values.reshape(stored.shape)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
