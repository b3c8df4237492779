"""How a model is run, and what each device then holds."""

from __future__ import annotations

from typing import Literal

import msgspec

KvType = Literal["f16", "q8_0", "q4_0"]
KV_BITS: dict[KvType, float] = {"f16": 16, "q8_0": 8.5, "q4_0": 4.5}
MAIN_MEMORY = "CPU"
"""What ggml calls the device whose memory is the computer's own."""


class Run(msgspec.Struct, frozen=True):
    """What can be set to make a model fit.

    `n_gpu_layers` counts from the last layer back, the output being one more, as llama.cpp does;
    `n_cpu_experts` is the number of layers, from the first, whose experts stay in main memory.
    """

    n_ctx: int
    kv_type: KvType = "f16"
    n_gpu_layers: int = 0
    n_cpu_experts: int = 0


class Need(msgspec.Struct, frozen=True):
    """What one device holds of a running model, in bytes; `runtime_bytes` is the backend's own."""

    device: str
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int
    runtime_bytes: int = 0

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.compute_bytes + self.runtime_bytes
