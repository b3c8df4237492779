"""A model's header as a file of its own: all that llama.cpp needs to say what memory it would take.

The file is sparse: as long as the model, with nothing in it but the header. The vocabulary is left
out, since reading it takes longer than all the rest and it takes no part in the sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from engine.gguf import encode_header, gguf_size_bytes
from engine.gguf_values import TensorInfo, Value
from engine.scratch import scratch_folder
from engine.splits import SPLIT_KEYS


@contextmanager
def skeleton(metadata: Mapping[str, Value], tensors: Sequence[TensorInfo]) -> Iterator[Path]:
    """The path of a skeleton file, for as long as the block lasts; raises OSError."""
    kept = {
        key: value
        for key, value in metadata.items()
        if not key.startswith("tokenizer.") and key not in SPLIT_KEYS
    }
    kept["tokenizer.ggml.model"] = Value.string("no_vocab")
    architecture = metadata.get("general.architecture")
    n_vocab = _n_vocab(tensors)
    if architecture and 0 < n_vocab < 2**32:
        kept[f"{architecture.value}.vocab_size"] = Value.u32(n_vocab)
    header, _ = encode_header(kept, tensors)
    with scratch_folder() as folder:
        path = folder / "skeleton.gguf"
        with path.open("wb") as file:
            file.write(header)
            file.truncate(gguf_size_bytes(kept, tensors))
        yield path


def _n_vocab(tensors: Sequence[TensorInfo]) -> int:
    """The rows of the embedding, which are the tokens."""
    return next((t.n_rows for t in tensors if t.name == "token_embd.weight"), 0)
