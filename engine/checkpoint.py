"""A Hugging Face checkpoint on disk: config, JSON side files, and tensors in safetensors.

Headers are checked before anything is trusted; tensor data is memory-mapped and handed out as raw
bytes. Knows nothing of what a config key or a tensor means. Format: huggingface/safetensors.
"""

from __future__ import annotations

import logging
import mmap
import re
from collections.abc import Mapping
from math import prod
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import CorruptFile, FormatError, NotFound, UnsafeFile, UnsupportedTensor
from engine.files import read_error
from engine.ggml_types import GgmlType
from engine.mapped import forget, map_file

log = logging.getLogger(__name__)

MAX_JSON_BYTES = 256 << 20
MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors library itself
MAX_DIMS = 8

INDEX_NAME = "model.safetensors.index.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
FLOAT_TYPES = {"F32": GgmlType.F32, "F16": GgmlType.F16, "BF16": GgmlType.BF16}
DTYPE_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1,
    "U16": 2, "I16": 2, "F16": 2, "BF16": 2, "U32": 4, "I32": 4, "F32": 4,
    "U64": 8, "I64": 8, "F64": 8, "C64": 8,
}  # fmt: skip

COMPLETE_HINT = "Download it again, completely, from where it came from."


class StoredTensor(msgspec.Struct, frozen=True):
    """A tensor in a safetensors file: `shape` with rows first, bytes `begin` to `end` of `file`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    begin: int
    end: int

    @property
    def type(self) -> GgmlType:
        """Raises UnsupportedTensor for a dtype that is not F32, F16 or BF16."""
        try:
            return FLOAT_TYPES[self.dtype]
        except KeyError as e:
            raise UnsupportedTensor(
                f"The tensor {self.name} is stored as {self.dtype}, which Snug cannot convert yet.",
                hint="Look for a checkpoint of this model in BF16, F16 or F32.",
            ) from e


class Checkpoint:
    """An open checkpoint folder; `data` keeps files mapped until `close`."""

    def __init__(
        self, folder: Path, config: Mapping[str, Any], tensors: Mapping[str, StoredTensor]
    ) -> None:
        self.folder = folder
        self.config = config
        self.tensors = tensors
        self._maps: dict[Path, mmap.mmap] = {}

    @classmethod
    def open(cls, folder: str | PathLike[str]) -> Checkpoint:
        """Read config.json and the header of every shard.

        Raises NotFound, StorageError, FormatError, CorruptFile, UnsafeFile.
        """
        folder = Path(fspath(folder))
        try:
            config = read_config(folder)
            paths = _tensor_files(folder)
        except OSError as e:  # a folder that may not be looked into
            raise read_error(e, folder) from e
        tensors: dict[str, StoredTensor] = {}
        for path in paths:
            for tensor in read_safetensors_header(path):
                if tensor.name in tensors:
                    raise CorruptFile(
                        f"The tensor {tensor.name!a} occurs twice in {folder.name}.",
                        hint=COMPLETE_HINT,
                    )
                tensors[tensor.name] = tensor
        _check_index(folder, tensors)
        return cls(folder, config, tensors)

    @property
    def name(self) -> str:
        """The model's name: that of the folder, or of the repository in a download cache."""
        folder = self.folder.absolute()
        if folder.parent.name == "snapshots":  # models--OWNER--NAME/snapshots/REVISION
            return folder.parent.parent.name.rpartition("--")[2]
        return folder.name

    def data(self, tensor: StoredTensor) -> memoryview:
        """All bytes of `tensor`, without a copy."""
        mapped = self._maps.get(tensor.file)
        if mapped is None:
            mapped = self._maps[tensor.file] = map_file(tensor.file)
        if tensor.end > len(mapped):
            raise CorruptFile(
                f"{tensor.file.name} changed while it was read.",
                hint="Wait until it is complete, then try again.",
            )
        return memoryview(mapped)[tensor.begin : tensor.end]

    def forget(self) -> None:
        """Let go of the memory that what was read takes."""
        for mapped in tuple(self._maps.values()):  # other threads may open more
            forget(mapped)

    def close(self) -> None:
        """Let go of the files; each is closed with the last view of it."""
        self._maps.clear()


