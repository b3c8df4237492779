"""How many bytes a shrunk model may take, and how many of them its choosable tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from engine.errors import TooSmall
from engine.ggml_types import FileType, GgmlType
from engine.gguf_header import DEFAULT_ALIGNMENT, aligned
from engine.gguf_values import TensorInfo
from engine.model_writer import Plan
from engine.quantize.allocate import Item, allocate, smallest_bytes
from engine.quantize.plan import plan_types
from engine.quantize.recipe import in_file_order, is_quantizable
from engine.words import format_bytes

if TYPE_CHECKING:
    from engine.source import ModelSource

# What a file is called by the type that most of its numbers have.
_FILE_TYPES = {
    GgmlType.Q2_K: FileType.Q2_K,
    GgmlType.Q3_K: FileType.Q3_K_M,
    GgmlType.Q4_K: FileType.Q4_K_M,
    GgmlType.Q5_K: FileType.Q5_K_M,
    GgmlType.MXFP4: FileType.MXFP4_MOE,
}


class Budget(msgspec.Struct, frozen=True):
    """At most `size_bytes` for the whole file; or `bits_per_weight` over all of its tensors."""

    size_bytes: int = 0
    bits_per_weight: float = 0.0

    def of_file(self, plan: Plan) -> int:
        """The bytes that a file laid out as `plan` may take, whatever types its tensors have."""
        if self.size_bytes:
            return self.size_bytes
        n_elements = sum(tensor.n_elements for tensor in plan.tensors)
        header_bytes = plan.size_bytes - sum(tensor.n_bytes for tensor in plan.tensors)
        return header_bytes + int(self.bits_per_weight * n_elements / 8)


def choosable(source: ModelSource) -> list[TensorInfo]:
    """The tensors that can be rounded and are not yet, in the order of a file."""
    architecture = str(source.metadata["general.architecture"].value)
    return [
        tensor
        for tensor in in_file_order(source.tensors)
        if is_quantizable(tensor, architecture) and not tensor.type.is_quantized
    ]


def is_table(tensor: TensorInfo, source: ModelSource) -> bool:
    """Whether rows of `tensor` are only looked up: nothing is multiplied with it."""
    if tensor.name == "token_embd.weight":
        return any(other.name == "output.weight" for other in source.tensors)
    return tensor.name == "per_layer_token_embd.weight"


def padded_bytes(tensor: TensorInfo, stored: GgmlType) -> int:
    """What `tensor` takes in the file when it has the type `stored`."""
    return aligned(msgspec.structs.replace(tensor, type=stored).n_bytes, DEFAULT_ALIGNMENT)


def least_plan(source: ModelSource, items: Sequence[Item], budget: Budget) -> tuple[Plan, int]:
    """The smallest file that `items` allow, and how many bytes it may take.

    Only the bytes of the choices count. Raises TooSmall if these are not enough.
    """
    narrow = {i.name: min(i.choices, key=lambda c: (c.n_bytes, c.cost)).type for i in items}
    least = _laid_out(source, narrow)
    allowed = budget.of_file(least)
    if allowed < least.size_bytes:
        raise TooSmall(
            f"This model cannot be made as small as {format_bytes(allowed)}: the least is"
            f" {format_bytes(least.size_bytes)}.",
            hint="Allow a larger file, or choose a smaller model.",
            details=f"at least {least.size_bytes} bytes",
        )
    return least, allowed


def plan_within(source: ModelSource, items: Sequence[Item], budget: Budget) -> tuple[Plan, float]:
    """Choose the types of `items` so that the file costs least within `budget`, and lay it out.

    Returns the cost too. The bytes of a choice are those of `padded_bytes`: a larger alignment of
    the source is not kept. Raises TooSmall if nothing is as small as that.
    """
    least, allowed = least_plan(source, items, budget)
    chosen = allocate(items, allowed - (least.size_bytes - smallest_bytes(items)))
    assert chosen is not None  # else not even the least would fit
    types = {name: choice.type for name, choice in chosen.items()}
    plan = _laid_out(source, types)
    if plan.size_bytes > allowed:  # we counted wrong: never write what was not asked for
        raise AssertionError(f"{plan.size_bytes:,} bytes were planned, not {allowed:,}")
    return plan, sum(choice.cost for choice in chosen.values())


def _laid_out(source: ModelSource, types: Mapping[str, GgmlType]) -> Plan:
    ordered = in_file_order(source.tensors)
    wanted = {tensor.name: types.get(tensor.name, tensor.type) for tensor in ordered}
    of_all: dict[GgmlType, int] = {}
    for tensor in ordered:
        stored = wanted[tensor.name]
        of_all[stored] = of_all.get(stored, 0) + tensor.n_elements
    most = max(of_all, key=lambda stored: of_all[stored])
    plan = plan_types(source, wanted, _FILE_TYPES.get(most) or FileType[most.name])
    metadata = {key: value for key, value in plan.metadata.items() if key != "general.alignment"}
    return msgspec.structs.replace(plan, metadata=metadata)
