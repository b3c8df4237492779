"""The job that writes a checkpoint as a GGUF in F32, F16 or BF16, a few megabytes at a time."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec

from engine.errors import EngineError, UnsupportedTensor
from engine.jobs import Job, Progress, Step

if TYPE_CHECKING:
    from engine.convert.view import CheckpointView
    from engine.ggml_types import GgmlType
    from engine.gguf_values import TensorInfo

CHUNK_ELEMENTS = 1 << 20


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
        from engine.ggml_types import FileType, GgmlType
        from engine.gguf import write_gguf
        from engine.gguf_values import Value
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
            target = GgmlType[self.type.upper()]
            tensors = [
                msgspec.structs.replace(t, type=target if len(t.shape) > 1 else GgmlType.F32)
                for t in source.tensors
            ]
            metadata = dict(source.metadata)
            metadata["general.file_type"] = Value.u32(FileType[target.name])
            n_done, n_total = 0, sum(t.n_bytes for t in tensors)
            with write_gguf(self.out, metadata, tensors, overwrite=self.overwrite) as writer:
                for stored, tensor in zip(source.tensors, tensors, strict=True):
                    n_rows = max(1, CHUNK_ELEMENTS // max(1, tensor.n_cols))
                    for start in range(0, tensor.n_rows, n_rows):
                        stop = min(start + n_rows, tensor.n_rows)
                        data = _encoded(source, stored, tensor.type, start, stop)
                        writer.write(data)
                        n_done += len(data)
                        yield Progress("Converting", n_done, n_total, "bytes")
        finally:
            source.close()
        return Converted(self.out, writer.size_bytes, len(tensors), target.name)


def _encoded(
    source: CheckpointView, tensor: TensorInfo, target: GgmlType, start: int, stop: int
) -> bytes | memoryview:
    """Rows of `tensor` in the `target` type; raises UnsupportedTensor when F16 cannot hold them."""
    import numpy as np

    from engine.floats import from_float32
    from engine.ggml_types import GgmlType

    if tensor.type is target:
        return source.raw(tensor, start, stop).tobytes()
    rows = source.rows(tensor, start, stop)
    encoded = from_float32(rows, target)
    if target is GgmlType.F16 and np.isinf(encoded).any() and not np.isinf(rows).any():
        raise UnsupportedTensor(
            f"{tensor.name} holds numbers that are too large for F16.",
            hint="Convert to BF16 or F32 instead.",
            details=f"largest: {float(np.abs(rows).max()):g}",
        )
    return encoded.tobytes()
