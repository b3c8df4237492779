"""A checkpoint seen as the GGUF it would become; nothing is written.

Tensors keep their stored type, except those that llama.cpp wants in F32.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Generator, Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, NamedTuple

from engine.checkpoint import Checkpoint
from engine.convert.architecture import Declared, MadeTensor, TensorRule
from engine.convert.architectures import find_architecture
from engine.convert.config import Config
from engine.convert.factors import are_used
from engine.convert.gather import Gathered, Made, is_always_f32
from engine.convert.general import general_metadata
from engine.convert.lora.choice import Lora
from engine.convert.lora.merge import Scaled, merge, open_adapters
from engine.convert.lora.texts import name_with, vocabulary_with
from engine.convert.multimodal import text_config, text_weights
from engine.convert.options import VocabularyOptions
from engine.convert.packed import weights_of
from engine.convert.weights import Weight
from engine.errors import CorruptFile, UnsupportedTensor
from engine.ggml_types import FileType
from engine.gguf_values import TensorInfo, Value, encode, mostly

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Layout(NamedTuple):
    """What config and tensor headers say, without the vocabulary."""

    architecture: str
    keys: dict[str, Value]
    tensors: tuple[Weight, ...]
    vocabulary: VocabularyOptions

    @property
    def infos(self) -> tuple[TensorInfo, ...]:
        return tuple(map(_info, self.tensors))

    @property
    def file_type(self) -> FileType:
        return mostly(t for t in self.infos if not is_always_f32(t.name, len(t.shape)))


class CheckpointView:
    """A checkpoint as a ModelSource, with `adapters` merged into it."""

    can_decode = True

    def __init__(
        self,
        checkpoint: Checkpoint,
        layout: Layout,
        metadata: dict[str, Value],
        adapters: Sequence[Scaled] = (),
    ) -> None:
        self.checkpoint = checkpoint
        self.adapters = tuple(adapters)
        self.metadata: Mapping[str, Value] = metadata
        self.tensors = layout.infos
        self._weights = {tensor.name: tensor for tensor in layout.tensors}

    @classmethod
    def open(cls, folder: str | PathLike[str], loras: Sequence[Lora] = ()) -> CheckpointView:
        """Raises what Checkpoint.open raises, UnsupportedArchitecture and UnsupportedTokenizer."""
        checkpoint = Checkpoint.open(folder)
        adapters = open_adapters(loras)
        layout = read_layout(checkpoint, adapters)
        n_vocab = next(t.shape[0] for t in layout.tensors if t.name == "token_embd.weight")
        metadata = {
            **general_metadata(checkpoint, layout.architecture, layout.infos),
            **layout.keys,
            "general.file_type": Value.u32(layout.file_type),
            "general.quantization_version": Value.u32(2),
            **vocabulary_with(adapters, checkpoint, n_vocab, layout.vocabulary).metadata(),
        }
        if adapters:
            name = name_with(adapters, metadata.get("general.name"))
            metadata["general.name"] = Value.string(name)
        return cls(checkpoint, layout, metadata, adapters)

    def rows(self, tensor: TensorInfo, start: int, stop: int) -> NDArray[np.float32]:
        """Rows `start` to `stop`, float32 [stop - start, n_cols]; may be a read-only view."""
        return self._weights[tensor.name].rows(start, stop)

    def raw(self, tensor: TensorInfo, start: int, stop: int) -> memoryview:
        """Rows `start` to `stop` in `tensor.type`."""
        return self._weights[tensor.name].raw(start, stop).reshape(-1).data

    def find_lattices(self) -> Generator[int, None, None]:
        """Give the tensors that lie on the lattice of a GGUF type that type; yields bytes read."""
        from engine.convert.lattice import find_lattices

        plain = {n: w for n, w in self._weights.items() if not is_always_f32(n, len(w.shape))}
        self._weights |= yield from find_lattices(plain, self.forget)
        self.tensors = tuple(map(_info, self._weights.values()))

    def forget(self) -> None:
        self.checkpoint.forget()
        for adapter, _ in self.adapters:
            adapter.forget()

    def close(self) -> None:
        self.checkpoint.close()
        for adapter, _ in self.adapters:
            adapter.close()


def _info(weight: Weight) -> TensorInfo:
    return TensorInfo(weight.name, tuple(reversed(weight.shape)), weight.type)


def read_layout(
    checkpoint: Checkpoint, adapters: Sequence[Scaled] = (), *, believes_config: bool = False
) -> Layout:
    """Match the stored tensors, and what `adapters` add, with what the architecture declares.

    With `believes_config` only headers are read, also where tensors say better how they are packed.
    Raises UnsupportedArchitecture, UnsupportedTensor for one that has no place, CorruptFile for a
    missing tensor or a wrong shape.
    """
    stored = weights_of(checkpoint, believes_config=believes_config)
    weights: Mapping[str, Weight] = text_weights(checkpoint.config, stored)
    architecture = find_architecture(checkpoint.config)
    config = text_config(checkpoint.config)
    if adapters:
        config, weights = merge(checkpoint.config, weights, adapters, architecture.name)
    shapes = {name: weight.shape for name, weight in weights.items()}
    declared = architecture.declare(Config(config), shapes)
    tensors: list[Weight] = [Made(made) for made in declared.made]
    used: set[str] = set()
    for rule in declared.rules:
        if parts := _parts(checkpoint, rule, weights):
            used.update(parts)
            tensors.extend(_gathered(architecture.name, rule, [weights[name] for name in parts]))
    _refuse_strangers(weights, used, declared, architecture.name)
    keys = {f"{architecture.name}.{key}": value for key, value in declared.keys.items()}
    for key, value in keys.items():
        try:
            encode(value.type, value.value)
        except (struct.error, OverflowError) as e:
            raise Config({}).bad(f"{key} would be {value.value:.3g}") from e
    return Layout(architecture.name, keys, tuple(tensors), architecture.vocabulary)


def _gathered(architecture: str, rule: TensorRule, weights: list[Weight]) -> Iterable[Weight]:
    """The tensor of `rule`, and the factors beside it if it has some."""
    can_scale = are_used(architecture, rule.name)
    gathered = Gathered(rule, tuple(weights), can_scale=can_scale)
    yield gathered
    if gathered.factors:
        name = rule.name.removesuffix(".weight") + ".scale"
        yield Made(MadeTensor(name, len(gathered.factors), gathered.factor_values))


def _parts(
    checkpoint: Checkpoint, rule: TensorRule, weights: Mapping[str, Weight]
) -> list[str] | None:
    """The names of the weights that `rule` takes; None if it is not there and need not be."""
    found = []
    for part in rule.parts:
        name = next((name for name in part.names if name in weights), None)
        if name is None:
            if not rule.is_required:
                return None
            raise CorruptFile(
                f"{checkpoint.folder.name} is incomplete: it has no {part.names[0]}.",
                hint="Download the checkpoint again, completely.",
            )
        if weights[name].shape != part.shape:
            raise CorruptFile(
                f"{name} has the shape {list(weights[name].shape)}, but config.json asks for"
                f" {list(part.shape)}.",
                hint="Use the config.json and the tensors of the same model.",
                details=str(checkpoint.folder),
            )
        found.append(name)
    return found


def _refuse_strangers(
    stored: Iterable[str], used: set[str], declared: Declared, architecture: str
) -> None:
    ignored = [re.compile(pattern) for pattern in declared.ignored]
    for name in stored:
        if name not in used and not any(pattern.fullmatch(name) for pattern in ignored):
            raise UnsupportedTensor(
                f"The tensor {name[:80]} has no place in the architecture {architecture}.",
                hint="Choose the original checkpoint of a whole model.",
            )
