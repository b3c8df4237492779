"""What an architecture has to declare to be converted: its hyperparameters and its tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from engine.convert.config import Config
from engine.gguf_values import Value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class TensorRule(msgspec.Struct, frozen=True):
    """How one tensor of a checkpoint becomes one of the GGUF.

    `sources` are the names it may have in the checkpoint, the first present is taken; `shape` is
    with rows first. `n_heads`, if not 0, says that its rows are rotary halves to be interleaved
    head by head (`interleaved_rows`).
    """

    name: str
    sources: tuple[str, ...]
    shape: tuple[int, ...]
    n_heads: int = 0
    is_required: bool = True


class MadeTensor(msgspec.Struct, frozen=True):
    """A small F32 tensor that the checkpoint does not hold: it is computed from the config."""

    name: str
    n_cols: int
    values: Callable[[], NDArray[np.float32]]


class Architecture(msgspec.Struct, frozen=True):
    """The declaration of an architecture.

    `hf_names` are its names in "architectures"; `model_types` stand in where there are none.
    `read(config, shapes)` checks the config (shapes: of the stored tensors, by name) and returns
    the hyperparameters that the other functions are given.
    """

    name: str
    hf_names: tuple[str, ...]
    model_types: tuple[str, ...]
    read: Callable[[Config, Mapping[str, tuple[int, ...]]], Any]
    metadata: Callable[[Any], dict[str, Value]]
    tensors: Callable[[Any], Iterable[TensorRule]]
    made_tensors: Callable[[Any], Iterable[MadeTensor]]
    is_ignored: Callable[[str, Any], bool]


def interleaved_rows(n_rows: int, n_heads: int) -> NDArray[np.intp]:
    """The source row of each row of a q or k projection, [n_rows].

    Hugging Face rotates the first half of a head against its second half, llama.cpp's "norm" rope
    rotates neighbours: row 2i of a head is its row i, row 2i + 1 its row i + head_dim / 2.
    Source: llama.cpp conversion/llama.py, permute.
    """
    import numpy as np

    order = np.arange(n_rows).reshape(n_heads, 2, n_rows // n_heads // 2)
    return order.swapaxes(1, 2).reshape(n_rows)
