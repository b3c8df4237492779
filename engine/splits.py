"""A GGUF that was cut into files, `name-00001-of-00003.gguf`, as the one model it is.

Each part has a header of its own; the first has the metadata of the whole (llama.cpp's gguf-split).
"""

from __future__ import annotations

import re
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import CorruptFile, NotFound
from engine.gguf import GgufFile
from engine.gguf_values import TensorInfo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPLIT_NAME = re.compile(r"^(?P<stem>.+)-(?P<part>\d{5})-of-(?P<count>\d{5})\.gguf$")
MOST_PARTS = 1000
"""A name can claim 99,999 parts; no model has that many."""


def model_files(path: Path) -> tuple[Path, ...]:
    """List what makes up the GGUF at `path`: every part of a split one that should be there."""
    split = SPLIT_NAME.match(path.name)
    if split is None or not 1 < int(split["count"]) <= MOST_PARTS:
        return (path,)
    count = int(split["count"])
    names = (f"{split['stem']}-{part:05d}-of-{count:05d}.gguf" for part in range(1, count + 1))
    return tuple(path.with_name(name) for name in names)


def open_gguf(path: str | PathLike[str]) -> GgufFile:
    """Open a GGUF, or all the parts of one of which `path` is a part.

    Raises what `GgufFile.open` raises, NotFound for a part that is missing, and CorruptFile for
    parts that do not belong together.
    """
    path = Path(fspath(path))
    files = model_files(path)
    if len(files) == 1:
        _require_whole(file := GgufFile.open(path))
        return file
    for number, part in enumerate(files, 1):
        if not part.exists():
            raise NotFound(
                f"{part.name} is missing: part {number} of {len(files)} of this model.",
                hint="Get it too, and put it beside the other parts.",
                details=str(part),
            )
    return SplitGguf([GgufFile.open(part) for part in files])


class SplitGguf(GgufFile):
    """The parts of a model, in order, read as one GGUF; `path` is the first, which is loaded."""

    def __init__(self, parts: list[GgufFile]) -> None:
        first = parts[0]
        tensors = tuple(tensor for part in parts for tensor in part.tensors)
        size_bytes = sum(part.size_bytes for part in parts)
        super().__init__(first.path, first.metadata, tensors, first.data_offset, size_bytes)
        self._parts = parts
        self._part_of = {tensor.name: part for part in parts for tensor in part.tensors}
        if len(self._part_of) != len(tensors) or len(tensors) != first.get(
            "split.tensors.count", len(tensors)
        ):
            raise CorruptFile(
                f"The parts of {first.path.name} do not belong together.",
                hint="Get all of them again, from one place.",
            )

    def raw(self, tensor: TensorInfo, start: int, stop: int) -> memoryview:
        return self._part_of[tensor.name].raw(tensor, start, stop)

    def rows(self, tensor: TensorInfo, start: int, stop: int) -> NDArray[np.float32]:
        return self._part_of[tensor.name].rows(tensor, start, stop)

    def close(self) -> None:
        for part in self._parts:
            part.close()


def _require_whole(file: GgufFile) -> None:
    """Refuse a part that was renamed: the others cannot be found by its name."""
    n_parts = file.get("split.count", 1)
    if isinstance(n_parts, int) and n_parts > 1:
        raise NotFound(
            f"{file.path.name} is one of {n_parts} parts of a model, under another name.",
            hint="Give the parts their own names again, such as model-00001-of-00002.gguf.",
        )
