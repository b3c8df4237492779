"""A quality report with something in each of its parts."""

from __future__ import annotations

import msgspec

from engine.quantize.figures import QualityReport
from engine.quantize.gate import Gate, check
from engine.quantize.probes.compare import KindResult, ProbesReport
from engine.quantize.report import Candidate, ShrinkReport, Stage, TensorLine

GOOD = QualityReport(
    kld_mean=0.02,
    kld_mean_error=0.001,
    kld_median=0.01,
    kld_p99=0.3,
    kld_p999=0.9,
    kld_max=2.5,
    same_top_fraction=0.93,
    same_top_error=0.002,
    perplexity=10.2,
    perplexity_error=0.1,
    perplexity_reference=10.0,
    perplexity_reference_error=0.1,
    perplexity_ratio=1.02,
    perplexity_ratio_error=0.002,
    n_tokens=5000,
    verdict="very close",
)
# One that fails a threshold and loses a probe.
JUDGED = msgspec.structs.replace(
    GOOD, kld_p999=2.5, probes=ProbesReport((KindResult("json", 8, 7, 6, 5),), ("json 3",))
)
REPORT = ShrinkReport(
    model="small.gguf",
    size_bytes=4_000_000,
    source="full.gguf",
    source_bytes=16_000_000,
    recipe="4.25 bits",
    bits_per_weight=4.2512,
    quality=JUDGED,
    others=(Candidate("stock Q4_K_M", 4_100_000, GOOD),),
    gate=Gate(),
    failures=check(JUDGED, Gate()),
    tensors=(
        TensorLine("blk.0.attn_q.weight", "Q4_K", 36_864, 0.00123, "feedback in 87 % of rows"),
        TensorLine("output_norm.weight", "F32", 1024),
    ),
    settings={"effort": "balanced"},
    stages=(Stage("Calibrate", 12.0),),
    versions={"snug": "0.1.0"},
    notes=("Ours is better than stock.",),
)
