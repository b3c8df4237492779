"""What a shrunk file will hold, known beforehand: the metadata, order and types of llama-quantize.

Knows recipes only as the types they give.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.errors import UnsupportedTensor
from engine.ggml_types import FileType, GgmlType
from engine.gguf_values import TensorInfo, Value
from engine.model_writer import Plan
from engine.quantize.recipe import Recipe, tensor_types
from engine.splits import SPLIT_KEYS

if TYPE_CHECKING:
    from engine.source import ModelSource

QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION


def plan(source: ModelSource, recipe: Recipe) -> Plan:
    """Lay out the file that `recipe` makes of `source`; its size is exact.

    What is packed already and no larger keeps its bits. Raises UnsupportedTensor for a source whose
    quantized tensors cannot be decoded without loss.
    """
    types = tensor_types(recipe, source.tensors, source.metadata)
    return plan_types(source, types, recipe.file_type)


def plan_types(source: ModelSource, wanted: Mapping[str, GgmlType], file_type: FileType) -> Plan:
    """Lay out the file with the tensors of `wanted`, in that order; as `plan` does."""
    require_decodable(source)
    types = dict(wanted)
    for tensor in source.tensors:
        if tensor.type.is_quantized and _is_no_larger(tensor, types[tensor.name]):
            types[tensor.name] = tensor.type
        elif tensor.type is GgmlType.NVFP4:  # its factors are in the decoded numbers
            types.pop(tensor.name.removesuffix("weight") + "scale", None)
    by_name = {tensor.name: tensor for tensor in source.tensors}
    sources = tuple(by_name[name] for name in types)
    tensors = tuple(TensorInfo(tensor.name, tensor.shape, types[tensor.name]) for tensor in sources)
    stamps = {
        "general.quantization_version": Value.u32(QUANTIZATION_VERSION),
        "general.file_type": Value.u32(file_type),
    }
    dropped = (*SPLIT_KEYS, *stamps)
    metadata = {key: value for key, value in source.metadata.items() if key not in dropped}
    metadata |= stamps
    return Plan(metadata, tensors, sources, only_finite=True)


def _is_no_larger(tensor: TensorInfo, target: GgmlType) -> bool:
    return tensor.row_bytes <= target.row_bytes(tensor.n_cols)


def require_decodable(source: ModelSource) -> None:
    """Raise UnsupportedTensor for a source whose quantized tensors cannot be decoded."""
    for tensor in source.tensors:
        if tensor.type.is_quantized and not source.can_decode:
            raise UnsupportedTensor(
                "This model is quantized already; shrinking it again loses more than it saves.",
                hint="Start from the original checkpoint, or from an F16, BF16 or F32 file.",
                details=f"{tensor.name} is {tensor.type.name}",
            )
