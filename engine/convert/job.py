"""The job that writes a checkpoint as a GGUF without rounding more than asked."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec

from engine.convert.lora.choice import Lora
from engine.errors import EngineError
from engine.jobs import Job, Progress, Step

if TYPE_CHECKING:
    from engine.ggml_types import GgmlType
    from engine.gguf_values import TensorInfo
    from engine.model_writer import Plan
    from engine.source import ModelSource

TYPES = ("auto", "f32", "f16", "bf16")


class Converted(msgspec.Struct, frozen=True):
    """What was written."""

    path: str
    size_bytes: int
    n_tensors: int
    type: str


class Convert(Job, frozen=True):
    """Convert the folder `checkpoint`, with `loras` merged into it, to the GGUF `out`.

    `type` is f32, f16, bf16, or auto: 16 bits as they are stored, the others F16. What another
    quantizer has packed keeps its bits where a GGUF type can hold them, with auto also what was
    unpacked since: weights that all lie on the lattice of a GGUF type get that type. Paused or
    killed it leaves what it has, and the same job goes on from there.
    """

    Result: ClassVar = Converted
    can_resume: ClassVar = True

    checkpoint: str
    out: str
    # On the wire "type" is the tag that says which job this is.
    type: str = msgspec.field(default="auto", name="float_type")
    overwrite: bool = False
    loras: tuple[Lora, ...] = ()

    def run(self) -> Generator[Step, None, Converted]:
        from engine.convert.view import CheckpointView
        from engine.ggml_types import FileType
        from engine.model_writer import write_model
        from engine.partial import Note
        from engine.source import refuse_to_replace, source_marks

        if self.type.lower() not in TYPES:
            raise EngineError(
                f"A checkpoint cannot be converted to {self.type}.",
                hint="Choose auto, f32, f16 or bf16, or shrink the model instead.",
            )
        yield Progress("Reading the checkpoint", 0, None, "steps")
        for folder in (self.checkpoint, *(lora.folder for lora in self.loras)):
            refuse_to_replace(Path(folder), Path(self.out))
        marks = source_marks(Path(self.checkpoint), self.loras)
        source = CheckpointView.open(self.checkpoint, self.loras)
        try:
            if self.type.lower() == "auto":
                for n_bytes in source.find_lattices():
                    yield Progress("Looking for a lattice", n_bytes, None, "bytes")
            to_do = plan(source, self.type.upper())
            note = Note.of(self.placed(self.checkpoint, self.out), marks, to_do.size_bytes)
            yield from write_model(
                source, to_do, self.out, "Converting", overwrite=self.overwrite, note=note
            )
        finally:
            source.close()
        file_type = FileType(to_do.metadata["general.file_type"].value).name
        return Converted(self.out, to_do.size_bytes, len(to_do.tensors), file_type)

    def placed(self, source: str, out: str) -> Convert:
        """The same job for files that lie elsewhere by now."""
        source, out = str(Path(source).absolute()), str(Path(out).absolute())
        return msgspec.structs.replace(self, checkpoint=source, out=out)


def plan(source: ModelSource, float_type: str) -> Plan:
    """Lay out `source` in `float_type`, as `Convert` has it; NaN and infinity stay what they are.

    Some tensors are F32 always, as llama.cpp computes with them.
    """
    from engine.convert.gather import is_always_f32
    from engine.ggml_types import GgmlType
    from engine.gguf_values import Value, mostly
    from engine.model_writer import Plan

    def target(tensor: TensorInfo) -> GgmlType:
        if tensor.type.is_quantized or is_always_f32(tensor.name, len(tensor.shape)):
            return tensor.type
        if float_type != "AUTO":
            return GgmlType[float_type]
        return GgmlType.F16 if tensor.type is GgmlType.F32 else tensor.type

    tensors = tuple(msgspec.structs.replace(t, type=target(t)) for t in source.tensors)
    matrices = [t for t in tensors if not is_always_f32(t.name, len(t.shape))]
    metadata = {**source.metadata, "general.file_type": Value.u32(mostly(matrices))}
    return Plan(metadata, tensors, tuple(source.tensors), only_finite=False)
