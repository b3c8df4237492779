"""A model as something to read tensors from: a GGUF file, or a checkpoint seen as one.

Whoever quantizes, converts or judges a model asks a `ModelSource` and never what it is made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from engine.checkpoint import PICKLE_SUFFIXES, refuse_pickle
from engine.convert.lora.choice import Lora
from engine.errors import AlreadyExists, FormatError
from engine.files import Mark, file_mark, read_error
from engine.gguf_values import TensorInfo, Value
from engine.splits import model_files, open_gguf

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


# What config, tokenizer and tensors lie in.
CHECKPOINT_SUFFIXES = (".safetensors", ".json", ".model", ".jinja")


class ModelSource(Protocol):
    """Metadata and tensors under their GGUF names, rows read on demand."""

    @property
    def metadata(self) -> Mapping[str, Value]: ...

    @property
    def tensors(self) -> Sequence[TensorInfo]: ...

    @property
    def can_decode(self) -> bool:
        """Whether `rows` also gives tensors that are quantized, without loss."""
        ...

    def rows(self, tensor: TensorInfo, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop` (over all outer dimensions), float32 [stop - start, n_cols].

        May be a read-only view. Raises UnsupportedTensor for a tensor that it cannot decode.
        """
        ...

    def raw(self, tensor: TensorInfo, start: int, stop: int) -> memoryview:
        """The same rows as stored in `tensor.type`."""
        ...

    def forget(self) -> None:
        """Let go of the memory that what was read takes; it can be read again."""
        ...

    def close(self) -> None: ...


def refuse_to_replace(source: Path, target: Path) -> None:
    """Raise AlreadyExists if `target` is a file that the model at `source` is made of.

    Of a checkpoint folder that is every file in it but a GGUF, which no checkpoint needs.
    """
    if not (source.exists() and target.exists()):
        return
    try:
        if source.is_dir():
            files = [file for file in source.iterdir() if file.suffix.lower() != ".gguf"]
        else:
            files = list(model_files(source))
        is_own = any(file.exists() and file.samefile(target) for file in files)
    except OSError as error:  # a folder that may not be looked into
        raise read_error(error, source) from error
    if is_own:
        raise AlreadyExists(
            "The result cannot replace the model it is made from.",
            hint="Give the new file another name.",
            details=str(target),
        )


def source_marks(path: Path, loras: Sequence[Lora] = ()) -> dict[str, Mark]:
    """The marks of the files that the model at `path` and `loras` are made of, by name.

    Raises what `read_error` gives.
    """
    try:
        files: Iterable[Path] = path.iterdir() if path.is_dir() else model_files(path)
        if path.is_dir():
            files = (file for file in files if file.suffix in CHECKPOINT_SUFFIXES)
        named = {ascii(file.name): file for file in sorted(files)}
        for number, lora in enumerate(loras):
            for file in sorted(Path(lora.folder).glob("adapter_*")):
                named[ascii(f"{number} {lora.scale} {file.name}")] = file
        return {name: file_mark(file) for name, file in named.items() if file.exists()}
    except OSError as error:
        raise read_error(error, path) from error


def open_source(path: str | PathLike[str], loras: Sequence[Lora] = ()) -> ModelSource:
    """Open a .gguf file (all its parts), or a checkpoint folder as the GGUF it would become.

    Nothing is written. A checkpoint's tensors keep their stored float type (norms become F32), and
    `loras` are merged into it. Raises NotFound and FormatErrors of the format in question.
    """
    path = Path(fspath(path))
    if path.is_dir():
        from engine.convert.view import CheckpointView

        return CheckpointView.open(path, loras)
    suffix = path.suffix.lower()
    if suffix in PICKLE_SUFFIXES:
        raise refuse_pickle(path)
    if suffix == ".safetensors":
        raise FormatError(
            f"{path.name} is a part of a checkpoint.",
            hint="Choose the folder that holds it, with config.json and the tokenizer.",
        )
    if loras:
        raise FormatError(
            f"An adapter cannot be merged into {path.name}, but into a checkpoint only.",
            hint="Choose the folder with config.json and the .safetensors files of that model.",
        )
    return open_gguf(path)
