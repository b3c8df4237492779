"""The job that judges a shrunk model: how like the original it still is, on a text and on probes.

The definitions of `llama-perplexity --kl-divergence`, but the original's probabilities are not
rounded. docs/quality.md tells what each figure means.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import ClassVar

import msgspec

from engine.fit.run import KvType
from engine.jobs import Job, Step
from engine.quantize.figures import QualityReport


class Quality(Job, frozen=True):
    """Compare the GGUF `model` with the GGUF `reference` it was made from, on the file `text`.

    The text is read in chunks of `n_ctx` tokens, of each the second half is scored; `chunks` 0 is
    the whole text. `kv_type` is that of the model's KV cache; the reference's is F16. `probes`
    asks both the questions of resources/probes, too. Raises as `Reference.open` and `compare`.
    """

    Result: ClassVar = QualityReport

    model: str
    reference: str
    text: str
    chunks: int = 0
    n_ctx: int = 512
    kv_type: KvType = "f16"
    probes: bool = False

    def run(self) -> Generator[Step, None, QualityReport]:
        from engine.quantize.reference import Reference

        # One model only: there is nothing to keep for the next.
        reference = yield from Reference.open(
            self.reference, self.text, self.chunks, self.n_ctx, most_kept_bytes=0
        )
        try:
            report = yield from reference.compare(self.model, self.kv_type)
            if self.probes:
                probes = yield from reference.probe(self.model, self.kv_type)
                report = msgspec.structs.replace(report, probes=probes)
            return report
        finally:
            reference.close()
