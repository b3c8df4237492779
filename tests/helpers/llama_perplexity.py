"""llama-perplexity's own arithmetic, down to the 16 bits that its base file has for each token.

After llama.cpp, tools/perplexity/perplexity.cpp: what differs from Snug's figures is this rounding.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.jobs import finish
from engine.llama.evaluate import Evaluator

Figures = dict[str, float]

LOWEST = np.float32(16)  # below the likeliest token; less likely ones are stored as if so likely

_PRINTED = {
    "Mean PPL(Q)": "perplexity",
    "Mean PPL(base)": "perplexity_reference",
    "Mean    KLD": "kld_mean",
    "Median  KLD": "kld_median",
    "99.0%   KLD": "kld_p99",
    "99.9%   KLD": "kld_p999",
    "Maximum KLD": "kld_max",
    "Same top p": "same_top_fraction",
}


def printed_figures(output: str) -> Figures:
    """The figures at the end of what `llama-perplexity --kl-divergence` prints, by our names."""
    figures = {}
    for words, name in _PRINTED.items():
        found = re.search(rf"^{re.escape(words)} *: *(\S+)(?: ± +(\S+))?", output, re.MULTILINE)
        if found:
            scale = 100 if name == "same_top_fraction" else 1
            figures[name] = float(found[1].rstrip("%")) / scale
            if found[2]:
                figures[f"{name.removesuffix('_fraction')}_error"] = float(found[2]) / scale
    return figures


def rounded_base_figures(
    reference: Path, model: Path, text: str, chunks: int, n_ctx: int = 512
) -> Figures:
    """The figures that llama-perplexity prints, computed as it computes them."""
    a, b = (finish(Evaluator.load(path, n_ctx)) for path in (reference, model))
    parts: list[list[NDArray[np.float64]]] = [[], [], [], []]
    tokens = a.tokenize(text)
    for start in range(0, chunks * n_ctx, n_ctx):
        chunk = tokens[start : start + n_ctx]
        p, logits = _rounded_log_probs(a.logits(chunk)), np.array(b.logits(chunk))
        q = logits - logits.max(axis=1, keepdims=True) - _log_sum(logits)
        rows, targets = np.arange(len(p)), list(a.targets(chunk))
        kld = np.where(p > -LOWEST, np.exp(p) * (p - q), 0).astype(np.float64).sum(axis=1)
        same = (p.argmax(axis=1) == logits.argmax(axis=1)).astype(np.float64)
        for part, values in zip(
            parts, (kld, -p[rows, targets], -q[rows, targets], same), strict=True
        ):
            part.append(values.astype(np.float64))
    a.close()
    b.close()
    klds, nll_reference, nll, same = map(np.concatenate, parts)
    perplexity, perplexity_reference = np.exp(nll.mean()), np.exp(nll_reference.mean())
    return {
        "kld_mean": klds.mean(),
        "kld_mean_error": _error(klds),
        "kld_median": float(np.median(klds)),
        "kld_p99": _percentile(klds, 0.99),
        "kld_p999": _percentile(klds, 0.999),
        "kld_max": klds.max(),
        "same_top_fraction": same.mean(),
        "same_top_error": _error(same),
        "perplexity": perplexity,
        "perplexity_error": perplexity * _error(nll),
        "perplexity_reference": perplexity_reference,
        "perplexity_reference_error": perplexity_reference * _error(nll_reference),
    }


def _rounded_log_probs(logits: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Log-probabilities as the base file gives them back, float32 [n, n_vocab]."""
    x = np.array(logits, dtype=np.float32)
    largest = x.max(axis=1, keepdims=True)
    least = np.maximum(x.min(axis=1, keepdims=True), largest - LOWEST)
    scale = (largest - least) / np.float32(65535)
    codes = np.where(x > least, np.rint((x - least) * (1 / scale)), 0).astype(np.float32)
    rounded: NDArray[np.float32] = scale * codes + (least - largest - _log_sum(x))
    return rounded


def _log_sum(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logarithm of what the probabilities are divided by, the largest logit being 0."""
    terms = np.exp(logits - logits.max(axis=1, keepdims=True)).astype(np.float64)
    log_sum: NDArray[np.float32] = np.log(terms.sum(axis=1, keepdims=True)).astype(np.float32)
    return log_sum


def _percentile(values: NDArray[np.float64], fraction: float) -> float:
    """Between the two nearest values; where, is computed in 32 bits."""
    ordered = np.sort(values.astype(np.float32))
    at = np.float32(fraction) * np.float32(len(ordered) - 1)
    index = int(at)
    rest = at - np.float32(index)
    return float((1 - rest) * ordered[index] + rest * ordered[min(index + 1, len(ordered) - 1)])


def _error(values: NDArray[np.float64]) -> float:
    return float(values.std() / (len(values) - 1) ** 0.5)
