"""A GGUF that was cut into files, `name-00001-of-00003.gguf`, as the one model it is.

Each part has a header of its own; the first has the metadata of the whole (llama.cpp's gguf-split).
"""

from __future__ import annotations

import re
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import CorruptFile, FormatError, NotFound
from engine.gguf import GgufFile
from engine.gguf_values import TensorInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPLIT_NAME = re.compile(r"(?P<stem>.+)-(?P<part>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf", re.DOTALL)
# Of the first part only: they tell how the model was cut, and the whole is one file.
SPLIT_KEYS = ("split.no", "split.count", "split.tensors.count")
MOST_PARTS = 1000
"""A name can claim 99,999 parts; no model has that many."""


def model_files(path: Path) -> tuple[Path, ...]:
    """List what makes up the GGUF at `path`: every part of a split one that should be there."""
    split = SPLIT_NAME.fullmatch(path.name)
    if split is None or not 1 <= int(split["part"]) <= int(split["count"]) <= MOST_PARTS:
        return (path,)
    count = int(split["count"])
    names = (f"{split['stem']}-{part:05d}-of-{count:05d}.gguf" for part in range(1, count + 1))
    return tuple(path.with_name(name) for name in names)


def model_stem(path: Path) -> str:
    """The name of the file `path` without its suffix and the number of a part."""
    split = SPLIT_NAME.fullmatch(path.name)
    return split["stem"] if split else path.stem


def open_gguf(path: str | PathLike[str]) -> GgufFile:
    """Open a model's GGUF, or all the parts of one of which `path` is a part.

    The file says whether it is one, as for llama.cpp: a whole model may be called like a part.
    Raises what `GgufFile.open` raises, NotFound for a part that is missing, CorruptFile for parts
    that do not belong together, and FormatError for an adapter.
    """
    file = GgufFile.open(path)
    if file.get("general.type") == "adapter":
        raise FormatError(
            f"{file.path.name} is a LoRA adapter, not a whole model.",
            hint="Merge the adapter into its base model: snug-engine shrink BASE --lora ADAPTER.",
        )
    n_parts = _n_parts(file)
    if n_parts == 1:
        return file
    files = model_files(file.path)
    if len(files) != n_parts:
        raise NotFound(
            f"{file.path.name} is one of {n_parts} parts of a model, under another name.",
            hint="Give the parts their own names again, such as model-00001-of-00002.gguf.",
        )
    for number, part in enumerate(files, 1):
        if not part.is_file():
            raise NotFound(
                f"{part.name} is missing: part {number} of {n_parts} of this model.",
                hint="Get it too, and put it beside the other parts.",
                details=str(part),
            )
    return SplitGguf([file if part == file.path else GgufFile.open(part) for part in files])


class SplitGguf(GgufFile):
    """The parts of a model, in order, read as one GGUF; `path` is the first, which is loaded."""

    def __init__(self, parts: list[GgufFile]) -> None:
        """Raises CorruptFile for parts that llama.cpp would not load together."""
        first = parts[0]
        tensors = tuple(tensor for part in parts for tensor in part.tensors)
        size_bytes = sum(part.size_bytes for part in parts)
        super().__init__(first.path, first.metadata, tensors, first.data_offset, size_bytes)
        self._parts = parts
        self._part_of = {tensor.name: part for part in parts for tensor in part.tensors}
        counts = [(_n_parts(part), part.get("split.no")) for part in parts]
        is_in_order = counts == [(len(parts), number) for number in range(len(parts))]
        is_whole = len(self._part_of) == len(tensors) == first.get("split.tensors.count")
        if not (is_in_order and is_whole):
            raise CorruptFile(
                f"The parts of {first.path.name} do not belong together.",
                hint="Get all of them again, from one place.",
                details=f"parts {counts}, {len(tensors)} tensors",
            )

    def raw(self, tensor: TensorInfo, start: int, stop: int) -> memoryview:
        return self._part_of[tensor.name].raw(tensor, start, stop)

    def rows(self, tensor: TensorInfo, start: int, stop: int) -> NDArray[np.float32]:
        return self._part_of[tensor.name].rows(tensor, start, stop)

    def forget(self) -> None:
        for part in self._parts:
            part.forget()

    def close(self) -> None:
        for part in self._parts:
            part.close()


def _n_parts(file: GgufFile) -> int:
    """Of how many files `file` says that it is one."""
    count = file.get("split.count")
    return count if type(count) is int and count > 1 else 1
