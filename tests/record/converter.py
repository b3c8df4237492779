"""llama.cpp's own converter on one checkpoint, and what it wrote."""

from __future__ import annotations

import hashlib
import logging
import sys
from pathlib import Path
from typing import Any

from tests.helpers.upstream import FLOAT_TYPES, Written

# Longer arrays are recorded by their length and digest.
LONGEST_ARRAY = 64


def use_llama_cpp(folder: Path) -> None:
    """Make the converter in `folder` importable."""
    sys.path[:0] = [str(folder), str(folder / "gguf-py")]
    logging.disable(logging.CRITICAL)
    mend()


def mend() -> None:
    """What this version of the converter cannot convert for a slip of the pen.

    StableLM's norms of queries and keys are returned by a generator that should have yielded them.
    """
    from conversion.stablelm import StableLMModel

    broken = StableLMModel.modify_tensors

    def modify_tensors(self: Any, data: Any, name: str, bid: int | None) -> Any:
        stacked = yield from broken(self, data, name, bid)
        yield from stacked or ()

    StableLMModel.modify_tensors = modify_tensors


def convert(
    checkpoint: Path, out: Path, float_type: str, pre: str, options: tuple[str, ...] = ()
) -> None:
    """Run convert_hf_to_gguf.py; `pre` names the pre-tokenizer in place of its table of hashes."""
    import convert_hf_to_gguf
    from conversion.base import TextModel

    TextModel.get_vocab_base_pre = lambda _self, _tokenizer: pre
    arguments = [str(checkpoint), "--outfile", str(out), "--outtype", float_type, *options]
    before, sys.argv = sys.argv, ["convert_hf_to_gguf.py", *arguments]
    try:
        convert_hf_to_gguf.main()
    finally:
        sys.argv = before


def read_keys(path: Path) -> dict[str, tuple[str, Any]]:
    """The metadata of a GGUF, by llama.cpp's own reader; its file type is left out."""
    import gguf

    keys = {}
    for name, entry in gguf.GGUFReader(path).fields.items():
        if not name.startswith("GGUF.") and name != "general.file_type":
            keys[name] = (entry.types[0].name, _plain(entry))
    return keys


def read_file_type(path: Path) -> int:
    import gguf

    return int(gguf.GGUFReader(path).fields["general.file_type"].contents())


def read_tensors(paths: dict[str, Path]) -> dict[str, Written]:
    """The tensors of the same model in every float type."""
    import gguf

    readers = {float_type: gguf.GGUFReader(paths[float_type]) for float_type in FLOAT_TYPES}
    written = {}
    for tensor in readers["f32"].tensors:
        data = tuple(_digest(reader, tensor.name) for reader in readers.values())
        shape = tuple(int(n) for n in tensor.shape)
        written[tensor.name] = Written(shape, data if len(set(data)) > 1 else data[:1])
    assert all(len(reader.tensors) == len(written) for reader in readers.values())
    return written


def _digest(reader: Any, name: str) -> str:
    (tensor,) = (tensor for tensor in reader.tensors if tensor.name == name)
    digest = hashlib.sha256(tensor.data.tobytes()).hexdigest()[:16]
    return f"{tensor.tensor_type.name} {digest}"


def _plain(entry: Any) -> Any:
    """A value as it is; an array as [type, values], a long one as [type, length, digest]."""
    value = entry.contents()
    if not isinstance(value, list):
        return value
    item_type = entry.types[-1].name
    if len(value) <= LONGEST_ARRAY:
        return [item_type, value]
    digest = hashlib.sha256(b"".join(_item_bytes(entry, item_type))).hexdigest()[:16]
    return [item_type, len(value), digest]


def _item_bytes(entry: Any, item_type: str) -> list[bytes]:
    """The items as they stand in the file; a text is followed by a zero byte."""
    parts = [entry.parts[i].tobytes() for i in entry.data]
    return [part + b"\0" for part in parts] if item_type == "STRING" else parts