def read_json(path: Path) -> Any:
    """Decode a JSON file; raises NotFound, StorageError, CorruptFile."""
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise CorruptFile(f"{path.name} is too large to be what it should be.")
        return msgspec.json.decode(path.read_bytes())
    except OSError as e:
        raise read_error(e, path) from e
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as e:
        raise CorruptFile(
            f"{path.name} is damaged: it is not valid JSON.", hint=COMPLETE_HINT, details=str(e)
        ) from e


def read_json_object(path: Path) -> dict[str, Any]:
    """Decode a JSON file that holds an object."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise CorruptFile(
            f"{path.name} is damaged: it holds no JSON object.",
            hint=COMPLETE_HINT,
        )
    return content


def read_optional_json(path: Path) -> dict[str, Any]:
    """Like read_json_object, but {} when there is no such file."""
    return read_json_object(path) if path.is_file() else {}


def read_generation_config(folder: Path) -> dict[str, Any]:
    """Read generation_config.json; {} when there is none, or a damaged one.

    It only advises how to generate, so that a model without it is still whole.
    """
    try:
        return read_optional_json(folder / "generation_config.json")
    except CorruptFile as e:
        log.warning("The generation_config.json of %s is left out: %s", folder, e)
        return {}


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json; raises a FormatError that says what the folder is instead."""
    if folder.is_file():
        raise FormatError(
            f"{folder.name} is a file, not the folder of a checkpoint.",
            hint="Choose the folder that holds config.json.",
        )
    if not folder.is_dir():
        raise NotFound(f"The folder {folder} does not exist.", hint="Check the name.")
    if (folder / "config.json").is_file():
        return read_json_object(folder / "config.json")
    if (folder / "adapter_config.json").is_file():
        raise FormatError(
            f"{folder.name} holds a LoRA adapter, not a whole model.",
            hint="Choose its base model, and merge the adapter: snug-engine shrink BASE --lora"
            " ADAPTER.",
        )
    if any(folder.glob("*.gguf")):
        raise FormatError(
            f"{folder.name} has no config.json, so it is not a Hugging Face checkpoint.",
            hint="Choose the .gguf file in it.",
        )
    _refuse_pickles(folder)
    raise FormatError(
        f"{folder.name} has no config.json, so it is not a Hugging Face checkpoint.",
        hint="Choose the folder that holds config.json, the tokenizer and the .safetensors files.",
    )


def refuse_pickle(path: Path) -> UnsafeFile:
    """The refusal of a pickle file, with the reason."""
    return UnsafeFile(
        f"{path.name} is a pickle file. Such files can run code when they are opened, so Snug does"
        " not open them.",
        hint="Look for this model in safetensors format.",
        details=str(path),
    )


def _refuse_pickles(folder: Path) -> None:
    """Say of a folder without safetensors that it holds pickle files, if it does."""
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICKLE_SUFFIXES:
            raise refuse_pickle(path)


def read_safetensors_header(path: Path) -> list[StoredTensor]:
    """The tensors of one safetensors file, every range checked against the file."""
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(9)
            header_bytes = int.from_bytes(start[:8], "little")
            # A length may begin as a pickle or a zip does, but not go on with a brace.
            if start.startswith((b"PK", b"\x80")) and start[8:] != b"{":
                raise refuse_pickle(path)
            if len(start) < 8 or header_bytes > MAX_HEADER_BYTES:
                raise CorruptFile(f"{path.name} is not a safetensors file.", hint=COMPLETE_HINT)
            if header_bytes > size_bytes - 8:
                raise _incomplete(path, "it ends within its header")
            file.seek(8)
            header = msgspec.json.decode(file.read(header_bytes))
    except OSError as e:
        raise read_error(e, path) from e
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as e:
        raise _damaged(path, "its header is not valid JSON", str(e)) from e
    if not isinstance(header, dict):
        raise _damaged(path, "its header holds no JSON object")
    data_begin = 8 + header_bytes
    tensors = [
        _stored_tensor(path, name, entry, data_begin)
        for name, entry in header.items()
        if name != "__metadata__"
    ]
    _check_ranges(path, tensors, size_bytes)
    return tensors


