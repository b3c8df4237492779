"""The job that writes an adapter as a GGUF of its own, which llama.cpp loads beside its base model.

Source: llama.cpp convert_lora_to_gguf.py.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import msgspec

from engine.errors import EngineError
from engine.jobs import Job, Progress, Step

if TYPE_CHECKING:
    from engine.convert.lora.adapter import Adapter
    from engine.gguf_values import Value


class ConvertedAdapter(msgspec.Struct, frozen=True):
    """What was written, for a base model of `architecture`."""

    path: str
    size_bytes: int
    n_tensors: int
    type: str
    architecture: str


class ConvertAdapter(Job, frozen=True):
    """Convert the folder `adapter` to the GGUF adapter `out`; `type` is f32, f16 or bf16.

    `base` is the folder of its base model, of which config.json is enough. Raises UnsupportedTensor
    for what a GGUF adapter cannot hold, or llama.cpp would not count; and what reading the two and
    writing a file raise.
    """

    Result: ClassVar = ConvertedAdapter

    adapter: str
    base: str
    out: str
    # On the wire "type" is the tag that says which job this is.
    type: str = msgspec.field(default="f32", name="float_type")
    overwrite: bool = False

    def run(self) -> Generator[Step, None, ConvertedAdapter]:
        from engine.convert.lora.adapter import Adapter
        from engine.convert.lora.base import read_base
        from engine.convert.lora.pairs import common_alpha, find_pairs
        from engine.floats import from_float32
        from engine.ggml_types import GgmlType
        from engine.gguf import gguf_size_bytes, write_gguf
        from engine.gguf_values import TensorInfo
        from engine.source import refuse_to_replace

        if self.type.lower() not in ("f32", "f16", "bf16"):
            raise EngineError(
                f"An adapter cannot be converted to {self.type}.", hint="Choose f32, f16 or bf16."
            )
        target = GgmlType[self.type.upper()]
        yield Progress("Reading the adapter", 0, None, "steps")
        refuse_to_replace(Path(self.adapter), Path(self.out))
        adapter = Adapter.open(Path(self.adapter))
        try:
            base = read_base(Path(self.base), adapter)
            pairs = find_pairs(base, adapter)
            alpha = common_alpha(low for pair in pairs for low, _ in pair.matrices)
            infos = [
                TensorInfo(f"{pair.name}.lora_{ab}", tuple(reversed(shape)), target)
                for pair in pairs
                for ab, shape in zip("ab", pair.shapes, strict=True)
            ]
            metadata = adapter_metadata(adapter, base.architecture, alpha)
            with write_gguf(self.out, metadata, infos, overwrite=self.overwrite) as writer:
                for i, pair in enumerate(pairs):
                    for factor in pair.load(alpha):
                        writer.write(from_float32(factor, target).tobytes())
                    yield Progress("Converting", i + 1, len(pairs), "tensors")
        finally:
            adapter.close()
        size_bytes = gguf_size_bytes(metadata, infos)
        return ConvertedAdapter(self.out, size_bytes, len(infos), target.name, base.architecture)


def adapter_metadata(adapter: Adapter, architecture: str, alpha: float) -> dict[str, Value]:
    """The keys by which llama.cpp knows an adapter."""
    from engine.gguf_values import Value, ValueType

    metadata = {
        "general.architecture": Value.string(architecture),
        "general.type": Value.string("adapter"),
        "adapter.type": Value.string("lora"),
        "general.name": Value.string(adapter.name),
        "adapter.lora.alpha": Value.f32(alpha),
        "general.quantization_version": Value.u32(2),
    }
    if tokens := adapter.config.invocation:
        value = Value.array(ValueType.UINT32, tokens)
        metadata["adapter.alora.invocation_tokens"] = value
    return metadata
