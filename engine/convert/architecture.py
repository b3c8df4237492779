"""What an architecture declares: its keys in a GGUF, and how its tensors are put together.

A declaration says where every row of every tensor comes from; nothing here reads one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING

import msgspec

from engine.convert.config import Config
from engine.convert.options import NO_OPTIONS, VocabularyOptions
from engine.gguf_values import Value

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Shapes = Mapping[str, tuple[int, ...]]
"""Of a checkpoint's tensors by name, rows first."""


class Order(msgspec.Struct, frozen=True):
    """Another order of rows or columns: counted in an array of `shape`, read with its `axes` moved.

    `Order((n_heads, 2, half), (0, 2, 1))` interleaves the halves of each head.
    """

    shape: tuple[int, ...]
    axes: tuple[int, ...]

    def indices(self) -> NDArray[np.intp]:
        """Which one comes at each place, [n]."""
        import numpy as np

        return np.arange(prod(self.shape)).reshape(self.shape).transpose(self.axes).reshape(-1)


class Part(msgspec.Struct, frozen=True):
    """Rows of one tensor of the checkpoint.

    `names` are those it may have there, the first present is taken; `shape` is the whole one's.
    Rows are counted over all outer dimensions; where they make a vector they are its numbers.
    `rows` (None: all) are taken in `order`, then the columns `cols`; `is_transposed` swaps the two
    at last.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    rows: range | None = None
    order: Order | None = None
    cols: range | Order | None = None
    is_transposed: bool = False

    def n_rows(self, *, of_vector: bool) -> int:
        """How many rows it gives."""
        if self.is_transposed:
            return len(self.cols) if isinstance(self.cols, range) else self.shape[-1]
        if self.rows is not None:
            return len(self.rows)
        return prod(self.shape if of_vector else self.shape[:-1])


class TensorRule(msgspec.Struct, frozen=True):
    """A tensor of the GGUF: its `parts` one below the other, in the `shape` with rows first.

    `change` is what becomes of its numbers (float32, any shape), row by row; the result is F32.
    """

    name: str
    shape: tuple[int, ...]
    parts: tuple[Part, ...]
    change: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None
    is_required: bool = True


class MadeTensor(msgspec.Struct, frozen=True):
    """A vector of F32 that the checkpoint does not hold: it is computed from the config."""

    name: str
    n_cols: int
    values: Callable[[], NDArray[np.float32]]


class Declared(msgspec.Struct, frozen=True):
    """What an architecture says of one checkpoint.

    `keys` go without the architecture's name in front. `rules` are made as they are asked for,
    once: a config may promise more layers than there are tensors. `ignored` are regular
    expressions; a stored tensor whose whole name matches one may be left out, every other one has
    to have its place.
    """

    keys: dict[str, Value]
    rules: Iterator[TensorRule]
    made: tuple[MadeTensor, ...] = ()
    ignored: tuple[str, ...] = ()


class Architecture(msgspec.Struct, frozen=True):
    """An architecture by llama.cpp's `name`.

    `hf_names` are its names in "architectures" of config.json; `model_types` stand in where there
    are none. `declare` raises CorruptFile for a damaged config, and UnsupportedArchitecture for
    what llama.cpp would run differently. `vocabulary` is what its tokenizer files do not say.
    """

    name: str
    hf_names: tuple[str, ...]
    model_types: tuple[str, ...]
    declare: Callable[[Config, Shapes], Declared]
    vocabulary: VocabularyOptions = NO_OPTIONS
