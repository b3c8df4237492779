"""A report for pictures: figures as they are for four bits, measured of nothing."""

from __future__ import annotations

from pathlib import Path

from engine.quantize.figures import QualityReport, verdict
from engine.quantize.report import ShrinkReport
from engine.quantize.shrink import Shrunk

QUALITY = QualityReport(
    kld_mean=0.0112,
    kld_mean_error=0.0004,
    kld_median=0.0046,
    kld_p99=0.112,
    kld_p999=0.413,
    kld_max=1.87,
    same_top_fraction=0.951,
    same_top_error=0.003,
    perplexity=8.94,
    perplexity_error=0.21,
    perplexity_reference=8.87,
    perplexity_reference_error=0.21,
    perplexity_ratio=1.0079,
    perplexity_ratio_error=0.002,
    n_tokens=4080,
    verdict=verdict(0.0112),
)


def report_on(result: Shrunk) -> ShrinkReport:
    return ShrinkReport(
        model=Path(result.path).name,
        size_bytes=result.size_bytes,
        source="Tiny-Stories-F16.gguf",
        source_bytes=result.source_bytes,
        recipe=result.recipe,
        bits_per_weight=result.bits_per_weight,
        quality=QUALITY,
    )
