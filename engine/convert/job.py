"""The job that writes a checkpoint as a GGUF in F32, F16 or BF16."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec

from engine.errors import EngineError
from engine.jobs import Job, Progress, Step

if TYPE_CHECKING:
    from engine.model_writer import Plan
    from engine.source import ModelSource


class Converted(msgspec.Struct, frozen=True):
    """What was written."""

    path: str
    size_bytes: int
    n_tensors: int
    type: str


class Convert(Job, frozen=True):
    """Convert the folder `checkpoint` to the GGUF `out`; `type` is f32, f16 or bf16."""

    Result: ClassVar = Converted

    checkpoint: str
    out: str
    # On the wire "type" is the tag that says which job this is.
    type: str = msgspec.field(default="f16", name="float_type")
    overwrite: bool = False

    def run(self) -> Generator[Step, None, Converted]:
        from engine.convert.view import CheckpointView
        from engine.model_writer import write_model
        from engine.source import refuse_to_replace

        if self.type.lower() not in ("f32", "f16", "bf16"):
            raise EngineError(
                f"A checkpoint cannot be converted to {self.type}.",
                hint="Choose f32, f16 or bf16, or shrink the model instead.",
            )
        yield Progress("Reading the checkpoint", 0, None, "steps")
        refuse_to_replace(Path(self.checkpoint), Path(self.out))
        source = CheckpointView.open(self.checkpoint)
        try:
            to_do = plan(source, self.type.upper())
            yield from write_model(source, to_do, self.out, "Converting", overwrite=self.overwrite)
        finally:
            source.close()
        return Converted(self.out, to_do.size_bytes, len(to_do.tensors), self.type.upper())


def plan(source: ModelSource, float_type: str) -> Plan:
    """Lay out `source` in one float type; vectors are F32 always, as llama.cpp computes with them.

    NaN and infinity stay what they are.
    """
    from engine.ggml_types import FileType, GgmlType
    from engine.gguf_values import Value
    from engine.model_writer import Plan

    tensors = tuple(
        msgspec.structs.replace(
            tensor, type=GgmlType[float_type] if len(tensor.shape) > 1 else GgmlType.F32
        )
        for tensor in source.tensors
    )
    metadata = {**source.metadata, "general.file_type": Value.u32(FileType[float_type])}
    return Plan(metadata, tensors, tuple(source.tensors), only_finite=False)
