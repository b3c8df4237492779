"""What a model is, from its headers alone: quick, without numpy, for lists and questions.

Works for a GGUF, whole or in parts, and for a checkpoint folder. Knows nothing of whether the model
runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.checkpoint import PICKLE_SUFFIXES, Checkpoint, read_optional_json, refuse_pickle
from engine.fit.estimate import Estimate
from engine.ggml_types import FileType, GgmlType
from engine.gguf_values import TensorInfo, Value
from engine.splits import model_stem, open_gguf


class ModelSummary(msgspec.Struct, frozen=True, gc=False):
    """A model in the words of a list; `type` is its recipe, or the float type of a checkpoint.

    `size_bytes` is what its files take on disk; figures that a file does not tell are 0.
    """

    path: str
    kind: Literal["gguf", "checkpoint"]
    name: str
    architecture: str
    n_params: int
    size_bytes: int
    type: str
    bits_per_weight: float
    n_ctx_train: int
    n_layers: int
    n_vocab: int
    has_chat_template: bool
    license: str
    quantized: bool


def describe(path: str | PathLike[str]) -> ModelSummary:
    """Summarise the .gguf file or the checkpoint folder at `path`.

    Raises what opening it raises: NotFound, StorageError, FormatErrors.
    """
    return look_into(path)[0]


def look_into(path: str | PathLike[str]) -> tuple[ModelSummary, Estimate | None]:
    """Also what running it would take, if it is a GGUF; raises as `describe`."""
    path = Path(fspath(path))
    if path.is_dir():
        return _describe_checkpoint(path), None
    if path.suffix.lower() in PICKLE_SUFFIXES and path.is_file():
        raise refuse_pickle(path)
    model = open_gguf(path)
    summary = _summary(path, "gguf", model.metadata, model.tensors, model.size_bytes)
    return summary, Estimate.of(model.metadata, model.tensors)


def _describe_checkpoint(folder: Path) -> ModelSummary:
    # Every architecture there is: nobody waits for them who only has GGUF files, or shows a list.
    from engine.convert.general import general_metadata
    from engine.convert.templates import read_chat_templates
    from engine.convert.view import read_layout

    checkpoint = Checkpoint.open(folder)
    layout = read_layout(checkpoint, believes_config=True)
    metadata = {
        **general_metadata(checkpoint, layout.architecture, layout.infos),
        # As the folder is called: what it tells may be the name of the model it was tuned from.
        "general.name": Value.string(checkpoint.name),
        **layout.keys,
        "general.file_type": Value.u32(layout.file_type),
    }
    tokenizer_config = read_optional_json(folder / "tokenizer_config.json")
    for name, template in read_chat_templates(folder, tokenizer_config).items():
        metadata[f"tokenizer.chat_template.{name}"] = Value.string(template)
    files = {tensor.file for tensor in checkpoint.tensors.values()}
    size_bytes = sum(file.stat().st_size for file in files)
    return _summary(folder, "checkpoint", metadata, layout.infos, size_bytes)


def _summary(
    path: Path,
    kind: Literal["gguf", "checkpoint"],
    metadata: Mapping[str, Value],
    tensors: Sequence[TensorInfo],
    size_bytes: int,
) -> ModelSummary:
    architecture = _text(metadata, "general.architecture")
    n_params = sum(t.n_elements for t in tensors)
    n_weight_bytes = sum(t.n_bytes for t in tensors)
    return ModelSummary(
        path=str(path),
        kind=kind,
        name=_text(metadata, "general.name") or model_stem(path),
        architecture=architecture,
        n_params=n_params,
        size_bytes=size_bytes,
        type=_type_name(metadata, tensors),
        bits_per_weight=n_weight_bytes * 8 / n_params if n_params else 0.0,
        n_ctx_train=_count(metadata, f"{architecture}.context_length"),
        n_layers=_count(metadata, f"{architecture}.block_count"),
        n_vocab=_n_vocab(metadata, tensors, architecture),
        has_chat_template=any(key.startswith("tokenizer.chat_template") for key in metadata),
        license=_text(metadata, "general.license"),
        quantized=any(t.type.is_quantized for t in tensors),
    )


def _type_name(metadata: Mapping[str, Value], tensors: Sequence[TensorInfo]) -> str:
    """The recipe that the file names, or else the type of most of its weights."""
    value = metadata.get("general.file_type")
    if value is not None and value.value in FileType.__members__.values():
        return FileType(value.value).name
    weights: dict[GgmlType, int] = {}
    for tensor in tensors:
        weights[tensor.type] = weights.get(tensor.type, 0) + tensor.n_elements
    return max(weights, key=lambda t: weights[t]).name if weights else ""


def _n_vocab(
    metadata: Mapping[str, Value], tensors: Sequence[TensorInfo], architecture: str
) -> int:
    for tensor in tensors:
        if tensor.name == "token_embd.weight":
            return tensor.n_rows
    tokens = metadata.get("tokenizer.ggml.tokens")
    if tokens is not None and not isinstance(tokens.value, int | float):
        return len(tokens.value)
    return _count(metadata, f"{architecture}.vocab_size")


def _text(metadata: Mapping[str, Value], key: str) -> str:
    """A text that can be shown: bytes that are no UTF-8 become replacement characters."""
    value: Any = metadata[key].value if key in metadata else ""
    return value.encode("utf-8", "replace").decode("utf-8") if isinstance(value, str) else ""


def _count(metadata: Mapping[str, Value], key: str) -> int:
    value: Any = metadata[key].value if key in metadata else 0
    return value if type(value) is int and value > 0 else 0
