"""A checkpoint's tensors as adapters change them; nothing is written, rows are computed on demand.

The sum is F32 and is not rounded to the checkpoint's type: whoever converts or shrinks rounds once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.convert.config import Config
from engine.convert.lora.adapter import Adapter, LowRank
from engine.convert.lora.choice import Lora
from engine.convert.lora.refusals import no_place, wrong_shape
from engine.convert.multimodal import text_config, text_weights
from engine.convert.transformer import EMBEDDING, OUTPUT
from engine.convert.weights import Weight
from engine.errors import EngineError, UnsupportedArchitecture, UnsupportedTensor
from engine.ggml_types import GgmlType

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CHUNK_ELEMENTS = 1 << 20
# llama.cpp has one matrix for both ends of these, whatever the file holds.
ALWAYS_TIED = ("cohere2", "command-r", "gemma", "gemma2")


class Scaled(NamedTuple):
    """An open adapter and how strongly it counts."""

    adapter: Adapter
    scale: float


def open_adapters(loras: Sequence[Lora]) -> tuple[Scaled, ...]:
    """Raises what Adapter.open raises, and EngineError for a strength that is no number."""
    for lora in loras:
        if not math.isfinite(lora.scale):
            raise EngineError("The strength of an adapter has to be a number.")
    return tuple(Scaled(Adapter.open(Path(lora.folder)), lora.scale) for lora in loras)


class Adapted:
    """A matrix with what an adapter adds to it; a `Weight`."""

    type = GgmlType.F32
    factors = ()

    def __init__(self, base: Weight, low_rank: LowRank, scale: float) -> None:
        self.name, self.shape = base.name, base.shape
        self._base, self._low_rank = base, low_rank
        self._scale = scale * low_rank.scale

    def rows(self, start: int, stop: int) -> NDArray[np.float32]:
        import numpy as np

        with np.errstate(over="ignore", invalid="ignore"):  # whoever writes looks for infinity
            return self._summed(start, stop)

    def _summed(self, start: int, stop: int) -> NDArray[np.float32]:
        import numpy as np

        summed: NDArray[np.float32] = self._low_rank.left(start, stop) @ self._low_rank.right()
        summed *= np.float32(self._scale)
        summed += self._base.rows(start, stop)
        if self._low_rank.magnitude is None:
            return summed
        lengths = np.sqrt(np.square(summed).sum(axis=1))
        wanted = self._low_rank.magnitude.rows(0, 1)[0, start:stop]
        factors = np.divide(wanted, lengths, out=np.zeros_like(lengths), where=lengths > 0)
        summed *= factors[:, None]
        return summed

    def raw(self, start: int, stop: int) -> NDArray[np.uint8]:
        import numpy as np

        return self.rows(start, stop).view(np.uint8)


def merge(
    config: Mapping[str, Any],
    weights: Mapping[str, Weight],
    adapters: Sequence[Scaled],
    architecture: str,
) -> tuple[Mapping[str, Any], Mapping[str, Weight]]:
    """The config and the tensors of the text model, as `adapters` change its `weights`.

    Raises UnsupportedTensor for what has no place in the model, or cannot be added up; CorruptFile
    for another shape; UnsupportedArchitecture where llama.cpp could not run the result.
    """
    ends = _Ends(config, weights, adapters)
    bases = {**weights, **ends.shared}
    merged = dict(bases)
    n_changes = Counter(name for a in adapters for name in _changed(config, a.adapter))
    for adapter, scale in adapters:
        if adapter.config.invocation:
            raise UnsupportedTensor(
                f"{adapter.name} counts from certain tokens on, so it cannot be merged.",
                hint="Turn it into a GGUF adapter instead.",
            )
        for name, whole in text_weights(config, adapter.whole).items():
            _require_base(adapter, name, whole.shape, bases, can_grow=name in (EMBEDDING, OUTPUT))
            if not are_same(whole, bases[name]):
                _require_alone(adapter, name, n_changes[name], scale)
                merged[name] = whole
        for name, low_rank in text_weights(config, adapter.low_rank).items():
            _require_base(adapter, name, low_rank.shape, merged)
            if low_rank.magnitude is not None:
                _require_alone(adapter, name, n_changes[name], scale)
            merged[name] = Adapted(merged[name], low_rank, scale)
    return ends.settle(merged, architecture), merged


class _Ends:
    """Embedding and output of a model in which one matrix may be both.

    An adapter may change one of them, or each in its way: then there are two matrices.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        weights: Mapping[str, Weight],
        adapters: Sequence[Scaled],
    ) -> None:
        self._config = text_config(config)
        stored = [weights[name] for name in (EMBEDDING, OUTPUT) if name in weights]
        is_tied = Config(self._config).flag("tie_word_embeddings", len(stored) == 1)
        changed = {name for a in adapters for name in _changed(config, a.adapter)}
        self.shared: dict[str, Weight] = {}
        if stored and is_tied and changed & {EMBEDDING, OUTPUT}:
            self.shared = dict.fromkeys((EMBEDDING, OUTPUT), stored[0])

    def settle(self, merged: dict[str, Weight], architecture: str) -> Mapping[str, Any]:
        """Leave one matrix in `merged` where it still serves both; the config that says so."""
        if not self.shared:
            return self._config
        if are_same(merged[EMBEDDING], merged[OUTPUT]):
            del merged[OUTPUT]
            return self._config
        if architecture in ALWAYS_TIED:
            raise UnsupportedArchitecture(
                "The adapter makes two matrices of one, for the embedding and for the output;"
                f" llama.cpp runs {architecture} with one only.",
                hint="Train the adapter without embed_tokens and lm_head.",
            )
        return {**self._config, "tie_word_embeddings": False}


def _changed(config: Mapping[str, Any], adapter: Adapter) -> set[str]:
    return {*text_weights(config, adapter.whole), *text_weights(config, adapter.low_rank)}


def are_same(a: Weight, b: Weight) -> bool:
    """Whether two tensors hold the same numbers."""
    import numpy as np

    if a is b or a.shape != b.shape:
        return a is b
    n_rows, n_cols = math.prod(a.shape[:-1]), a.shape[-1] if a.shape else 1
    step = max(1, CHUNK_ELEMENTS // max(1, n_cols))
    return all(
        np.array_equal(a.rows(start, stop), b.rows(start, stop))
        for start in range(0, n_rows, step)
        if (stop := min(n_rows, start + step))
    )


def _require_base(
    adapter: Adapter,
    name: str,
    shape: tuple[int, ...],
    bases: Mapping[str, Weight],
    *,
    can_grow: bool = False,
) -> None:
    """There has to be a tensor of that shape; one that `can_grow` may have got further rows."""
    if name not in bases:
        raise no_place(adapter, name)
    expected = bases[name].shape
    if shape != expected and not (can_grow and shape[1:] == expected[1:] != ()):
        raise wrong_shape(adapter, name, shape, expected)


def _require_alone(adapter: Adapter, name: str, n_changes: int, scale: float) -> None:
    """What is replaced, and a DoRA, can neither be weakened nor added to another adapter."""
    if n_changes > 1:
        raise UnsupportedTensor(
            f"{adapter.name} replaces {name[:80]}, which another adapter changes too.",
            hint="Merge one of them only.",
        )
    if scale != 1:
        raise UnsupportedTensor(
            f"{adapter.name} replaces {name[:80]}: it counts as a whole, and not by {scale:g}.",
            hint="Merge it with the strength 1.",
        )
