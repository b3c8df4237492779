"""What a model takes in memory, buffer by buffer, in llama.cpp's own words.

Of a context that is there (`memory_of`), or of one that would be (`Probe`): llama.cpp then reads
the header only and allocates nothing. Source: llama_get_memory_breakdown, llama.cpp/src/llama-ext.h
and common/fit.cpp.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import msgspec

from engine._native import memory_breakdown
from engine.errors import UnsupportedArchitecture
from engine.fit.estimate import Estimate
from engine.fit.run import MAIN_MEMORY, KvType, Need, Run
from engine.gguf_values import TensorInfo, Value
from engine.hardware import Device
from engine.llama.devices import use_devices
from engine.llama.experts import keep_experts
from engine.llama.library import library
from engine.llama.model import LOAD_MODE_NONE
from engine.skeleton import skeleton

log = logging.getLogger(__name__)

# The name that GCC and Clang give to llama_get_memory_breakdown(const llama_context *).
_FUNCTION = "_Z26llama_get_memory_breakdownPK13llama_context"

KV_TYPES: dict[KvType, int] = {"f16": 1, "q8_0": 8, "q4_0": 2}  # as ggml_type
_FLASH_ATTENTION_ON = 1
MOST_CELLS = 1 << 22
"""llama.cpp keeps some 50 bytes for each token of a context, also of one that it does not allocate:
beyond this many the question itself would take too much memory."""
IMPOSSIBLE = 1 << 62
"""More than any memory: what llama.cpp refuses fits nowhere."""


class ModelHeader(Protocol):
    """What is known of a model before its data."""

    @property
    def metadata(self) -> Mapping[str, Value]: ...
    @property
    def tensors(self) -> Sequence[TensorInfo]: ...


class BufferMemory(msgspec.Struct, frozen=True):
    """The bytes of one kind of buffer; `device` is where it lies, as ggml names it."""

    device: str
    buffer: str
    weights_bytes: int
    kv_bytes: int
    compute_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.compute_bytes

    @property
    def is_rearranged(self) -> bool:
        """It holds weights in another order than the file, as the CPU's kernels like it."""
        return self.buffer.startswith(("CPU_REPACK", "AMX", "CPU_KLEIDIAI"))


def memory_of(context: int) -> tuple[BufferMemory, ...]:
    """What the llama_context at the address `context` takes; empty if this build does not tell."""
    lib = library()
    try:
        function = ctypes.cast(getattr(lib.c._lib, _FUNCTION), ctypes.c_void_p).value
    except AttributeError:
        return ()
    assert function is not None
    name = lib.function("ggml_backend_buft_name", ctypes.c_char_p, ctypes.c_void_p)
    device_of = lib.function("ggml_backend_buft_get_device", ctypes.c_void_p, ctypes.c_void_p)
    device_name = lib.function("ggml_backend_dev_name", ctypes.c_char_p, ctypes.c_void_p)
    is_host = lib.function("ggml_backend_buft_is_host", ctypes.c_bool, ctypes.c_void_p)
    found = []
    for buffer, *sizes in memory_breakdown(function, context):
        device = device_of(buffer)
        # A GPU's "host" buffers lie in main memory, where it can fetch them.
        in_main_memory = is_host(buffer) or not device
        where = MAIN_MEMORY if in_main_memory else device_name(device).decode()
        found.append(BufferMemory(where, name(buffer).decode(), *sizes))
    return tuple(found)


def set_kv_type(params: Any, kv_type: KvType) -> None:
    """Ask in llama_context_params for a cache of this type."""
    params.type_k = params.type_v = KV_TYPES[kv_type]
    if kv_type != "f16":
        params.flash_attn_type = _FLASH_ATTENTION_ON  # a quantized V needs it


