"""What became of a model and how good it still is: kept as JSON beside it, and told as text.

The file is `model.quality.json` for `model.gguf`. It may have been written by anyone, and the model
may have been replaced since.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from engine.files import read_error, replace_bytes
from engine.quantize.figures import QualityReport
from engine.quantize.gate import Failure, Gate
from engine.splits import model_stem
from engine.words import format_bytes, format_duration, shown

log = logging.getLogger(__name__)

SUFFIX = ".quality.json"
MAX_BYTES = 8 << 20
"""A model of 2,000 tensors takes 300 kB; what is far larger was not written by Snug."""
OURS, STOCK_PREFIX = "ours", "stock "
"""What results are called: ours, and larger ones of ours; and before the name of a recipe."""
_VERSION = 2
_N_STRETCHES, _STRETCH_BYTES = 64, 4096


class TensorLine(msgspec.Struct, frozen=True):
    """A tensor of the result: its type, and how it was rounded.

    `error` is the squared error of its outputs by their energy, on held-out inputs, None where it
    was not measured; `rounding` says which way was kept, such as "feedback in 87 % of rows", "as
    llama-quantize" or "as it was".
    """

    name: str
    type: str
    size_bytes: int
    error: float | None = None
    rounding: str = ""


class Stage(msgspec.Struct, frozen=True):
    """A step of the work and how long it took, in all sessions together."""

    name: str
    seconds: float


class Candidate(msgspec.Struct, frozen=True):
    """A result that was measured on the way, and what it was: "ours", "stock Q4_K_M"."""

    name: str
    size_bytes: int
    quality: QualityReport


class ShrinkReport(msgspec.Struct, frozen=True):
    """Everything about one shrunk model; sizes in bytes of whole files.

    `quality` is None where it was not judged. `others` are results that were measured and not kept.
    `settings` are what was asked for, `versions` those of Snug and llama.cpp, `notes` sentences
    about what was decided. `fingerprint` is that of the model's file.
    """

    model: str
    size_bytes: int
    source: str
    source_bytes: int
    recipe: str
    bits_per_weight: float
    quality: QualityReport | None = None
    others: tuple[Candidate, ...] = ()
    gate: Gate | None = None
    failures: tuple[Failure, ...] = ()
    tensors: tuple[TensorLine, ...] = ()
    settings: dict[str, str] = {}
    stages: tuple[Stage, ...] = ()
    versions: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    fingerprint: str = ""
    version: int = _VERSION


def report_path(model: Path) -> Path:
    """Where the report on the GGUF `model` lies; of a split one the parts share it."""
    return model.with_name(model_stem(model) + SUFFIX)


def write_report(report: ShrinkReport, model: Path) -> None:
    """Put `report` beside the file `model`; raises what reading and writing a file raise."""
    try:
        report = msgspec.structs.replace(report, fingerprint=_fingerprint(model))
    except OSError as error:
        raise read_error(error, model) from error
    data = msgspec.json.encode(report)
    replace_bytes(report_path(model), msgspec.json.format(data, indent=1))


def read_report(model: Path) -> ShrinkReport | None:
    """The report on the file `model`; None if there is none, or it is about another file.

    A damaged or foreign report counts as none.
    """
    path = report_path(model)
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return None
        report = msgspec.json.decode(path.read_bytes(), type=ShrinkReport)
        is_about_it = report.version == _VERSION and report.fingerprint == _fingerprint(model)
    except (OSError, ValueError, msgspec.DecodeError, RecursionError) as error:
        log.warning("a quality report is not used: %s", error)
        return None
    return report if is_about_it else None


def forget_report(model: Path) -> None:
    """Remove the report on a file that `model` has replaced; one that stays is not read either."""
    with contextlib.suppress(OSError):
        report_path(model).unlink(missing_ok=True)


def _fingerprint(model: Path) -> str:
    """The SHA-256 of the file's size and of stretches of it, the first and the last among them.

    Enough to tell files apart that were made in different ways, and as quick for a large one.
    """
    with model.open("rb") as file:
        size_bytes = file.seek(0, os.SEEK_END)
        digest = hashlib.sha256(str(size_bytes).encode())
        for number in range(_N_STRETCHES):
            file.seek(max(0, size_bytes - _STRETCH_BYTES) * number // (_N_STRETCHES - 1))
            digest.update(file.read(_STRETCH_BYTES))
    return digest.hexdigest()


def as_text(report: ShrinkReport) -> str:
    """The whole report as plain text, for a terminal or a file."""
    sizes = [
        ("result", report.model, f"{report.size_bytes:,} bytes"),
        ("source", report.source, f"{report.source_bytes:,} bytes"),
        ("recipe", report.recipe, f"{report.bits_per_weight:.3f} bits per weight"),
    ]
    parts = [("", _table((), sizes)), ("", "\n".join(report.notes))]
    if report.quality:
        parts.append(("Quality, against the source", quality_text(report.quality)))
    parts.append(("Not reached", "\n".join(failure.words for failure in report.failures)))
    others = [(other.name, other.size_bytes, other.quality) for other in report.others]
    parts.append(("Also measured", comparison(others)))
    parts.append(("Tensors", _tensors(report.tensors)))
    parts.append(("Settings", _table((), list(report.settings.items()))))
    times = [(stage.name, format_duration(stage.seconds)) for stage in report.stages]
    parts.append(("Times", _table((), times)))
    parts.append(("Versions", _table((), list(report.versions.items()))))
    return shown("\n\n".join("\n".join(filter(None, part)) for part in parts if part[1]))


def quality_text(quality: QualityReport) -> str:
    """The figures of one comparison, one a line."""
    q = quality
    source = f"{q.perplexity_reference:.6f} ± {q.perplexity_reference_error:.6f}"
    lines = [
        ("mean KLD", f"{q.kld_mean:.6f} ± {q.kld_mean_error:.6f}", q.verdict),
        ("median KLD", f"{q.kld_median:.6f}", ""),
        ("99 % KLD", f"{q.kld_p99:.6f}", ""),
        ("99.9 % KLD", f"{q.kld_p999:.6f}", ""),
        ("maximum KLD", f"{q.kld_max:.6f}", ""),
        ("same top token", f"{q.same_top_fraction:.3%} ± {q.same_top_error:.3%}", ""),
        ("perplexity", f"{q.perplexity:.6f} ± {q.perplexity_error:.6f}", ""),
        ("  of the source", source, ""),
        ("  ratio", f"{q.perplexity_ratio:.6f} ± {q.perplexity_ratio_error:.6f}", ""),
        ("tokens", f"{q.n_tokens:,}", ""),
        ("KV cache", q.kv_type, ""),
    ]
    if probes := q.probes:
        lost = f"lost: {', '.join(probes.lost)}" if probes.lost else ""
        lines.append(("probes kept", f"{probes.n_kept} of {probes.n_passed}", lost))
        for kind in probes.kinds:
            kept = f"{kind.n_kept} of {kind.n_passed}"
            lines.append((f"  {kind.kind}", kept, f"{kind.n_asked} asked"))
        lines.append(("  same answer", f"{probes.n_identical} of {probes.n_asked}", ""))
    return _table((), lines)


def comparison(rows: Sequence[tuple[str, int, QualityReport]]) -> str:
    """A table of results, one a line: name, size in bytes, figures. Nothing if there is none."""
    head = ("", "size", "mean KLD", "99.9 % KLD", "same top", "perplexity")
    lines = [
        (
            name,
            format_bytes(size_bytes),
            f"{quality.kld_mean:.6f}",
            f"{quality.kld_p999:.6f}",
            f"{quality.same_top_fraction:.3%}",
            f"{quality.perplexity:.6f}",
        )
        for name, size_bytes, quality in rows
    ]
    return _table(head, lines)


def _tensors(tensors: Sequence[TensorLine]) -> str:
    lines = [(t.name, t.type, f"{t.size_bytes:,}", _optional(t.error), t.rounding) for t in tensors]
    return _table(("tensor", "type", "bytes", "error", "rounding"), lines)


def _optional(value: float | None) -> str:
    return "" if value is None else f"{value:.3e}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Columns as wide as they need to be; nothing without rows."""
    if not rows:
        return ""
    lines = [head, *rows] if head else rows
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