def _stored_tensor(path: Path, name: str, entry: Any, data_begin: int) -> StoredTensor:
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        numbers = [*shape, begin, end]
    except (KeyError, TypeError, ValueError) as e:
        raise _damaged(path, f"the entry of {name!a} is malformed") from e
    if not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers) or len(shape) > MAX_DIMS:
        raise _damaged(path, f"the entry of {name!a} is malformed")
    item_bytes = DTYPE_BYTES.get(dtype) if isinstance(dtype, str) else None
    if item_bytes is None:
        raise UnsupportedTensor(
            f"The tensor {name!a} is stored as {str(dtype)[:40]!a}, which Snug does not know.",
            hint="Look for a checkpoint of this model in BF16, F16 or F32.",
        )
    if end - begin != prod(shape) * item_bytes:
        raise _damaged(path, f"the size of {name!a} does not fit its shape")
    return StoredTensor(name, dtype, tuple(shape), path, data_begin + begin, data_begin + end)


def _check_ranges(path: Path, tensors: list[StoredTensor], size_bytes: int) -> None:
    end = 0
    for tensor in sorted(tensors, key=lambda t: (t.begin, t.end)):
        if tensor.begin < end:
            raise _damaged(path, f"the data of {tensor.name!a} overlaps that of another tensor")
        end = tensor.end
    if end > size_bytes:
        raise _incomplete(path, f"{end - size_bytes} of {end} bytes are missing")


def _tensor_files(folder: Path) -> list[Path]:
    """The safetensors files of the checkpoint: one, or the shards of its index."""
    if (folder / INDEX_NAME).is_file():
        return [_present(folder, name) for name in sorted(set(_weight_map(folder).values()))]
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    shards = sorted(folder.glob("model-*-of-*.safetensors"))
    if shards and (match := re.fullmatch(r"model-\d{5}-of-(\d{5})\.safetensors", shards[0].name)):
        n_shards = match[1]
        names = [f"model-{i:05}-of-{n_shards}.safetensors" for i in range(1, int(n_shards) + 1)]
        return [_present(folder, name) for name in names]
    others = sorted(folder.glob("*.safetensors"))
    if len(others) == 1:  # as old quantizers named theirs
        return others
    _refuse_pickles(folder)
    raise FormatError(
        f"{folder.name} has a config.json but no model.safetensors.",
        hint="Download the .safetensors files of the model into this folder too.",
    )


def _weight_map(folder: Path) -> dict[str, str]:
    weight_map = read_json_object(folder / INDEX_NAME).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CorruptFile(f"{INDEX_NAME} is damaged: it names no files.", hint=COMPLETE_HINT)
    for name in weight_map.values():
        # An index may name files of its own folder only.
        if not isinstance(name, str) or not re.fullmatch(r"[\w.+-]+\.safetensors", name):
            raise CorruptFile(
                f"{INDEX_NAME} is damaged: {str(name)[:80]!a} is no safetensors file of this"
                " folder.",
                hint=COMPLETE_HINT,
            )
    return weight_map


def _present(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise CorruptFile(
            f"{folder.name} is incomplete: {name} is missing.",
            hint=f"Download {name} into the folder {folder}.",
        )
    return folder / name


def _check_index(folder: Path, tensors: Mapping[str, StoredTensor]) -> None:
    if not (folder / INDEX_NAME).is_file():
        return
    for name, file_name in _weight_map(folder).items():
        if name.endswith(".inv_freq"):  # computed; some indexes name it all the same
            continue
        if name not in tensors or tensors[name].file.name != file_name:
            raise CorruptFile(
                f"{file_name} does not hold the tensor {name!a} that {INDEX_NAME} promises.",
                hint=COMPLETE_HINT,
            )


def _damaged(path: Path, why: str, details: str = "") -> CorruptFile:
    return CorruptFile(f"{path.name} is damaged: {why}.", hint=COMPLETE_HINT, details=details)


def _incomplete(path: Path, why: str) -> CorruptFile:
    return CorruptFile(f"{path.name} is incomplete: {why}.", hint=COMPLETE_HINT)
