"""How like the original a model is, in figures: from what both expect of each token.

The definitions, standard errors and percentiles are those of `llama-perplexity --kl-divergence`
(llama.cpp, tools/perplexity/perplexity.cpp).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from engine.errors import CorruptFile
from engine.fit.run import KvType
from engine.quantize.probes.compare import ProbesReport

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Mean KL divergence in nats, below which the words hold.
_VERDICTS = (
    (0.003, "practically identical"),
    (0.015, "nearly identical"),
    (0.05, "very close"),
    (0.15, "noticeably different"),
)
_WORST = "clearly worse"


class QualityReport(msgspec.Struct, frozen=True):
    """A model against its reference: KL divergences in nats over `n_tokens` predictions.

    Each `_error` is a standard error. `same_top_fraction` is how often both would choose the same
    next token; `perplexity_ratio` is the model's by the reference's. `kv_type` is the type of the
    model's KV cache, the reference's being F16; `probes` is None where none were asked.
    """

    kld_mean: float
    kld_mean_error: float
    kld_median: float
    kld_p99: float
    kld_p999: float
    kld_max: float
    same_top_fraction: float
    same_top_error: float
    perplexity: float
    perplexity_error: float
    perplexity_reference: float
    perplexity_reference_error: float
    perplexity_ratio: float
    perplexity_ratio_error: float
    n_tokens: int
    verdict: str
    kv_type: KvType = "f16"
    probes: ProbesReport | None = None


class Scores(msgspec.Struct, frozen=True):
    """What both models made of n tokens, [n] each: KL divergences, and -log p of the right token.

    Everything in nats.
    """

    kld: NDArray[np.float64]
    nll_reference: NDArray[np.float64]
    nll_model: NDArray[np.float64]
    same_top: NDArray[np.bool_]


def score(
    expected: NDArray[np.float32], found: NDArray[np.float32], targets: Sequence[int]
) -> Scores:
    """Compare logits, float32 [n, n_vocab] of the reference and of a model, row by row."""
    import numpy as np

    from engine._native import compare_logits

    n = len(targets)
    scores = Scores(np.empty(n), np.empty(n), np.empty(n), np.empty(n, dtype=np.bool_))
    compare_logits(
        expected,
        found,
        np.array(targets, dtype=np.int32),
        scores.kld,
        scores.nll_reference,
        scores.nll_model,
        scores.same_top,
    )
    return scores


def summarize(parts: Sequence[Scores], name: str, kv_type: KvType = "f16") -> QualityReport:
    """The figures over all `parts`; CorruptFile if the model called `name` computes NaN."""
    import numpy as np

    kld = np.concatenate([part.kld for part in parts])
    nll = np.concatenate([part.nll_model for part in parts])
    nll_reference = np.concatenate([part.nll_reference for part in parts])
    same_top = np.concatenate([part.same_top for part in parts])
    if not (np.isfinite(kld).all() and np.isfinite(nll).all()):
        raise CorruptFile(
            f"The predictions of {name} or of its reference are not numbers.",
            hint="Shrink the model again; if that does not help, get the original again.",
        )
    mean, perplexity = float(kld.mean()), float(np.exp(nll.mean()))
    perplexity_reference = float(np.exp(nll_reference.mean()))
    ratio = float(np.exp((nll - nll_reference).mean()))
    return QualityReport(
        kld_mean=mean,
        kld_mean_error=_error_of_mean(kld),
        kld_median=float(np.median(kld)),
        kld_p99=float(np.quantile(kld, 0.99)),
        kld_p999=float(np.quantile(kld, 0.999)),
        kld_max=float(kld.max()),
        same_top_fraction=float(same_top.mean()),
        same_top_error=_error_of_mean(same_top),
        perplexity=perplexity,
        perplexity_error=perplexity * _error_of_mean(nll),
        perplexity_reference=perplexity_reference,
        perplexity_reference_error=perplexity_reference * _error_of_mean(nll_reference),
        perplexity_ratio=ratio,
        perplexity_ratio_error=ratio * _error_of_mean(nll - nll_reference),
        n_tokens=len(kld),
        verdict=verdict(mean),
        kv_type=kv_type,
    )


def verdict(kld_mean: float) -> str:
    """Say in words what a mean KL divergence of `kld_mean` nats is like."""
    return next((words for limit, words in _VERDICTS if kld_mean < limit), _WORST)


def _error_of_mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float:
    """The standard error of the mean of `values`: their deviation by the root of n - 1."""
    return float(values.std() / max(1, len(values) - 1) ** 0.5)
