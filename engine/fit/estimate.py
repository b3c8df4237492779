"""What each device would hold of a model, from its header: the sums that llama.cpp makes.

Where llama.cpp itself can be asked its answer is used instead (engine/llama/memory.py); this is for
computers that are not here, and for models that it does not know. Placement as in llama.cpp's
llama_model_base::load_tensors: layers go to the devices in order, in proportion to free memory.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

import msgspec

from engine.fit.memory import CPU_RUNTIME_BYTES, MIB
from engine.fit.run import KV_BITS, MAIN_MEMORY, Need, Run
from engine.fit.shape import CELLS, Shape
from engine.gguf_values import TensorInfo, Value
from engine.hardware import Device

GPU_RUNTIME_BYTES = 600 * MIB  # a CUDA or Metal context and its pools: 300 to 600 MiB
_LAYER = re.compile(r"blk\.(\d+)\.")


class Estimate(msgspec.Struct, frozen=True, gc=False):
    """A model's shape and the bytes of its weights: of each layer without and with its experts.

    `input_bytes` is what looks tokens up, `output_bytes` what is no part of a layer besides, and
    `tied_bytes` the copy of the input that a device makes which computes the output with it.
    """

    shape: Shape
    dense: tuple[int, ...]
    experts: tuple[int, ...]
    input_bytes: int
    output_bytes: int
    tied_bytes: int
    n_experts: int
    """In each layer; each token is sent to `n_experts_used` of them."""
    n_experts_used: int

    @staticmethod
    def of(metadata: Mapping[str, Value], tensors: Sequence[TensorInfo]) -> Estimate:
        """Raises CorruptFile for sizes that are no sizes."""
        shape = Shape.from_metadata(metadata)
        dense, experts = [0] * shape.n_layers, [0] * shape.n_layers
        input_bytes = output_bytes = 0
        for tensor in tensors:
            found = _LAYER.match(tensor.name)
            if found and int(found[1]) < shape.n_layers:
                of = experts if "_exps." in tensor.name else dense
                of[int(found[1])] += tensor.n_bytes
            elif tensor.name.startswith(("token_embd", "position_embd", "token_types")):
                input_bytes += tensor.n_bytes
            else:
                output_bytes += tensor.n_bytes
        is_tied = not any(tensor.name == "output.weight" for tensor in tensors)
        return Estimate(
            shape,
            tuple(dense),
            tuple(experts),
            input_bytes,
            output_bytes,
            input_bytes if is_tied else 0,
            *_experts(metadata),
        )

    @property
    def n_layers(self) -> int:
        return self.shape.n_layers

    @property
    def weights_bytes(self) -> int:
        return sum(self.dense) + sum(self.experts) + self.input_bytes + self.output_bytes

    @property
    def active_bytes(self) -> int:
        """The weights that one token needs: of the experts those that it is sent to."""
        experts = sum(self.experts) * self.n_experts_used // max(1, self.n_experts)
        return sum(self.dense) + experts + self.output_bytes + self.tied_bytes

    @property
    def has_experts(self) -> bool:
        return any(self.experts)

    def needs(self, run: Run, gpus: Sequence[Device] = ()) -> tuple[Need, ...]:
        """What main memory holds, then each of `gpus`."""
        weights = dict.fromkeys([MAIN_MEMORY, *(gpu.name for gpu in gpus)], 0)
        kv = dict.fromkeys(weights, 0)
        *layers, last = self._places(run, gpus)
        kv_bytes = self._kv_bytes(run)
        for layer, place in enumerate(layers):
            stays = layer < run.n_cpu_experts
            weights[place] += self.dense[layer]
            weights[MAIN_MEMORY if stays else place] += self.experts[layer]
            kv[place] += kv_bytes
        weights[MAIN_MEMORY] += self.input_bytes
        weights[last] += self.output_bytes + (self.tied_bytes if last != MAIN_MEMORY else 0)
        compute = self.shape.compute_bytes(run.n_ctx)
        return tuple(
            Need(
                place,
                weights[place],
                kv[place],
                compute if weights[place] else 0,
                _runtime_bytes(place, weights[place]),
            )
            for place in weights
        )

    def _places(self, run: Run, gpus: Sequence[Device]) -> list[str]:
        """Where each layer lies; the one after the last is the output."""
        n_on_gpus = min(run.n_gpu_layers, self.n_layers + 1) if gpus else 0
        free_bytes = max(1, sum(gpu.memory_free_bytes for gpu in gpus))
        ends = list(accumulate(gpu.memory_free_bytes / free_bytes for gpu in gpus))
        places = [MAIN_MEMORY] * (self.n_layers + 1 - n_on_gpus)
        for layer in range(n_on_gpus):
            at = bisect_right(ends, layer / n_on_gpus)
            places.append(gpus[min(at, len(gpus) - 1)].name)
        return places

    def _kv_bytes(self, run: Run) -> int:
        """Of one layer."""
        cells = -(-run.n_ctx // CELLS) * CELLS
        numbers = self.shape.n_kv_heads * (self.shape.head_dim_k + self.shape.head_dim_v)
        return int(cells * numbers * KV_BITS[run.kv_type] / 8)


def _experts(metadata: Mapping[str, Value]) -> tuple[int, int]:
    """How many there are in a layer, and how many a token is sent to."""
    found = metadata.get("general.architecture")
    keys = (f"{found.value if found else ''}.expert_{which}" for which in ("count", "used_count"))
    counts = [metadata[key].value if key in metadata else 0 for key in keys]
    n, n_used = (count if type(count) is int and count >= 0 else 0 for count in counts)
    return n, min(n, n_used)


def _runtime_bytes(place: str, weights_bytes: int) -> int:
    if place == MAIN_MEMORY:
        return CPU_RUNTIME_BYTES
    return GPU_RUNTIME_BYTES if weights_bytes else 0