class Probe:
    """A model that is not loaded: asks llama.cpp what its contexts would take."""

    def __init__(self, path: Path, n_gpu_layers: int = 0, n_cpu_experts: int = 0) -> None:
        """`path` may be a skeleton (engine/skeleton.py).

        Raises UnsupportedArchitecture for a model that this llama.cpp cannot make sense of.
        """
        self._library = library()
        self._c: Any = self._library.c
        params = self._c.llama_model_default_params()
        params.no_alloc = True
        params.load_mode = LOAD_MODE_NONE
        params.n_gpu_layers = n_gpu_layers
        self._overrides = keep_experts(params, n_cpu_experts)
        self._devices = use_devices(params)
        self._library.log_lines.clear()
        with self._library.at_risk() if n_gpu_layers else nullcontext():
            self._model = self._c.llama_model_load_from_file(os.fsencode(path), params) or 0
        if not self._model:
            raise UnsupportedArchitecture(
                "llama.cpp cannot make sense of this model.",
                hint="Update Snug, or choose another model.",
                details="\n".join(self._library.log_lines),
            )

    def memory(
        self, n_ctx: int, kv_type: KvType = "f16", n_ubatch: int = 512
    ) -> tuple[BufferMemory, ...] | None:
        """What a context of `n_ctx` tokens would take besides; None if llama.cpp refuses it."""
        params = self._c.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_ubatch = n_ubatch
        params.n_outputs_max = 1
        params.n_threads = params.n_threads_batch = 1
        params.no_perf = True
        set_kv_type(params, kv_type)
        with self._library.at_risk():  # devices without a layer are prepared too
            context = self._c.llama_init_from_model(self._model, params)
            if not context:
                return None
            try:
                return memory_of(context)
            finally:
                self._c.llama_free(context)

    def close(self) -> None:
        if self._model:
            self._c.llama_model_free(self._model)
            self._model = 0


class Probes:
    """What each device would hold of a model here, as llama.cpp says; else as `estimate` does.

    For a model whose header lies at `path`, which may be a skeleton. `close` after use.
    """

    def __init__(self, path: Path | None, estimate: Estimate, n_ubatch: int = 512) -> None:
        self._path = path
        self._estimate = estimate
        self._n_ubatch = n_ubatch
        self._probes: dict[tuple[int, int], Probe] = {}

    def needs(self, run: Run, gpus: Sequence[Device]) -> tuple[Need, ...]:
        """What main memory holds, then each of `gpus`."""
        estimated = self._estimate.needs(run, gpus)
        buffers = self._buffers(run)
        if buffers is None:  # a cache type that does not suit the model, say
            return tuple(msgspec.structs.replace(need, kv_bytes=IMPOSSIBLE) for need in estimated)
        if not buffers:
            return estimated
        return tuple(_need(need, buffers) for need in estimated)

    def is_rearranged(self, run: Run) -> bool:
        """Whether the CPU's kernels would make a copy of weights to their liking."""
        return any(
            buffer.is_rearranged and buffer.weights_bytes for buffer in self._buffers(run) or ()
        )

    def _buffers(self, run: Run) -> tuple[BufferMemory, ...] | None:
        """What llama.cpp says; None if it refuses, empty where it cannot be asked."""
        if self._path is None or run.n_ctx > MOST_CELLS:
            return ()
        placed = (run.n_gpu_layers, run.n_cpu_experts)
        try:
            if placed not in self._probes:
                self._probes[placed] = Probe(self._path, *placed)
            return self._probes[placed].memory(run.n_ctx, run.kv_type, self._n_ubatch)
        except UnsupportedArchitecture:
            return ()

    def close(self) -> None:
        for probe in self._probes.values():
            probe.close()
        self._probes.clear()


@contextmanager
def probes_of(file: ModelHeader, estimate: Estimate, n_ubatch: int = 512) -> Iterator[Probes]:
    """Probes of `file`, by a skeleton of it; by `estimate` alone where none can be written."""
    with contextlib.ExitStack() as stack:
        path = None
        try:
            path = stack.enter_context(skeleton(file.metadata, file.tensors))
        except OSError as error:
            log.warning("no skeleton, so the memory is estimated: %s", error)
        probes = Probes(path, estimate, n_ubatch)
        stack.callback(probes.close)
        yield probes


def _need(estimated: Need, buffers: tuple[BufferMemory, ...]) -> Need:
    held = [buffer for buffer in buffers if buffer.device == estimated.device]
    return Need(
        device=estimated.device,
        weights_bytes=sum(buffer.weights_bytes for buffer in held),
        kv_bytes=sum(buffer.kv_bytes for buffer in held),
        compute_bytes=sum(buffer.compute_bytes for buffer in held),
        runtime_bytes=estimated.runtime_bytes,
    )
