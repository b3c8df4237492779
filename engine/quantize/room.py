"""What lies on the disk at once while a model is shrunk to a size, known before the work begins."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from engine.calibrate.inputs import Input
from engine.errors import DiskFull
from engine.files import as_write_error
from engine.gguf_values import TensorInfo
from engine.quantize.budget import choosable, is_table
from engine.quantize.gate import OFF
from engine.quantize.reading import plan_of
from engine.quantize.workbench import folder_of, size_on_disk
from engine.words import format_bytes

if TYPE_CHECKING:
    from engine.quantize.effort import Effort
    from engine.quantize.shrink_to_size import ShrinkToSize
    from engine.source import ModelSource

# Matrices of a layer that are multiplied with the same input, by their names.
_SHARED: Mapping[str, str] = MappingProxyType({
    "attn_q": "attn", "attn_k": "attn", "attn_v": "attn",
    "ffn_gate": "ffn", "ffn_up": "ffn", "ffn_gate_shexp": "ffn", "ffn_up_shexp": "ffn",
    "ffn_gate_exps": "exps", "ffn_up_exps": "exps",
})  # fmt: skip


def require_room(job: ShrinkToSize, source: ModelSource, effort: Effort) -> None:
    """Raise DiskFull if the disk of the output has not the room for all that `job` puts there.

    What an unfinished one has left counts as free: it is gone on from, or goes.
    """
    out = Path(job.out)
    bench = folder_of(out)
    parts = {
        "a copy of the model to read": _copies_bytes(job, source, effort),
        "statistics": 0 if job.statistics else statistics_bytes(source, effort.held_out),
        "results": _results_bytes(job, source),
    }
    with as_write_error(out):
        free = shutil.disk_usage(out.parent).free
        free += size_on_disk(bench) if bench.is_dir() else 0
    needed = sum(parts.values())
    if free < needed:
        words = ", ".join(f"{format_bytes(n)} for {what}" for what, n in parts.items() if n)
        raise DiskFull(
            f"There is not enough space to make {out.name}: up to {format_bytes(needed)} lie on the"
            f" disk meanwhile, and {format_bytes(free)} are free.",
            hint="Free some space, or choose a folder on another disk.",
            details=words,
        )


def statistics_bytes(source: ModelSource, n_held_out: int) -> int:
    """What the statistics of the inputs of all matrices take, or somewhat less."""
    inputs: dict[tuple[str, str, int], Input] = {}
    for tensor in choosable(source):
        if not is_table(tensor, source):
            one = _input_of(tensor)
            inputs.setdefault((*_place(tensor.name), one.n_cols), one)
    return sum(info.n_bytes for one in inputs.values() for info in one.layout(n_held_out))


def _input_of(tensor: TensorInfo) -> Input:
    n_matrices = tensor.shape[2] if len(tensor.shape) > 2 else 1
    return Input((tensor.name,), tensor.n_cols, n_matrices, rows_per_token=1)


def _place(tensor: str) -> tuple[str, str]:
    """The layer, and whose input it is: `blk.3` and `attn`."""
    *layer, name, _ = tensor.split(".") if tensor.count(".") else ("", tensor, "")
    return ".".join(layer), _SHARED.get(name, name)


def _copies_bytes(job: ShrinkToSize, source: ModelSource, effort: Effort) -> int:
    """What is read: copies of the model, and of what is found out of it for the second round."""
    whole = plan_of(source, is_compact=False).size_bytes if Path(job.source).is_dir() else 0
    if effort.correct_chunks:
        whole += 4 * sum(tensor.n_elements for tensor in source.tensors)
        whole += statistics_bytes(source, 0)
    return whole + (plan_of(source, is_compact=True).size_bytes if effort.reads_compact else 0)


def _results_bytes(job: ShrinkToSize, source: ModelSource) -> int:
    """The best version so far, and the next one: where one can fail."""
    can_fail = job.judges and job.gate != OFF
    whole = plan_of(source, is_compact=False)
    budget = job.budget(source).of_file(whole)
    largest = max(budget, job.most_bytes) if can_fail else budget
    return min(largest, whole.size_bytes) * (2 if can_fail else 1)
