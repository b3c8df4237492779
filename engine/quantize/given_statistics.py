"""Statistics that a user gives to a shrink, of `snug-engine calibrate` or of llama-imatrix.

They have to fit by the names and shapes of its tensors. Ours tell by its norms of which model:
those of another one are taken, as of a near relative they are good, but that is said.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from engine.calibrate.statistics import Statistics
from engine.calibrate.vectors import digest_of
from engine.errors import CorruptFile, FormatError
from engine.gguf_values import TensorInfo
from engine.quantize.budget import choosable
from engine.quantize.matrices import n_matrices

if TYPE_CHECKING:
    from engine.source import ModelSource

HINT = "Give those of this model, or none: then it reads texts."


def open_given(path: str, source: ModelSource) -> Statistics:
    """Open the statistics at `path`, which are to be of `source`.

    Raises FormatError if they are of another model or no statistics at all, CorruptFile for
    figures that make no sense, NotFound, StorageError.
    """
    statistics = Statistics.open(path)
    try:
        _require_fit(Path(path).name, statistics, source)
    except BaseException:
        statistics.close()
        raise
    return statistics


def of_another(path: str, statistics: Statistics, source: ModelSource) -> str:
    """A sentence if the statistics given at `path` are known to be of another model, or ""."""
    if not statistics.model or statistics.model == digest_of(source):
        return ""
    return (
        f"{Path(path).name} was made of another model than this one, or of one that was trained "
        "further: with its own statistics it is likely to come out better."
    )


def told_of(path: str, statistics: Statistics, source: ModelSource) -> str:
    """Sentences on the statistics that were given at `path`, for the report."""
    texts = ", ".join(statistics.datasets)
    told = f"What flows into its matrices was not measured but taken from {Path(path).name}"
    told += f", made from {texts}." if texts else "."
    if not statistics.has_second_moments:
        told += " That is an importance matrix: all is rounded as llama-quantize does with it."
    other = of_another(path, statistics, source)
    return f"{told} {other}" if other else told


def _require_fit(name: str, statistics: Statistics, source: ModelSource) -> None:
    stored = {tensor.name: tensor for tensor in source.tensors}
    if not statistics.tensors:
        raise CorruptFile(f"{name} holds no statistics.", hint=HINT)
    for tensor in statistics.tensors:
        if tensor not in stored:
            raise _other(name, f"it tells of {tensor}, which this one does not have")
        found, here = statistics.require_sound(tensor), _shape(stored[tensor])
        if found != here:
            raise _other(name, f"the inputs of {tensor} are {_words(found)}, here {_words(here)}")
    untold = _layers(source) - set(map(_layer_of, statistics.tensors))
    if untold:
        raise _other(name, f"it tells nothing of layer {min(untold)}")


def _layers(source: ModelSource) -> set[int]:
    """The layers that compute what comes next: not those that guess tokens ahead."""
    architecture = source.metadata["general.architecture"].value
    ahead = source.metadata.get(f"{architecture}.nextn_predict_layers")
    layers = {_layer_of(tensor.name) for tensor in choosable(source)} - {-1}
    n_ahead = int(ahead.value) if ahead else 0
    return {layer for layer in layers if layer <= max(layers) - n_ahead}


def _layer_of(tensor: str) -> int:
    """-1 for a tensor of none."""
    found = re.match(r"blk\.(\d+)\.", tensor)
    return int(found[1]) if found else -1


def _shape(tensor: TensorInfo) -> tuple[int, int]:
    return n_matrices(tensor), tensor.n_cols


def _words(shape: tuple[int, int]) -> str:
    n, n_cols = shape
    return f"{n} times {n_cols} numbers" if n > 1 else f"{n_cols} numbers"


def _other(name: str, why: str) -> FormatError:
    return FormatError(f"{name} is of another model: {why}.", hint=HINT)
