"""A checkpoint seen as the GGUF it would become; nothing is written.

Tensors keep their stored float type, except that one-dimensional ones are F32, as llama.cpp wants.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.checkpoint import Checkpoint, StoredTensor
from engine.convert.architecture import Architecture, MadeTensor, TensorRule
from engine.convert.architectures import find_architecture
from engine.convert.config import Config
from engine.convert.general import general_metadata
from engine.errors import CorruptFile, UnsupportedTensor
from engine.ggml_types import FileType, GgmlType
from engine.gguf_values import TensorInfo, Value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Part(NamedTuple):
    """A tensor of the view and where it comes from: stored under a rule, or made."""

    info: TensorInfo
    rule: TensorRule | None
    stored: StoredTensor | None
    made: MadeTensor | None


class Layout(NamedTuple):
    """What config and tensor headers say, without the vocabulary."""

    architecture: Architecture
    hparams: Any
    parts: tuple[Part, ...]

    @property
    def n_params(self) -> int:
        return sum(part.info.n_elements for part in self.parts)

    @property
    def file_type(self) -> FileType:
        """The float type of most weights."""
        weight: dict[GgmlType, int] = {}
        for part in self.parts:
            if part.rule and len(part.info.shape) > 1:
                weight[part.info.type] = weight.get(part.info.type, 0) + part.info.n_elements
        stored = max(weight, key=lambda t: weight[t], default=GgmlType.F32)
        return FileType[stored.name]


class CheckpointView:
    """A checkpoint as a ModelSource."""

    def __init__(self, checkpoint: Checkpoint, layout: Layout, metadata: dict[str, Value]) -> None:
        self.checkpoint = checkpoint
        self.metadata: Mapping[str, Value] = metadata
        self.tensors = tuple(part.info for part in layout.parts)
        self._parts = {part.info.name: part for part in layout.parts}
        self._orders: dict[tuple[int, int], NDArray[np.intp]] = {}

    @classmethod
    def open(cls, folder: str | PathLike[str]) -> CheckpointView:
        """Raises what Checkpoint.open raises, UnsupportedArchitecture and UnsupportedTokenizer."""
        from engine.convert.tokenizer import read_vocabulary

        checkpoint = Checkpoint.open(folder)
        layout = read_layout(checkpoint)
        n_vocab = next(p for p in layout.parts if p.info.name == "token_embd.weight").info.n_rows
        metadata = {
            **general_metadata(checkpoint, layout.architecture.name, layout.n_params),
            **layout.architecture.metadata(layout.hparams),
            "general.file_type": Value.u32(layout.file_type),
            "general.quantization_version": Value.u32(2),
            **read_vocabulary(checkpoint.folder, checkpoint.config, n_vocab).metadata(),
        }
        return cls(checkpoint, layout, metadata)

    def rows(self, tensor: TensorInfo, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop`, float32 [stop - start, n_cols]; may be a read-only view."""
        from engine.floats import to_float32

        part = self._parts[tensor.name]
        if part.made:
            return part.made.values().reshape(1, -1)[start:stop]
        assert part.stored is not None
        return to_float32(self._stored_rows(part, start, stop), part.stored.type).reshape(
            -1, tensor.n_cols
        )

    def raw(self, tensor: TensorInfo, start: int, stop: int) -> memoryview:
        """Rows `start` to `stop` in `tensor.type`."""
        part = self._parts[tensor.name]
        if part.stored and part.stored.type is tensor.type:
            return self._stored_rows(part, start, stop)
        return memoryview(self.rows(tensor, start, stop).tobytes())

    def close(self) -> None:
        self.checkpoint.close()

    def _stored_rows(self, part: Part, start: int, stop: int) -> memoryview:
        """Rows in the stored type, in the order llama.cpp wants."""
        import numpy as np

        from engine.convert.architecture import interleaved_rows

        assert part.stored is not None
        assert part.rule is not None
        data = self.checkpoint.data(part.stored)
        if not part.rule.n_heads:
            row_bytes = part.stored.type.row_bytes(part.info.n_cols)
            return data[start * row_bytes : stop * row_bytes]
        n_rows = part.rule.shape[0]  # a bias is a column of rows here
        key = (n_rows, part.rule.n_heads)
        if key not in self._orders:
            self._orders[key] = interleaved_rows(*key)
        stored = np.frombuffer(data, dtype=np.uint8).reshape(n_rows, -1)
        order = self._orders[key]
        picked = stored[order[start:stop] if len(part.rule.shape) > 1 else order]
        return picked.reshape(-1).data


def read_layout(checkpoint: Checkpoint) -> Layout:
    """Match the stored tensors with what the architecture declares.

    Raises UnsupportedArchitecture, UnsupportedTensor for one that has no place, CorruptFile for a
    missing tensor or a wrong shape.
    """
    architecture = find_architecture(checkpoint.config)
    shapes = {t.name: t.shape for t in checkpoint.tensors.values()}
    hparams = architecture.read(Config(checkpoint.config), shapes)
    parts = [_made_part(made) for made in architecture.made_tensors(hparams)]
    used = set()
    for rule in architecture.tensors(hparams):
        stored = next(
            (checkpoint.tensors[s] for s in rule.sources if s in checkpoint.tensors), None
        )
        if stored:
            used.add(stored.name)
            parts.append(_stored_part(checkpoint, rule, stored))
        elif rule.is_required:
            raise CorruptFile(
                f"{checkpoint.folder.name} is incomplete: it has no {rule.sources[0]}.",
                hint="Download the checkpoint again, completely.",
            )
    _refuse_strangers(checkpoint.tensors, used, architecture, hparams)
    return Layout(architecture, hparams, tuple(parts))


def _stored_part(checkpoint: Checkpoint, rule: TensorRule, stored: StoredTensor) -> Part:
    if stored.shape != rule.shape:
        raise CorruptFile(
            f"{stored.name} has the shape {list(stored.shape)}, but config.json asks for"
            f" {list(rule.shape)}.",
            hint="Use the config.json and the tensors of the same model.",
            details=str(checkpoint.folder),
        )
    # llama.cpp computes with norms and biases in F32 only.
    tensor_type = stored.type if len(rule.shape) > 1 else GgmlType.F32
    info = TensorInfo(rule.name, tuple(reversed(rule.shape)), tensor_type)
    return Part(info, rule, stored, None)


def _made_part(made: MadeTensor) -> Part:
    return Part(TensorInfo(made.name, (made.n_cols,), GgmlType.F32), None, None, made)


def _refuse_strangers(
    stored: Iterable[str], used: set[str], architecture: Architecture, hparams: Any
) -> None:
    for name in stored:
        if name not in used and not architecture.is_ignored(name, hparams):
            raise UnsupportedTensor(
                f"The tensor {name[:80]} has no place in the architecture {architecture.name}.",
                hint="Choose the original checkpoint of a whole model.",
            )
