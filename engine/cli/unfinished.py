"""The shrink that a command goes on with: one of the same model that was broken off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from engine.convert.lora.choice import Lora
from engine.errors import EngineError
from engine.quantize.shrink_to_size import ShrinkToSize

# What is chosen for this computer, and what changes no byte.
_FREE = ("source", "out", "recipe", "n_threads", "overwrite")


def unfinished_to_size(
    source: Path, out: Path | None, loras: Sequence[Lora], asked: ShrinkToSize
) -> ShrinkToSize | None:
    """The newest unfinished shrink of `source` to `out` (None: beside it) that fits a computer.

    Its settings are its own; but those in `asked` that are not the default have to be the same.
    One whose model or texts have changed since is none.
    """
    from engine.quantize.workbench import WORK, folder_of

    if out:
        folders = [folder_of(out)]
    else:
        folders = [path for path in source.parent.glob(f"{WORK}*") if path.is_dir()]
    found = [left for folder in folders if (left := _left(folder, source, loras, asked))]
    return max(found, key=lambda one: one[0])[1] if found else None


def _left(
    folder: Path, source: Path, loras: Sequence[Lora], asked: ShrinkToSize
) -> tuple[float, ShrinkToSize] | None:
    """The job that left `folder`, and when it was begun."""
    from engine.quantize.workbench import NOTE, is_busy, out_of, read_key, read_note
    from engine.source import source_marks

    note, out = read_note(folder), out_of(folder)
    job = note and note.read_job(ShrinkToSize)
    if not (job and out and job.recipe and _is_asked_for(job, asked)) or job.keeps_types:
        return None
    job = job.placed(str(source), str(out))
    try:
        marks = source_marks(source, loras)
        if is_busy(folder) or read_key(folder) != job.key(marks):
            return None
        return (folder / NOTE).stat().st_mtime, job
    except (OSError, EngineError):  # a text that is gone
        return None


def _is_asked_for(job: ShrinkToSize, asked: ShrinkToSize) -> bool:
    given, usual = map(msgspec.structs.asdict, (asked, ShrinkToSize("", "")))
    kept = msgspec.structs.asdict(job)
    return job.loras == asked.loras and all(
        given[name] in (kept[name], usual[name]) for name in given if name not in _FREE
    )
